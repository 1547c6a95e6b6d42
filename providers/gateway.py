"""The gateway: every call to a model passes here, is paid at most once, and is durable before it is used.

request → key → cache (memory, database, then Redis if there) → coalesce with an identical call in flight, in this
        process or another → reserve budget → permit → transport, with retries → settle → commit → result
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from types import TracebackType
from typing import Literal, Self

from db.calls import CallStore
from db.errors import ColonnadeError, UserError
from providers.base import Asked, Request, Sample
from providers.book import ModelBook
from providers.bookkeeper import Bookkeeper
from providers.budget import Budget
from providers.caps import Charge
from providers.codec import Stored, as_record, from_record
from providers.endpoints import Endpoint, Endpoints
from providers.errors import AuthError, ProviderError
from providers.flights import Flights
from providers.keys import digest_request, sample_key
from providers.memory import Memory
from providers.models import ModelSpec
from providers.payer import Meter, Paid, Payer, Question, Unpaid, require_price
from providers.preflight import preflight
from providers.redis_link import RedisLink
from providers.replicas import ReplicaStatus
from providers.scope import Scope
from providers.scoring import SCORED, Score, ScoreRequest, as_score
from providers.shared_cache import Hot, SharedCache, oldest_of
from providers.tally import Totals
from providers.telemetry import handed_out_cached

__all__ = ["CacheMode", "Gateway", "GatewayStatus"]

CacheMode = Literal["off", "on", "read-only", "refresh"]
"""on: read and write. off: neither. refresh: pay anew and replace what is stored. read-only: read, write nothing."""

_Outcome = Stored | ColonnadeError
_LOOK_S = (0.01, 0.25)
"""Seconds between two looks for a sample that another process is paying for: the first, and the longest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatus:
    """A snapshot for progress displays; counts since the gateway was opened."""

    in_flight: int
    """Requests that are out now."""
    paid: Totals
    """Samples that were paid, with their tokens and dollars."""
    cached_calls: int
    """Samples that were handed out and cost nothing."""
    requests: int
    """Attempts over the wire."""
    retries: int
    failures: int
    """Samples that did not come, after all retries."""
    uncertain: int
    """Attempts that broke off (timeout, reset, cancelled), so that what was billed for them is not known."""
    interrupted: int
    """Samples that a killed process of the same run had sent for and not stored: they may have been billed too."""
    budget_dollars: Decimal | None
    reserved_dollars: Decimal
    replicas: tuple[ReplicaStatus, ...] = ()
    """The endpoints that were used, by address: whether they answer, how busy they are."""


class Gateway:
    """The one way to models; an async context manager that belongs to one event loop.

    `store` None keeps nothing beyond memory. Transports are made at first use and live as long as the gateway; the
    store, the budget, the shared cache and the link stay open when the gateway closes. With a link to Redis, the limits
    of endpoints are kept together with the other processes that use it.
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
    ) -> None:
        self._store = store
        self._shared = None if cache == "off" else shared
        self._books = Bookkeeper(store)
        self._budget = budget
        self._endpoints = Endpoints(book, link)
        self._meter = Meter()
        self._payer = Payer(budget, self._meter)
        self._memory = Memory()
        self._flights = Flights(store.database if store is not None else None)
        self._flying: dict[str, asyncio.Future[_Outcome]] = {}
        self._cached = 0
        self._refreshed: set[str] = set()
        self._cache: CacheMode = cache

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
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
            require_price(endpoint.spec, self._budget, Charge(key=endpoint.key_label))
        await preflight(endpoints)

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

    async def ask(self, request: Request, n: int = 1, *, scope: Scope, node: str, first: int | None = None) -> Asked:
        """Return n samples of a request, from the cache or paid, in index order, and the errors of those that failed.

        The indices are taken before the first await; `first` names the first one instead of taking the next. Raises
        `AuthError`, `BudgetExceeded` and `UserError`s, but only after what else was under way has been kept.
        """
        question = self._question(request, scope)
        digest = question.digest
        indices = scope.take(digest.hash, n) if first is None else range(first, first + n)
        keyed = {index: sample_key(digest, index) for index in indices}
        outcomes = await self._collect(question, keyed, scope, node)
        samples: list[Sample] = []
        failures: list[ProviderError] = []
        fatal: ColonnadeError | None = None
        for index in indices:
            outcome = outcomes[index]
            if isinstance(outcome, Stored):
                sample = _sample(outcome, request.model, index, scope)
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

    async def score(self, request: ScoreRequest, *, scope: Scope, node: str) -> Score:
        """Return a score of given text, from the cache or paid; see `providers.scoring`.

        Raises the `ProviderError` with which it failed, `BudgetExceeded`, and `UserError`s.
        """
        question = self._scored(request, scope)
        key = sample_key(question.digest, 0)
        outcome = (await self._collect(question, {0: key}, scope, node))[0]
        if not isinstance(outcome, Stored):
            if isinstance(outcome, ProviderError):
                scope.fail(node, outcome)
            raise outcome
        sample = _sample(outcome, request.model, 0, scope)
        scope.use(node, sample)
        return as_score(sample)

    def _scored(self, request: ScoreRequest, scope: Scope) -> Question:
        endpoint = self._endpoints.of(request.model)
        digest = digest_request(
            identity=endpoint.identity,
            messages=request.messages,
            sampling=SCORED,
            fresh=scope.fresh,
            extra=endpoint.extra,
            score=request.kind,
        )
        return Question(
            endpoint=endpoint,
            messages=request.messages,
            sampling=SCORED,
            continue_final=False,
            digest=digest,
            affinity=scope.item_id,
            charge=Charge(scope.run_id, endpoint.key_label),
            score=request.kind,
        )

    def _question(self, request: Request, scope: Scope) -> Question:
        endpoint = self._endpoints.of(request.model)
        sampling = endpoint.sampling(request.sampling)
        if request.continue_final:
            endpoint.require("prefix_continuation")
        digest = digest_request(
            identity=endpoint.identity,
            messages=request.messages,
            sampling=sampling,
            continue_final=request.continue_final,
            fresh=scope.fresh,
            extra=endpoint.extra,
        )
        if sampling.seed is not None and not endpoint.spec.capabilities.seed:
            # It stays in the key, so that seeds keep their samples apart, but an endpoint without seeds is not sent it.
            sampling = replace(sampling, seed=None)
        return Question(
            endpoint=endpoint,
            messages=request.messages,
            sampling=sampling,
            continue_final=request.continue_final,
            digest=digest,
            affinity=scope.item_id,
            charge=Charge(scope.run_id, endpoint.key_label),
        )

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
        missing = dict(keyed)
        readable = self._readable(keyed)
        if self._store is not None and readable:
            for key, record in (await self._store.find(readable)).items():
                self._cached += 1
                self._resolve(from_record(record))
                missing = {index: other for index, other in missing.items() if other != key}
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
                    await self._take_over(question, hot, shared.home, node)
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
            if again and self._store is not None:
                for key, record in (await self._store.find(list(mine.values()))).items():
                    self._cached += 1
                    self._resolve(from_record(record))
                    missing = {index: other for index, other in missing.items() if other != key}
            if missing:
                await self._buy(question, missing, scope, node)
        finally:
            shared.release(mine.values())

    async def _take_over(self, question: Question, hot: Mapping[int, Hot], home: str, node: str) -> None:
        """Use samples of the hot cache; those that only another database holds are stored in ours first."""
        foreign = {index: one for index, one in hot.items() if one.home != home}
        if foreign and self._store is not None and self._cache == "on":
            await self._store.put(
                [
                    as_record(
                        one.stored,
                        identity=question.endpoint.identity,
                        alias=question.endpoint.spec.name,
                        node=node,
                        index=index,
                        request=question.digest.payload.decode(),
                        served=None,
                        created_at=one.created_at,
                    )
                    for index, one in foreign.items()
                ]
            )
        for one in hot.values():
            self._cached += 1
            self._resolve(one.stored)

    def _readable(self, keyed: Mapping[int, str]) -> list[str]:
        if self._cache == "off":
            return []
        if self._cache == "refresh":
            return [key for key in keyed.values() if key in self._refreshed]
        return list(keyed.values())

    async def _buy(self, question: Question, missing: Mapping[int, str], scope: Scope, node: str) -> None:
        groups = _groups(question, sorted(missing))
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
            outcomes = await self._payer.pay(question, tuple(indices), tuple(keys[index] for index in indices), flight)
            payer = (scope.run_id, scope.item_id)
            bought = [outcome for outcome in outcomes if isinstance(outcome, Paid)]
            failed = [outcome for outcome in outcomes if isinstance(outcome, Unpaid)]
            try:
                samples = await self._commit(question, bought, keys, payer, node)
                for stored in samples:
                    self._resolve(stored)
                if self._shared is not None and self._cache != "read-only":
                    self._shared.land(samples)
                await self._books.failed(question, failed, item_id=scope.item_id, node=node)
                for outcome in failed:
                    self._flying[keys[outcome.index]].set_result(outcome.error)
            except ColonnadeError as error:
                for index in indices[: len(outcomes)]:
                    future = self._flying[keys[index]]
                    if not future.done():
                        future.set_result(error)
        rest = {index: keys[index] for index in indices[len(outcomes) :]}
        if rest:
            await self._buy(question, rest, scope, node)

    async def _commit(
        self, question: Question, bought: Sequence[Paid], keys: Mapping[int, str], payer: tuple[str, str], node: str
    ) -> list[Stored]:
        """Make samples durable; where another process was first, its samples stand in place of ours."""
        samples = [
            Stored(
                key=keys[paid.index],
                completion=paid.completion,
                cost=paid.cost,
                latency_s=paid.latency_s,
                payer=payer,
            )
            for paid in bought
        ]
        if self._store is None or not samples:
            return samples
        if self._cache in ("off", "read-only"):
            await self._books.not_kept(question, bought)
            return samples
        endpoint, request = question.endpoint, question.digest.payload.decode()
        records = [
            as_record(
                stored,
                identity=endpoint.identity,
                alias=endpoint.spec.name,
                node=node,
                index=paid.index,
                request=request,
                served=paid.served_model,
                key_label=question.charge.key or None,
            )
            for stored, paid in zip(samples, bought, strict=True)
        ]
        standing = await self._store.put(records, replace=self._cache == "refresh")
        if self._cache == "refresh":
            self._refreshed.update(record.key for record in records)
        if not standing:
            return samples
        await self._books.not_kept(question, [paid for paid in bought if keys[paid.index] in standing])
        return [
            replace(from_record(standing[stored.key]), payer=payer) if stored.key in standing else stored
            for stored in samples
        ]

    def _resolve(self, stored: Stored) -> None:
        if self._cache != "off":
            self._memory.put(stored)
        self._flying[stored.key].set_result(stored)


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


def _groups(question: Question, indices: Sequence[int]) -> list[list[int]]:
    """Divide indices into requests: one with n = k where the endpoint can, else one each.

    With a seed only neighbours go together, since a server draws the samples of one request from seed, seed + 1, …
    """
    endpoint: Endpoint = question.endpoint
    if not endpoint.many:
        return [[index] for index in indices]
    groups: list[list[int]] = []
    for index in indices:
        near = groups and (question.sampling.seed is None or index == groups[-1][-1] + 1)
        if near and len(groups[-1]) < endpoint.spec.limits.max_n:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups
