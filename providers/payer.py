"""Paying for samples: reserve, hold a permit, ask (again), settle. Nothing here knows of caches."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal

from db.errors import ColonnadeError, ConfigError
from providers.base import Completion, Message, Reply, Sampling, Transport, Usage, WireRequest
from providers.budget import Amount, Budget, Reservation
from providers.caps import Charge
from providers.endpoints import Endpoint
from providers.errors import ConnectionFailed, ContentFiltered, ProviderError
from providers.flights import Flight
from providers.keys import RequestDigest, sample_seed
from providers.limiters import tokens_asked
from providers.models import ModelSpec
from providers.notices import log_retry
from providers.prices import cost
from providers.replicas import Answered, Replica, Route
from providers.retry import is_uncertain
from providers.scoring import ScoreKind, measure
from providers.tally import Tally
from providers.telemetry import attempt as attempt_span

__all__ = ["Meter", "Paid", "Payer", "Question", "Unpaid", "require_price"]

_BYTES_PER_MESSAGE = 16
"""Upper bound of the tokens that a chat template adds to a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request with its endpoint and its defaults applied, hashed."""

    endpoint: Endpoint
    messages: tuple[Message, ...]
    sampling: Sampling
    continue_final: bool
    digest: RequestDigest
    affinity: str = ""
    """Calls of one affinity share prompts, so they go to one replica where that is not busy; the item's id."""
    score: ScoreKind | None = None
    """A score of the messages is wanted, not an answer to them."""
    charge: Charge
    """Whose call it is, for the accounts of the budget."""

    async def put(self, transport: Transport, wire: WireRequest) -> Reply:
        """Ask it of a transport."""
        if self.score is None:
            return await transport.complete(wire)
        return await measure(transport, wire, self.score, api=self.endpoint.spec.api)


@dataclass(frozen=True, slots=True)
class Paid:
    """A sample that came."""

    index: int
    completion: Completion
    cost: Decimal | None
    latency_s: float
    served_model: str | None


@dataclass(frozen=True, slots=True)
class Unpaid:
    """A sample that did not come."""

    index: int
    error: ColonnadeError
    billed: Usage | None = None
    """What a provider counted for an answer that it withheld."""
    cost: Decimal | None = None


class Meter:
    """What went over the wire since the gateway opened."""

    __slots__ = ("failures", "requests", "retries", "tally", "uncertain")

    def __init__(self) -> None:
        self.tally = Tally()
        self.requests = 0
        self.retries = 0
        self.failures = 0
        self.uncertain = 0
        """Attempts that broke off, so that nobody knows what the provider billed for them."""


class Payer:
    """Asks endpoints within a budget."""

    def __init__(self, budget: Budget | None, meter: Meter) -> None:
        self._budget = budget
        self._meter = meter

    async def pay(
        self, question: Question, indices: tuple[int, ...], keys: tuple[str, ...], flight: Flight
    ) -> list[Paid | Unpaid]:
        """Ask for samples in one request; the outcomes are those of the first indices, at least one.

        `flight` begins when the request first goes out. Never raises a `ColonnadeError`, which becomes the outcome of
        every index.
        """
        reservation: Reservation | None = None
        try:
            if self._budget is not None:
                worst = self._worst_case(question, len(indices))
                reservation = await self._budget.reserve(worst, question.charge)
            answered = await self._ask(question, indices, keys, flight)
        except ColonnadeError as error:
            self._meter.failures += len(indices)
            self._release(reservation)
            # A failure is kept with its item; its frames, which hold the whole request, are not.
            error.with_traceback(None)
            return [Unpaid(index, error) for index in indices]
        except BaseException:
            self._release(reservation)
            raise
        _learn(question.endpoint, asked=len(indices), came=len(answered.reply.completions))
        return self._settle(question, indices, answered, reservation)

    def _release(self, reservation: Reservation | None) -> None:
        if self._budget is not None and reservation is not None:
            self._budget.release(reservation)

    def _settle(
        self,
        question: Question,
        indices: tuple[int, ...],
        answered: Answered,
        reservation: Reservation | None,
    ) -> list[Paid | Unpaid]:
        price, reply = question.endpoint.spec.price, answered.reply
        rent = None if answered.rent is None else answered.rent / len(reply.completions)
        outcomes: list[Paid | Unpaid] = []
        total = Amount()
        for index, completion in zip(indices, reply.completions, strict=False):
            usage = completion.usage
            dollars = rent if price is None else cost(usage, price)
            total = total.plus(Amount(dollars or Decimal(0), usage.prompt_tokens + usage.completion_tokens, 1))
            self._meter.tally.add(usage, dollars, paid=True)
            withheld = _withheld(question, completion)
            if withheld is None:
                outcomes.append(Paid(index, completion, dollars, answered.latency_s, reply.served_model))
            else:
                self._meter.failures += 1
                outcomes.append(Unpaid(index, withheld, usage, dollars))
        if self._budget is not None and reservation is not None:
            self._budget.settle(reservation, total)
        return outcomes

    async def _ask(
        self, question: Question, indices: tuple[int, ...], keys: tuple[str, ...], flight: Flight
    ) -> Answered:
        endpoint = question.endpoint
        wire = WireRequest(
            model=endpoint.spec.model,
            messages=question.messages,
            sampling=question.sampling,
            indices=indices,
            seeds=tuple(sample_seed(key) for key in keys),
            continue_final=question.continue_final,
            timeout_s=endpoint.spec.limits.timeout_s,
        )
        route = Route(endpoint.pool, question.affinity)
        waited_s, attempt = 0.0, 0
        while True:
            attempt += 1
            try:
                return await self._attempt(question, route, wire, attempt, flight)
            except ProviderError as error:
                self._meter.uncertain += is_uncertain(error)
                wait = endpoint.retry.wait(error, attempt=attempt, waited_s=waited_s)
                if wait is None:
                    error.attempts = attempt
                    raise
                wait = route.pause(wait)
                log_retry(endpoint.spec.name, error, attempt=attempt, wait_s=wait)
            self._meter.retries += 1
            waited_s += wait
            await asyncio.sleep(wait)

    async def _attempt(
        self, question: Question, route: Route, wire: WireRequest, number: int, flight: Flight
    ) -> Answered:
        spec = question.endpoint.spec
        while True:
            replica = route.next()
            limiter = replica.limiter_of(spec.model)
            tokens = _most_tokens(question, len(wire.indices)) if limiter.counts_tokens else 0
            replica.load += 1
            try:
                async with limiter.permit(run=question.charge.run_id, tokens=tokens) as permit:
                    if route.lost():
                        permit.settle(0)
                        continue
                    self._meter.requests += 1
                    flight.begin()
                    scores = question.score is not None
                    with attempt_span(spec, wire, number=number, address=replica.name, scores=scores) as span:
                        answered = await self._answered(question, replica, wire)
                        span.answered(answered.reply, rent=answered.rent)
                        permit.settle(_used(answered.reply))
                        return answered
            finally:
                replica.load -= 1

    async def _answered(self, question: Question, replica: Replica, wire: WireRequest) -> Answered:
        try:
            return await replica.call(
                lambda transport: question.put(transport, wire), samples=len(wire.indices), timeout_s=wire.timeout_s
            )
        except asyncio.CancelledError:
            self._meter.uncertain += question.endpoint.spec.hosted
            raise

    def _worst_case(self, question: Question, n: int) -> Amount:
        """Return the most that n samples can cost; raises `ConfigError` where a cap cannot be held."""
        budget, spec = self._budget, question.endpoint.spec
        if budget is None or not any(budget.caps(question.charge)):
            return Amount(calls=n)
        prompt = question.endpoint.transport.count_tokens(question.messages)
        if prompt is None:
            prompt = sum(len(message.content.encode()) + _BYTES_PER_MESSAGE for message in question.messages)
        completion = question.sampling.max_tokens or spec.max_output or spec.context
        if completion is None:
            raise ConfigError(
                f"A budget needs a bound on the answers of '{spec.name}'; give max_tokens, in the node or under "
                f"'defaults' in models.yaml."
            )
        require_price(spec, budget, question.charge)
        dollars = spec.dearest_request or cost(Usage(prompt, n * completion), spec.price)
        return Amount(dollars or Decimal(0), prompt + n * completion, n)


def require_price(spec: ModelSpec, budget: Budget | None, charge: Charge) -> None:
    """See that a cap in dollars can be held for a model; raises `ConfigError` where its price is unknown."""
    if budget is not None and budget.caps(charge).dollars and not spec.priced:
        raise ConfigError(
            f"A budget in dollars needs the price of '{spec.name}', which is unknown; give it in models.yaml as "
            f"price: {{prompt: …, completion: …}} in dollars per million tokens or usd_per_hour: …, or cap tokens or "
            f"calls instead."
        )


def _learn(endpoint: Endpoint, *, asked: int, came: int) -> None:
    """Stop asking for several at once where a server has only ever given one (Ollama overlooks `n`)."""
    if asked > 1 and came >= asked:
        endpoint.many_proven = True
    elif asked > 1 and came == 1 and not endpoint.many_proven:
        endpoint.many = False


def _most_tokens(question: Question, n: int) -> int:
    return tokens_asked(question.endpoint.spec, question.messages, question.sampling.max_tokens, n)


def _used(reply: Reply) -> int:
    return sum(one.usage.prompt_tokens + one.usage.completion_tokens for one in reply.completions)


def _withheld(question: Question, completion: Completion) -> ProviderError | None:
    name = question.endpoint.spec.name
    if completion.finish_reason == "content_filter":
        return ContentFiltered(f"The provider of '{name}' withheld the answer (content filter).")
    if completion.finish_reason == "cancelled":
        return ConnectionFailed(f"The model '{name}' was stopped before its answer was complete.")
    return None
