"""Paying for samples: reserve, hold a permit, ask (again), settle. Nothing here knows of caches."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from db.errors import ColonnadeError, ConfigError
from providers.base import Completion, Progress, Reply, Usage, WireRequest
from providers.budget import Amount, Budget, Reservation
from providers.caps import Charge
from providers.errors import ConnectionFailed, ContentFiltered, ProviderError
from providers.flights import Flight
from providers.limiters import tokens_asked
from providers.limits import Permit
from providers.models import ModelSpec
from providers.notices import log_retry
from providers.prices import cost
from providers.question import Bill, Question
from providers.replicas import Answered, Replica, Route
from providers.retry import is_uncertain
from providers.tally import Tally
from providers.telemetry import Attempt
from providers.telemetry import attempt as attempt_span

if TYPE_CHECKING:
    from providers.batching import Collector

__all__ = ["Meter", "Paid", "Payer", "Unpaid", "require_price"]

_BYTES_PER_MESSAGE = 16
"""Upper bound of the tokens that a chat template adds to a message."""


@dataclass(frozen=True, slots=True)
class Paid:
    """A sample that came."""

    index: int
    completion: Completion
    cost: Decimal | None
    latency_s: float
    served_model: str | None
    batched: bool = False
    """It came by a batch, which is billed once however often its results are read."""

    @property
    def billed(self) -> Usage:
        """What its provider counted."""
        return self.completion.usage


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
        """Attempts that broke off or were cancelled, so that nobody knows what the provider billed for them."""


class Payer:
    """Asks endpoints within a budget; through a collector, where there is one, those that have a batch API."""

    def __init__(self, budget: Budget | None, meter: Meter, collector: Collector | None = None) -> None:
        self._budget = budget
        self._meter = meter
        self._collector = collector

    async def pay(
        self, question: Question, indices: tuple[int, ...], keys: tuple[str, ...], flight: Flight
    ) -> list[Paid | Unpaid]:
        """Ask for samples in one request; the outcomes are those of the first indices, at least one.

        `flight` begins when the request first goes out. Never raises a `ColonnadeError`, which becomes the outcome of
        every index.
        """
        reservation: Reservation | None = None
        wire = question.wire(indices, keys)
        try:
            if self._budget is not None:
                worst = self._worst_case(question, wire)
                reservation = await self._budget.reserve(worst, question.charge)
            gathered, moved = None, False
            if self._collector is not None and self._collector.takes(question):
                gathered = await self._collector.ask(question, wire, keys)
                moved = gathered is None
            answered = await self._ask(question, wire, flight) if gathered is None else gathered.answered
        except ColonnadeError as error:
            self._meter.failures += len(indices)
            self._release(reservation)
            # A failure is kept with its item; its frames, which hold the whole request, are not.
            error.with_traceback(None)
            return [Unpaid(index, error) for index in indices]
        except asyncio.CancelledError:
            self._cut(question, wire.progress, reservation)
            raise
        except BaseException:
            self._release(reservation)
            raise
        asked = len(indices) if gathered is None else gathered.asked
        question.learn(asked=asked, came=len(answered.reply.completions))
        outcomes = self._settle(question, indices, answered, reservation, batched=gathered is not None)
        if moved and self._collector is not None:
            self._collector.moved(question, outcomes)
        return outcomes

    def _release(self, reservation: Reservation | None) -> None:
        if self._budget is not None and reservation is not None:
            self._budget.release(reservation)

    def _cut(self, question: Question, progress: Progress | None, reservation: Reservation | None) -> None:
        """Settle a request that was cancelled to what is known to be billed for it; where nothing is, release it."""
        bill = _bill(question, progress)
        if bill is None or question.race is None:
            self._release(reservation)
            return
        self._meter.tally.cut(bill.usage, bill.cost)
        question.race.cut.append(bill)
        if self._budget is not None and reservation is not None:
            tokens = bill.usage.prompt_tokens + bill.usage.completion_tokens
            self._budget.settle(reservation, Amount(bill.cost or Decimal(0), tokens, 1))

    def _settle(
        self,
        question: Question,
        indices: tuple[int, ...],
        answered: Answered,
        reservation: Reservation | None,
        *,
        batched: bool = False,
    ) -> list[Paid | Unpaid]:
        price, reply = question.endpoint.spec.price, answered.reply
        rent = None if answered.rent is None else answered.rent / len(reply.completions)
        outcomes: list[Paid | Unpaid] = []
        total = Amount()
        for index, completion in zip(indices, reply.completions, strict=False):
            usage = completion.usage
            dollars = rent if price is None else cost(usage, price)
            if batched and self._collector is not None:
                dollars = self._collector.discounted(question, usage, dollars)
            total = total.plus(Amount(dollars or Decimal(0), usage.prompt_tokens + usage.completion_tokens, 1))
            self._meter.tally.add(usage, dollars, paid=True)
            withheld = _withheld(question, completion)
            if withheld is None:
                served = reply.served_model
                outcomes.append(Paid(index, completion, dollars, answered.latency_s, served, batched))
            else:
                self._meter.failures += 1
                outcomes.append(Unpaid(index, withheld, usage, dollars))
        if self._budget is not None and reservation is not None:
            self._budget.settle(reservation, total)
        return outcomes

    async def _ask(self, question: Question, wire: WireRequest, flight: Flight) -> Answered:
        endpoint = question.endpoint
        route = Route(endpoint.pool, question.affinity)
        waited_s, attempt = 0.0, 0
        while True:
            attempt += 1
            try:
                return await self._attempt(question, route, wire, attempt, flight)
            except ProviderError as error:
                self._meter.uncertain += is_uncertain(error)
                if wire.progress is not None:
                    wire.progress.forget()
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
            tokens = _most_tokens(question, wire) if limiter.counts_tokens else 0
            replica.load += 1
            try:
                async with limiter.permit(run=question.charge.run_id, tokens=tokens) as permit:
                    if route.lost():
                        permit.settle(0)
                        continue
                    self._meter.requests += 1
                    flight.begin()
                    asked = question.operation
                    with attempt_span(spec, wire, number=number, address=replica.name, asked=asked) as span:
                        answered = await self._answered(question, replica, wire, (span, permit))
                        span.answered(answered.reply, rent=answered.rent)
                        permit.settle(_used(answered.reply))
                        return answered
            finally:
                replica.load -= 1

    async def _answered(
        self, question: Question, replica: Replica, wire: WireRequest, told: tuple[Attempt, Permit]
    ) -> Answered:
        """Ask a replica; where that is cancelled, say what is known to be billed."""
        try:
            return await replica.call(
                lambda transport: question.put(transport, wire),
                samples=len(wire.indices),
                timeout_s=wire.timeout_s,
                progress=wire.progress,
            )
        except asyncio.CancelledError:
            bill = _bill(question, wire.progress)
            if bill is None:
                self._meter.uncertain += question.endpoint.spec.hosted
            else:
                span, permit = told
                span.cancelled(bill.usage, bill.cost)
                permit.settle(bill.usage.prompt_tokens + bill.usage.completion_tokens)
            raise

    def _worst_case(self, question: Question, wire: WireRequest) -> Amount:
        """Return the most that a request can cost; raises `ConfigError` where a cap cannot be held."""
        budget, spec, n = self._budget, question.endpoint.spec, len(wire.indices)
        if budget is None or not any(budget.caps(question.charge)):
            return Amount(calls=n)
        prompt = question.endpoint.transport.count_tokens(wire.messages)
        if prompt is None:
            prompt = sum(len(message.content.encode()) + _BYTES_PER_MESSAGE for message in wire.messages)
        completion = question.longest
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


def _bill(question: Question, progress: Progress | None) -> Bill | None:
    """Return what is known to be billed for a request that was cancelled; None: nothing is known."""
    if progress is None or (progress.usage is None and progress.rent is None):
        return None
    usage, price = progress.usage or Usage(0, 0, 0, True), question.endpoint.spec.price
    return Bill(usage, progress.rent if price is None else cost(usage, price))


def _most_tokens(question: Question, wire: WireRequest) -> int:
    most = 0 if question.longest == 0 else question.sampling.max_tokens
    return tokens_asked(question.endpoint.spec, wire.messages, most, len(wire.indices))


def _used(reply: Reply) -> int:
    return sum(one.usage.prompt_tokens + one.usage.completion_tokens for one in reply.completions)


def _withheld(question: Question, completion: Completion) -> ProviderError | None:
    name = question.endpoint.spec.name
    if completion.finish_reason == "content_filter":
        return ContentFiltered(f"The provider of '{name}' withheld the answer (content filter).")
    if completion.finish_reason == "cancelled":
        return ConnectionFailed(f"The model '{name}' was stopped before its answer was complete.")
    return None
