"""The limits of an endpoint over several processes, kept in Redis.

Each process leases permits: Redis says how many it may have out, and within that it hands them on from one request to
the next without asking. It asks again where it wants more, where others go without, to report refusals and growth,
and as a sign of life; a process that is silent for `LEASE_S` loses its lease. Where requests or tokens per minute are
limited, Redis hands out tickets, each with the moment from which it is good, so that nobody asks twice for one.

Where Redis does not answer, the limiter goes on with the limits of this process (the link says so), and comes back.
"""

from __future__ import annotations

import asyncio
import copy
import math
import os
import uuid
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import orjson

from providers.adaptive import CUT, LocalGovernor
from providers.limit_script import EXCHANGE
from providers.rates import SLICES, Bucket, Charge, RateLimits, Usual
from providers.redis_link import RedisAway, Script

if TYPE_CHECKING:
    from providers.limits import Limiter
    from providers.redis_link import RedisLink

__all__ = ["LEASE_S", "SharedGovernor"]

LEASE_S = 10.0
"""A process that has not been heard of for so long holds nothing any more."""
_SIGN_OF_LIFE_S = 0.5
"""How late a process with requests out hears of a cut or a pause that another one met."""
_LAZY_S = 0.5
_GROWTH_S = 0.1
_QUICK_S = 0.02
_LONGEST_WAIT_S, _LONGEST_IDLE_S = 0.25, 0.05
"""Between two questions for more permits: with some in hand, and with none."""
_RETRY_S = 1.0
_STALE_S = 1.0
_AHEAD_S = 0.1
_SCRIPT = Script(EXCHANGE)


class _Ticket(NamedTuple):
    good_at: float
    cost: float
    asked: int
    slice: int


class _Answer(NamedTuple):
    limit: int
    epoch: int
    gate: float
    quota: int
    held: int
    short: bool
    asked: bool
    slice: int
    tickets: list[float]


class SharedGovernor:
    """See `providers.limits.Governor`; `name` stands for the endpoint in Redis, `local` governs while Redis is away."""

    def __init__(
        self,
        link: RedisLink,
        name: str,
        ceiling: int,
        *,
        local: LocalGovernor,
        start: int | None = None,
        lease_s: float = LEASE_S,
    ) -> None:
        self.limit = 0
        self.total = min(ceiling, start or ceiling)
        self.epoch = 0
        self.exchanges = 0
        """Round trips so far."""
        self._link = link
        self._keys = [f"{link.prefix}limits:{name}:{part}" for part in ("state", "members", "window")]
        self._me = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._ceiling = ceiling
        self._start_at = self.total
        self._local = local
        self._lease_s = lease_s
        self._sign_s = min(_SIGN_OF_LIFE_S, lease_s / 4)
        self._obey(local.rates)
        self._limiter: Limiter | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False
        self._in_flight = self._waiting = 0
        self._quota = self._held = self._wanted = 0
        self._short = False
        self._last = -math.inf
        self._patience = _QUICK_S
        self._tickets: deque[_Ticket] = deque()
        self._usual = Usual()
        self._counts_asked = False
        self._head = 0
        self._priced = (0.0, 0)
        """What a ticket that was asked for last costs: usually, and at worst."""
        self._open = 0.0
        self._lessons = _Lessons()

    def bind(self, limiter: Limiter) -> None:
        """Name the limiter that is governed."""
        self._limiter = limiter
        self._local.bind(limiter)

    def delay(self, now: float, tokens: int) -> float:
        """Return the seconds until a ticket is good; infinite where there is none yet."""
        if not self._ticketed:
            return 0.0
        self._head = tokens
        tickets = self._tickets
        while tickets and tickets[0].good_at < now - _STALE_S:
            self._lessons.correct(tickets[0].slice, -tickets[0].cost, -tickets[0].asked)
            tickets.popleft()
        return max(0.0, tickets[0].good_at - now) if tickets else math.inf

    def take(self, now: float, tokens: int) -> Charge | None:
        """Use a ticket."""
        if not self._ticketed:
            return None
        ticket = self._tickets.popleft()
        if not self._tokens:
            return None
        cost = self._cost(tokens)
        self._lessons.correct(ticket.slice, cost - ticket.cost, tokens - ticket.asked)
        self._open += tokens - cost
        return Charge(cost, tokens, ticket.slice, self._counts_asked)

    def settle(self, charge: Charge | None, used: int | None) -> None:
        """Correct a request to its real usage."""
        if charge is None or not charge.asked:
            return
        self._open -= charge.asked - charge.tokens
        if used:
            self._usual.learn(charge.asked, used)
        if used is not None and not (charge.final and used):
            self._lessons.correct(charge.slice, used - charge.tokens, 0 if used else -charge.asked)

    def answered(self, epoch: int, *, full: bool) -> None:
        """Learn from an answer."""
        if full and not self._busy and epoch == self.epoch and self.total < self._ceiling:
            self._lessons.grown += 1

    def refused(self, now: float, epoch: int, charge: Charge | None, retry_after: float | None) -> None:
        """Tell all processes of a 429."""
        self._lessons.refused = max(self._lessons.refused, epoch)
        self.paused(retry_after or 0.0)

    def paused(self, retry_after: float) -> None:
        """Tell all processes of a pause."""
        self._lessons.pause = max(self._lessons.pause, retry_after)

    def note(self, now: float, in_flight: int, waiting: int) -> None:
        """Hear how many permits are out and how many requests wait, and ask Redis when that calls for it."""
        self._in_flight, self._waiting = in_flight, waiting
        if not self._busy:
            self._plan(now)

    @property
    def rates(self) -> RateLimits:
        """Requests and tokens that may go out in a window."""
        return self._local.rates

    def confine(self, ceiling: int, rates: RateLimits) -> None:
        """Lower the ceiling of the limit and the rates to these, where they are higher."""
        self._ceiling = min(self._ceiling, ceiling)
        self._start_at = min(self._start_at, ceiling)
        self.total = min(self.total, ceiling)
        self._local.confine(ceiling, rates)
        self._obey(self.rates)

    async def aclose(self) -> None:
        """Give the lease back and stop; raises what stopped the exchanges, if anything did."""
        self._disarm()
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and (failure := task.exception()) is not None:
            raise failure
        self._in_flight = self._waiting = 0
        if self._held or self._lessons:
            try:
                await self._exchange()
            except RedisAway:
                return

    def _obey(self, rates: RateLimits) -> None:
        self._ticketed = rates.any
        self._tokens = rates.tokens
        self._ahead = max(1, math.ceil(rates.requests / rates.window_s * _AHEAD_S)) if rates.requests else 1
        self._fixed = {"me": self._me, "ttl": self._lease_s, "cut": CUT, **_described(rates)}

    def _cost(self, asked: int) -> float:
        return float(asked) if self._counts_asked else self._usual.of(asked)

    def _wants_tickets(self) -> int:
        if not self._ticketed:
            return 0
        return max(0, min(self._waiting, self._ahead) - len(self._tickets))

    def _plan(self, now: float) -> None:
        """Set the moment of the next exchange."""
        at = self._next(now)
        if at == math.inf:
            return
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if self._task is None:
            self._task = self._loop.create_task(self._serve(), name="colonnade-limits")
        if at <= now:
            self._due.set()
        elif self._timer is None or self._timer.when() > at:
            self._disarm()
            self._timer = self._loop.call_at(at, self._ring)

    def _next(self, now: float) -> float:
        lessons = self._lessons
        if lessons.refused >= 0 or lessons.pause:
            return now
        if self._waiting and self._in_flight >= self._quota:
            if self._quota >= self._wanted:
                return now  # all that was wanted was given, and it is not enough
            longest = _GROWTH_S if lessons.grown else _LONGEST_WAIT_S if self._quota else _LONGEST_IDLE_S
            return self._last + min(self._patience, longest)
        if self._wants_tickets():
            return now
        if self._short and self._held > max(self._in_flight, self._quota if self._waiting else 0):
            return self._last + _QUICK_S
        if lessons.grown:
            return self._last + _GROWTH_S
        if lessons or (self._held and not self._in_flight and not self._waiting):
            return now + _LAZY_S
        return self._last + self._sign_s if self._held else math.inf

    def _ring(self) -> None:
        self._timer = None
        self._due.set()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _serve(self) -> None:
        limiter, loop = self._limiter, self._loop
        assert limiter is not None
        assert loop is not None
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                answer = await self._exchange()
            except RedisAway:
                answer = await self._alone(limiter)
            except Exception as error:
                limiter.fail(partial(copy.copy, error))
                raise
            self._apply(answer, limiter, loop.time())
            limiter.pump()

    async def _alone(self, limiter: Limiter) -> _Answer:
        """Let this process govern itself until Redis answers."""
        self._tickets.clear()
        self._local.adopt(self.total)
        limiter.govern(self._local, "local")
        while True:
            await asyncio.sleep(_RETRY_S)
            self._in_flight, self._waiting = limiter.in_flight, limiter.waiting
            try:
                answer = await self._exchange()
            except RedisAway:
                continue
            limiter.govern(self, "shared")
            return answer

    async def _exchange(self) -> _Answer:
        lessons, self._lessons = self._lessons, _Lessons()
        ask = self._ask(lessons)
        # What is not out now may be given to another process while this is on its way.
        self.limit, self._busy = min(self._quota, self._in_flight), True
        self._disarm()
        try:
            self.exchanges += 1
            reply = await self._link.run(_SCRIPT, self._keys, [orjson.dumps(ask)])
        except BaseException:
            self._lessons.again(lessons)
            raise
        finally:
            self._busy = False
        data = orjson.loads(reply if isinstance(reply, bytes) else b"")
        data["tickets"] = data["tickets"] or []
        return _Answer(**data)

    def _ask(self, lessons: _Lessons) -> dict[str, object]:
        demand = self._in_flight + self._waiting
        self._wanted = demand + demand // 4 + 1 if demand else 0
        self._priced = (self._usual.of(self._head), self._head) if self._tokens and self._head else (0.0, 0)
        return {
            **self._fixed,
            "start": self._start_at,
            "ceiling": self._ceiling,
            "in_flight": self._in_flight,
            "want": self._wanted,
            "grown": lessons.grown,
            "epoch": self.epoch,
            "refused": lessons.refused,
            "pause": lessons.pause,
            "tickets": self._wants_tickets(),
            "usual": self._priced[0],
            "worst": self._priced[1],
            "open": self._open,
            "corrections": [[number, *sums] for number, sums in lessons.corrections.items()],
        }

    def _apply(self, answer: _Answer, limiter: Limiter, now: float) -> None:
        known = self._last > -math.inf
        cut, changed = answer.epoch > self.epoch, answer.limit != self.total
        self.epoch, self.total = answer.epoch, answer.limit
        if not known:
            limiter.record(answer.limit, "shared")
        elif cut or changed:
            limiter.record(answer.limit, "cut" if cut else "growth")
        self._patience = _QUICK_S if answer.quota != self._quota else 2 * min(_LONGEST_WAIT_S, self._patience)
        self.limit = self._quota = answer.quota
        self._held, self._short, self._last = answer.held, answer.short, now
        self._counts_asked = answer.asked
        usual, asked = self._priced
        for delay in answer.tickets:
            cost = float(asked) if answer.asked else usual
            self._tickets.append(_Ticket(now + delay, cost, asked, answer.slice))
        if answer.gate:
            limiter.hold(answer.gate)


class _Lessons:
    """What Redis has not been told yet."""

    __slots__ = ("corrections", "grown", "pause", "refused")

    def __init__(self) -> None:
        self.grown = 0
        self.refused = -1
        """The newest epoch of a refused request; -1: none was refused."""
        self.pause = 0.0
        self.corrections: dict[int, tuple[float, float]] = {}
        """By part of the window: used and asked tokens to add."""

    def __bool__(self) -> bool:
        return bool(self.grown or self.refused >= 0 or self.pause or self.corrections)

    def correct(self, number: int, used: float, asked: float) -> None:
        """Add to the tokens of a part of the window."""
        if used or asked:
            before = self.corrections.get(number, (0.0, 0.0))
            self.corrections[number] = (before[0] + used, before[1] + asked)

    def again(self, other: _Lessons) -> None:
        """Take back lessons that were not delivered."""
        self.grown += other.grown
        self.refused = max(self.refused, other.refused)
        self.pause = max(self.pause, other.pause)
        for number, (used, asked) in other.corrections.items():
            self.correct(number, used, asked)


def _described(limits: RateLimits) -> dict[str, object]:
    """Return the rates as the script reads them."""
    described: dict[str, object] = {"slice_s": limits.window_s / SLICES, "slices": SLICES}
    if limits.requests:
        bucket = Bucket(limits.requests, limits.window_s, least_burst=1.0)
        described["requests"] = {"rate": bucket.rate, "burst": bucket.burst}
    if limits.tokens:
        bucket = Bucket(limits.tokens, limits.window_s)
        described["tokens"] = {"rate": bucket.rate, "burst": bucket.burst, "allowed": limits.tokens}
    return described
