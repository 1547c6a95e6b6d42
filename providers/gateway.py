"""The gateway: every call to a model passes here, is paid at most once, and is durable before it is used.

request → key → cache (memory, database, then Redis if there) → coalesce with an identical call in flight, in this
        process or another → reserve budget → permit → transport, with retries → settle → commit → result
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Self

from db.calls import CallStore
from db.errors import ColonnadeError, UserError
from providers.base import Asked, Request, Sample
from providers.book import ModelBook
from providers.bookkeeper import Bookkeeper
from providers.budget import Budget
from providers.caps import Charge
from providers.codec import Stored
from providers.embedding import Embedded, EmbedRequest, as_embedded
from providers.endpoints import Endpoints
from providers.errors import AuthError, ProviderError
from providers.finish import to_the_end
from providers.flights import Flights
from providers.keeper import CacheMode, Keeper
from providers.keys import sample_key
from providers.memory import Memory
from providers.models import ModelSpec
from providers.payer import Meter, Paid, Payer, Unpaid, require_price
from providers.preflight import preflight
from providers.question import Question, Race, answer_question, embed_question, score_question
from providers.redis_link import RedisLink
from providers.scope import Cut, Scope
from providers.scoring import Score, ScoreRequest, as_score
from providers.shared_cache import SharedCache, oldest_of
from providers.status import GatewayStatus
from providers.telemetry import handed_out_cached
from providers.turns import ModelTurns

if TYPE_CHECKING:
    from providers.batching import Batching, Collector

__all__ = ["CacheMode", "Gateway", "GatewayStatus"]

_Outcome = Stored | ColonnadeError
_LOOK_S = (0.01, 0.25)
"""Seconds between two looks for a sample that another process is paying for: the first, and the longest."""


class Gateway:
    """The one way to models; an async context manager that belongs to one event loop.

    `store` None keeps nothing beyond memory. Transports are made at first use and live as long as the gateway; the
    store, the budget, the shared cache and the link stay open when the gateway closes. With a link to Redis, the limits
    of endpoints are kept together with the other processes that use it. With `batching`, which needs a store, calls to
    models that have a batch API go through it; with `turns`, models are asked one after the other.
    """

    def __init__(
        self,
        book: ModelBook,
        store: CallStore | None,
        *,
        budget: Budget | None = None,
        cache: CacheMode = "on",
        shared: SharedCache | None = None,
        link: RedisLink | None = None,
        batching: Batching | None = None,
        turns: ModelTurns | None = None,
    ) -> None:
        self._store = store
        self._shared = None if cache == "off" else shared
        self._books = Bookkeeper(store)
        self._budget = budget
        self._endpoints = Endpoints(book, link)
        self._meter = Meter()
        self._collector = None if batching is None else _collector(batching, book, self._endpoints, store, cache)
        self._payer = Payer(budget, self._meter, self._collector)
        self._turns = turns
        self._memory = Memory()
        self._flights = Flights(store.database if store is not None else None)
        self._flying: dict[str, asyncio.Future[_Outcome]] = {}
        self._cached = 0
        self._cache: CacheMode = cache
        self._keeper = Keeper(store, cache, self._books)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            if self._collector is not None:
                await self._collector.aclose()
        finally:
            try:
                await self._endpoints.aclose()
            finally:
                self._flights.close()

    def spec(self, model: str) -> ModelSpec:
        """Return what is known of a model; raises `ConfigError` for an unknown one."""
        return self._endpoints.spec(model)

    def identity(self, model: str) -> str:
        """Return what stands for a model in the keys of its samples; for embedded models it has their weights in it."""
        return self._endpoints.of(model).identity

    async def preflight(self, models: Iterable[str]) -> None:
        """See that every model can be paid, reached and is served; raises `ConfigError` in one sentence."""
        endpoints = [self._endpoints.of(model) for model in dict.fromkeys(models)]
        for endpoint in endpoints:
            # A run of any name, so that caps on runs count.
            require_price(endpoint.spec, self._budget, Charge(run_id="-", key=endpoint.key_label))
        await preflight(endpoints)

    @property
    def budget(self) -> Budget | None:
        """What holds the caps; None where nothing is capped."""
        return self._budget

    @property
    def turns(self) -> ModelTurns | None:
        """The turns of models; None where calls to all of them go out together."""
        return self._turns

    @property
    def collector(self) -> Collector | None:
        """What gathers calls for batch APIs, with its report; None where batching is off."""
        return self._collector

    def status(self) -> GatewayStatus:
        """Return the counts so far."""
        meter, budget = self._meter, self._budget
        return GatewayStatus(
            in_flight=self._endpoints.in_flight,
            paid=meter.tally.totals(),
            cached_calls=self._cached,
            requests=meter.requests,
            retries=meter.retries,
            failures=meter.failures,
            uncertain=meter.uncertain,
            interrupted=self._flights.interrupted,
            budget_dollars=budget.dollars if budget else None,
            reserved_dollars=budget.reserved.dollars if budget else Decimal(0),
            replicas=self._endpoints.status(),
        )

    async def ask(
        self,
        request: Request,
        n: int = 1,
        *,
        scope: Scope,
        node: str,
        first: int | None = None,
        cancellable: bool = False,
    ) -> Asked:
        """Return n samples of a request, from the cache or paid, in index order, and the errors of those that failed.

        The indices are taken before the first await; `first` names the first one instead of taking the next. Raises
        `AuthError`, `BudgetExceeded` and `UserError`s, but only after what else was under way has been kept.

        `cancellable` is for samples of which some will be cancelled: each goes out as a request of its own, streamed
        where the endpoint can, and cancelling this call settles what had come by then, which takes up to a second or
        so. It is counted in the scope (`Scope.cut`) and in no cache; what an endpoint does not tell is `uncertain`.
        """
        race = Race() if cancellable else None
        question = answer_question(self._endpoints.of(request.model), request, scope, node, race)
        digest = question.digest
        indices = scope.take(digest.hash, n) if first is None else range(first, first + n)
        keyed = {index: sample_key(digest, index) for index in indices}
        try:
            outcomes = await self._collect(question, keyed, scope, node)
        except asyncio.CancelledError:
            await self._given_up(question, scope, node)
            raise
        return self._asked(question, outcomes, scope, node)

    async def stored(self, request: Request, n: int = 1, *, scope: Scope, first: int = 0) -> frozenset[int]:
        """Return which of the indices first, …, first + n - 1 have a sample in the cache; asks and takes nothing."""
        question = answer_question(self._endpoints.of(request.model), request, scope, "", None)
        keyed = {index: sample_key(question.digest, index) for index in range(first, first + n)}
        here = {index for index, key in keyed.items() if self._memory.get(key) is not None}
        found = await self._keeper.find(key for index, key in keyed.items() if index not in here)
        return frozenset(here | {index for index, key in keyed.items() if key in found})

    def _asked(self, question: Question, outcomes: Mapping[int, _Outcome], scope: Scope, node: str) -> Asked:
        """Count what came in the scope; raises what ends a run."""
        name = question.endpoint.spec.name
        samples: list[Sample] = []
        failures: list[ProviderError] = []
        fatal: ColonnadeError | None = None
        for index in sorted(outcomes):
            outcome = outcomes[index]
            if isinstance(outcome, Stored):
                sample = _sample(outcome, name, question.number(index), scope)
                scope.use(node, sample)
                samples.append(sample)
            elif isinstance(outcome, ProviderError) and not isinstance(outcome, AuthError):
                scope.fail(node, outcome)
                failures.append(outcome)
            elif fatal is None or isinstance(outcome, UserError):
                fatal = outcome
        cached = [sample for sample in samples if sample.cached]
        if cached:
            handed_out_cached(question.endpoint.spec, cached)
        if fatal is not None:
            raise fatal
        return Asked(tuple(samples), tuple(failures))

    async def _given_up(self, question: Question, scope: Scope, node: str) -> None:
        """Count what was paid for a caller who was cancelled."""
        race, name = question.race, question.endpoint.spec.name
        if race is None:
            return
        for bill in race.cut:
            scope.cut(Cut(node, name, bill.usage, bill.cost))
        for stored in race.bought:
            # It came and is kept; whoever asks for it in this scope later finds it in the cache.
            if scope.claims(stored.key, stored.payer):
                scope.cut(Cut(node, name, stored.completion.usage, stored.cost))
                self._meter.tally.cancelled += 1
        await self._books.cut(question, race.cut)

    async def score(self, request: ScoreRequest, *, scope: Scope, node: str) -> Score:
        """Return a score of given text, from the cache or paid; see `providers.scoring`.

        Raises the `ProviderError` with which it failed, `BudgetExceeded`, and `UserError`s.
        """
        question = score_question(self._endpoints.of(request.model), request, scope, node)
        outcomes = await self._collect(question, {0: sample_key(question.digest, 0)}, scope, node)
        return as_score(_all(self._asked(question, outcomes, scope, node))[0])

    async def embed(self, request: EmbedRequest, *, scope: Scope, node: str) -> Embedded:
        """Return the vectors of texts, from the cache or paid; see `providers.embedding`.

        Raises `ConfigError` where the endpoint gives none, the `ProviderError` with which a text failed,
        `BudgetExceeded`, and `UserError`s; the vectors that came are kept all the same.
        """
        texts = list(dict.fromkeys(request.texts))
        if not texts:
            return as_embedded(())
        question = embed_question(self._endpoints.of(request.model), texts, scope, node)
        keyed = {place: sample_key(digest, 0) for place, digest in enumerate(question.digests)}
        outcomes = await self._collect(question, keyed, scope, node)
        samples = dict(zip(texts, _all(self._asked(question, outcomes, scope, node)), strict=True))
        return as_embedded([samples[text] for text in request.texts])

    async def _collect(
        self, question: Question, keyed: Mapping[int, str], scope: Scope, node: str
    ) -> dict[int, _Outcome]:
        """Get every sample from memory, from an identical call in flight, or by obtaining it."""
        found: dict[int, _Outcome] = {}
        wanted = dict(keyed)
        while wanted:
            mine: dict[int, asyncio.Future[_Outcome]] = {}
            theirs: dict[int, asyncio.Future[_Outcome]] = {}
            for index, key in wanted.items():
                hit = self._memory.get(key)
                if hit is not None:
                    self._cached += 1
                    found[index] = hit
                elif key in self._flying:
                    theirs[index] = self._flying[key]
                else:
                    mine[index] = self._flying[key] = asyncio.get_running_loop().create_future()
            if mine:
                try:
                    await self._obtain(question, {index: keyed[index] for index in mine}, scope, node)
                finally:
                    self._land(keyed, mine)
            if theirs:
                await asyncio.wait(theirs.values())
            for index, future in (mine | theirs).items():
                # One that was given up (its caller was cancelled) is asked for again, by us.
                if not future.cancelled():
                    found[index] = future.result()
                    self._cached += index in theirs
            wanted = {index: key for index, key in wanted.items() if index not in found}
        return found

    def _land(self, keyed: Mapping[int, str], mine: Mapping[int, asyncio.Future[_Outcome]]) -> None:
        for index, future in mine.items():
            del self._flying[keyed[index]]
            if not future.done():
                future.cancel()

    async def _obtain(self, question: Question, keyed: Mapping[int, str], scope: Scope, node: str) -> None:
        """Resolve the future of every index, from the store or by paying."""
        found = await self._keeper.find(keyed.values())
        self._found(found.values())
        missing = {index: key for index, key in keyed.items() if key not in found}
        if missing and self._shared is not None and self._cache != "refresh":
            await self._buy_once(self._shared, question, missing, scope, node)
        elif missing:
            await self._buy(question, missing, scope, node)

    async def _buy_once(
        self, shared: SharedCache, question: Question, missing: Mapping[int, str], scope: Scope, node: str
    ) -> None:
        """Pay for what no other process has or is paying for; wait for the rest, and pay for it where they fail."""
        wanted = dict(missing)
        oldest = oldest_of(self._store.expiry if self._store is not None else None)
        pause_s, again = _LOOK_S[0], False
        async with asyncio.TaskGroup() as tasks:
            while wanted:
                claim = await shared.claim(list(wanted.values()), oldest=oldest, lock=self._cache == "on")
                hot = {index: claim.found[key] for index, key in wanted.items() if key in claim.found}
                if hot:
                    # Those that only another database holds are stored in ours before they are used.
                    foreign = {index: one for index, one in hot.items() if one.home != shared.home}
                    await self._keeper.take_over(question, foreign)
                    self._found(one.stored for one in hot.values())
                mine = {index: key for index, key in wanted.items() if key in claim.mine}
                if mine:
                    tasks.create_task(self._buy_claimed(shared, question, mine, scope, node, again=again))
                wanted = {index: key for index, key in wanted.items() if index not in hot and index not in mine}
                if wanted:
                    await asyncio.sleep(pause_s)
                    pause_s, again = min(2 * pause_s, _LOOK_S[1]), True

    async def _buy_claimed(
        self,
        shared: SharedCache,
        question: Question,
        mine: Mapping[int, str],
        scope: Scope,
        node: str,
        *,
        again: bool,
    ) -> None:
        """Buy what is locked for us; `again` says that another had the lock before and may have stored a sample."""
        missing = dict(mine)
        try:
            if again:
                found = await self._keeper.find(mine.values())
                self._found(found.values())
                missing = {index: key for index, key in mine.items() if key not in found}
            if missing:
                await self._buy(question, missing, scope, node)
        finally:
            shared.release(mine.values())

    async def _buy(self, question: Question, missing: Mapping[int, str], scope: Scope, node: str) -> None:
        groups = question.groups(sorted(missing))
        if len(groups) == 1:
            await self._buy_group(question, groups[0], missing, scope, node)
            return
        async with asyncio.TaskGroup() as tasks:
            for group in groups:
                tasks.create_task(self._buy_group(question, group, missing, scope, node))

    async def _buy_group(
        self, question: Question, indices: Sequence[int], keys: Mapping[int, str], scope: Scope, node: str
    ) -> None:
        with self._flights.flight(scope.run_id, len(indices)) as flight:
            async with nullcontext() if self._turns is None else self._turns.of(question.endpoint.identity):
                keys_asked = tuple(keys[index] for index in indices)
                outcomes = await self._payer.pay(question, tuple(indices), keys_asked, flight)
            keeping = self._keep(question, outcomes, keys, scope, node)
            # What was paid is kept before its caller may go, so that it can say what became of it.
            await (keeping if question.race is None else to_the_end(keeping))
        rest = {index: keys[index] for index in indices[len(outcomes) :]}
        if rest:
            await self._buy(question, rest, scope, node)

    async def _keep(
        self,
        question: Question,
        outcomes: Sequence[Paid | Unpaid],
        keys: Mapping[int, str],
        scope: Scope,
        node: str,
    ) -> None:
        """Store what came of a request, write down what did not come, and resolve the future of each."""
        payer = (scope.run_id, scope.item_id)
        bought = [outcome for outcome in outcomes if isinstance(outcome, Paid)]
        failed = [outcome for outcome in outcomes if isinstance(outcome, Unpaid)]
        try:
            samples = await self._keeper.keep(question, bought, keys, payer)
            if question.race is not None:
                question.race.bought += samples
            for stored in samples:
                self._resolve(stored)
            if self._shared is not None and self._cache != "read-only":
                self._shared.land(samples)
            await self._books.failed(question, failed, item_id=scope.item_id, node=node)
            for unpaid in failed:
                self._flying[keys[unpaid.index]].set_result(unpaid.error)
            if self._collector is not None and self._collector.takes(question):
                await self._collector.kept(question, [keys[outcome.index] for outcome in outcomes])
        except ColonnadeError as error:
            for outcome in outcomes:
                future = self._flying[keys[outcome.index]]
                if not future.done():
                    future.set_result(error)

    def _found(self, samples: Iterable[Stored]) -> None:
        for stored in samples:
            self._cached += 1
            self._resolve(stored)

    def _resolve(self, stored: Stored) -> None:
        if self._cache != "off":
            self._memory.put(stored)
        self._flying[stored.key].set_result(stored)


def _collector(
    batching: Batching, book: ModelBook, endpoints: Endpoints, store: CallStore | None, cache: CacheMode
) -> Collector:
    from providers.batching import Collector

    if store is None:
        raise ValueError("batches need a store, in which they are found again")
    return Collector(batching, book, endpoints, store, keep=cache in ("on", "refresh"), look=cache == "on")


def _sample(stored: Stored, alias: str, index: int, scope: Scope) -> Sample:
    return Sample(
        key=stored.key,
        model=alias,
        index=index,
        completion=stored.completion,
        cached=not scope.claims(stored.key, stored.payer),
        cost=stored.cost,
        latency_s=stored.latency_s,
    )


def _all(asked: Asked) -> tuple[Sample, ...]:
    """Return all samples; raises the error of the first one that did not come."""
    if asked.failures:
        raise asked.failures[0]
    return asked.samples
