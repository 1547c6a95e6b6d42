"""What is asked of one model at one batch API: requests that wait, and batches that are out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from db.batches import BatchCall, BatchRecord
from providers.base import Message, Reply, Sampling, WireRequest
from providers.batching.base import BatchApi
from providers.models import BatchSettings
from providers.replicas import Answered

if TYPE_CHECKING:
    from providers.endpoints import Endpoint
    from providers.question import Question

__all__ = ["Gathered", "Lane", "Out", "Spot", "Waiter", "Wanted", "cut", "reply_part"]

_LAST = 3
"""Batches from which it is judged how long the next one takes."""


class Gathered(NamedTuple):
    """What a batch brought for a request; the samples are those of its first indices."""

    answered: Answered
    asked: int
    """Samples that the line in the batch asked for; the answer may hold fewer."""


@dataclass(slots=True, eq=False, kw_only=True)
class Wanted:
    """A request that waits for a batch; its future brings None where it is to be asked at once instead."""

    question: Question
    wire: WireRequest
    keys: tuple[str, ...]
    tokens: int
    """That it may use, prompt and answers together."""
    size: int
    """Bytes of its line, roughly."""
    future: asyncio.Future[Gathered | None]
    attempts: int = 0
    """Batches that it was in before."""

    def trimmed(self, n: int) -> None:
        """Want the first n samples only; whoever asked comes again for the rest."""
        if n < len(self.keys):
            self.keys = self.keys[:n]
            self.wire = replace(self.wire, indices=self.wire.indices[:n], seeds=self.wire.seeds[:n])


class Spot(NamedTuple):
    """Where a sample stands."""

    out: Out
    line: int
    place: int


class Waiter(NamedTuple):
    """A request that takes samples of a line, from a place on."""

    wanted: Wanted
    place: int


@dataclass(slots=True, eq=False, kw_only=True)
class Out:
    """A batch that is claimed, submitted or found again."""

    record: BatchRecord
    calls: dict[int, list[BatchCall]]
    """By line; those that are still to come."""
    waiters: dict[int, list[Waiter]] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)
    """When it was submitted, or found again."""
    carried: bool = False
    """Whether a task looks after it."""
    pulled: bool = False
    """Whether it was cancelled."""
    taken: set[str] = field(default_factory=set)
    """The keys of samples that were handed out."""
    again: list[Wanted] = field(default_factory=list)
    """Requests that it brought nothing for that can be used."""
    excluded: set[str] = field(default_factory=set)
    """Ids of batches that were taken for it and are not."""

    @property
    def mark(self) -> str:
        """Our name for it."""
        return self.record.mark

    @property
    def age_s(self) -> float:
        """Seconds since it was submitted or found again."""
        return time.monotonic() - self.since

    def waiting(self) -> list[Wanted]:
        """Return the requests that nobody has answered or given up, and let go of them."""
        left = [*self.again, *(waiter.wanted for line in self.waiters.values() for waiter in line)]
        self.waiters.clear()
        self.again.clear()
        return [wanted for wanted in left if not wanted.future.done()]

    def request_of(self, line: int) -> WireRequest:
        """Return a request of a line by what is stored of it, enough to read its answer by."""
        import orjson

        calls = self.calls[line]
        payload = orjson.loads(calls[0].request)
        return WireRequest(
            model="",
            messages=tuple(Message(role, content) for role, content in payload["messages"]),
            sampling=Sampling(top_logprobs=payload.get("sampling", {}).get("top_logprobs")),
            indices=tuple(range(max(call.place for call in calls) + 1)),
            seeds=(),
        )


@dataclass(slots=True, eq=False, kw_only=True)
class Lane:
    """One model at one batch API, with one account."""

    endpoint: Endpoint
    settings: BatchSettings
    api: BatchApi
    place: str
    waiting: list[Wanted] = field(default_factory=list)
    standing: dict[str, Spot] = field(default_factory=dict)
    """By key, every sample that is in a batch and not stored yet."""
    outs: dict[str, Out] = field(default_factory=dict)
    """By mark."""
    limit: int | None = None
    """Tokens that may be queued at once."""
    queued: int = 0
    """Tokens that are queued by this process."""
    took_s: list[float] = field(default_factory=list)
    """Of the last batches."""
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def add(self, out: Out) -> None:
        """Know a batch and where its samples stand."""
        self.outs[out.mark] = out
        for line, calls in out.calls.items():
            for call in calls:
                self.standing[call.key] = Spot(out, line, call.place)

    def forget(self, keys: Iterable[str]) -> None:
        """Know no longer where samples stand."""
        for key in keys:
            spot = self.standing.pop(key, None)
            if spot is not None:
                calls = spot.out.calls.get(spot.line, [])
                spot.out.calls[spot.line] = [call for call in calls if call.key != key]

    def attach(self, wanted: Wanted) -> Out | None:
        """Let a request wait for the batch in which its first sample stands; None where it stands in none."""
        spots = [self.standing.get(key) for key in wanted.keys]
        first = spots[0]
        if first is None:
            wanted.trimmed(next((n for n, spot in enumerate(spots) if spot is not None), len(spots)))
            return None
        near = [Spot(first.out, first.line, first.place + n) for n in range(len(spots))]
        wanted.trimmed(next((n for n, spot in enumerate(spots) if spot != near[n]), len(spots)))
        first.out.waiters.setdefault(first.line, []).append(Waiter(wanted, first.place))
        return first.out

    def took(self, seconds: float) -> None:
        """Remember how long a batch took."""
        self.took_s = [*self.took_s, seconds][-_LAST:]

    def expected_s(self) -> float:
        """Return how long a batch takes that is submitted now, as far as one can tell: as the slowest of the last."""
        open_s = [out.age_s for out in self.outs.values() if out.carried and out.record.status == "open"]
        return max([*(self.took_s or [self.settings.expected_s]), *open_s])

    async def enter(self, tokens: int) -> None:
        """Wait until the provider has room for a batch; one that is alone always goes."""
        async with self.changed:
            await self.changed.wait_for(
                lambda: self.limit is None or not self.queued or self.queued + tokens <= self.limit
            )
            self.queued += tokens

    async def leave(self, tokens: int) -> None:
        """Give the room back."""
        async with self.changed:
            self.queued -= tokens
            self.changed.notify_all()

    def full(self, tokens: int) -> None:
        """Learn from a refusal how much the provider lets stand in its queue."""
        others = self.queued - tokens
        self.limit = max(1, others, tokens // 2)


def cut(wanted: Sequence[Wanted], settings: BatchSettings, tokens: int | None) -> Iterator[list[Wanted]]:
    """Divide requests by what one batch may hold: rows, bytes, and the tokens that may be queued; keeps the order."""
    group: list[Wanted] = []
    size = used = 0
    for one in wanted:
        full = len(group) >= settings.rows or size + one.size > settings.bytes
        if group and (full or (tokens is not None and used + one.tokens > tokens)):
            yield group
            group, size, used = [], 0, 0
        group.append(one)
        size += one.size
        used += one.tokens
    if group:
        yield group


def reply_part(reply: Reply, place: int, n: int) -> Reply | None:
    """Return n samples of a reply from a place on, or those that there are; None where there are none."""
    part = reply.completions[place : place + n]
    return replace(reply, completions=part) if part else None
