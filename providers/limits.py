"""Permits for requests to one endpoint: as many at once as it bears, no faster than it allows, fair between runs.

    async with limiter.permit(run="r-1", tokens=900) as permit:
        reply = await ...
        permit.settle(412)

A permit learns from the error that leaves it: a 429 cuts the limit once per episode (`providers.adaptive`), a
`Retry-After` holds back every new request until then, a request that failed gives its tokens back. Waits are
computed, and a timer is set for the earliest; nothing polls. Runs that wait take turns, so that a run with a
thousand requests in line does not keep out one with ten.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from providers.adaptive import History, LimitChange, LocalGovernor, Reason
from providers.errors import ProviderError, RateLimited
from providers.rates import Charge, RateLimits
from providers.retry import is_uncertain

__all__ = ["FairQueue", "Governor", "Limiter", "Permit"]

_LONGEST_SPREAD_S = 1.0


class Governor(Protocol):
    """Decides how many permits may be out and when the next may go; in this process or over several.

    It calls `Limiter.pump` when it allows more than before. Moments are those of the event loop's clock.
    """

    limit: int
    """Permits that may be out now."""
    epoch: int
    """Number of cuts so far."""

    @property
    def total(self) -> int:
        """Permits that may be out over all processes."""

    @property
    def rates(self) -> RateLimits:
        """Requests and tokens that may go out in a window."""

    def bind(self, limiter: Limiter) -> None:
        """Name the limiter that is governed."""

    def delay(self, now: float, tokens: int) -> float:
        """Return the seconds until a request of at most `tokens` may go; infinite: until the governor says so."""

    def take(self, now: float, tokens: int) -> Charge | None:
        """Count a request that goes out, after `delay` was 0."""

    def settle(self, charge: Charge | None, used: int | None) -> None:
        """Correct a request to its real usage; None where nobody knows it."""

    def answered(self, epoch: int, *, full: bool) -> None:
        """Learn from an answer; `full`: every permit was out."""

    def refused(self, now: float, epoch: int, charge: Charge | None, retry_after: float | None) -> None:
        """Learn from a 429."""

    def paused(self, retry_after: float) -> None:
        """Hear that the server asked for a pause without a 429."""

    def note(self, now: float, in_flight: int, waiting: int) -> None:
        """Hear how many permits are out and how many requests wait."""

    def confine(self, ceiling: int, rates: RateLimits) -> None:
        """Lower the ceiling of the limit and the rates to these, where they are higher."""

    async def aclose(self) -> None:
        """Give back what is held."""


class Permit:
    """One request's place; an async context manager, made by `Limiter.permit`."""

    __slots__ = ("_limiter", "charge", "epoch", "governor", "granted", "in_line", "run", "tokens", "used")

    def __init__(self, limiter: Limiter, run: str, tokens: int) -> None:
        self._limiter = limiter
        self.run = run
        self.tokens = tokens
        self.used: int | None = None
        self.epoch = 0
        self.charge: Charge | None = None
        self.governor: Governor | None = None
        """Who gave it; None until it is given."""
        self.granted: asyncio.Future[None] | None = None
        self.in_line = False
        """Whether the line counts it."""

    async def __aenter__(self) -> Self:
        if not self._limiter.enter(self):
            await self._limiter.wait(self)
        return self

    def settle(self, tokens: int) -> None:
        """Say what the request used, prompt and answers together."""
        self.used = tokens

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._limiter.leave(self, error)


class Limiter:
    """The permits of one endpoint; belongs to one event loop, whose clock it goes by.

    `patience_s` is the longest pause that a request waits out: where the server asks for a longer one, permits are
    refused with `RateLimited`. A number in place of a governor is a limit that this process keeps alone.
    """

    def __init__(self, governor: Governor | int, *, patience_s: float = float("inf")) -> None:
        governor = LocalGovernor(governor) if isinstance(governor, int) else governor
        self.in_flight = 0
        self.patience_s = patience_s
        self._governor = governor
        self._queue = FairQueue()
        self._open_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._history = History()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._clock: Callable[[], float] = _no_clock
        self._born = 0.0
        governor.bind(self)

    @property
    def limit(self) -> int:
        """Requests that the endpoint is given at once now, by all processes together."""
        return self._governor.total

    @property
    def counts_tokens(self) -> bool:
        """Whether permits want to know tokens."""
        return self._governor.rates.tokens is not None

    @property
    def waiting(self) -> int:
        """Requests that wait for a permit."""
        return len(self._queue)

    @property
    def paused_s(self) -> float:
        """Seconds until requests are sent again, where the server asked for a pause."""
        return max(0.0, self._open_at - self._clock()) if self._loop else 0.0

    @property
    def history(self) -> tuple[LimitChange, ...]:
        """The last changes of the limit, oldest first."""
        return self._history.read()

    def permit(self, *, run: str = "", tokens: int = 0) -> Permit:
        """Return a place for a request of a run that uses `tokens` at most (0: not counted); enter it to wait."""
        return Permit(self, run, tokens)

    async def aclose(self) -> None:
        """Close the governor; nobody may hold or await a permit any more."""
        self._disarm()
        await self._governor.aclose()

    def enter(self, permit: Permit) -> bool:
        """Give a permit at once where nothing stands against it."""
        if self._loop is None:
            self._start()
        if self._queue or self.in_flight >= self._governor.limit:
            return False
        now = self._clock()
        if now < self._open_at or self._governor.delay(now, permit.tokens) > 0:
            return False
        self._give(permit, now)
        self._governor.note(now, self.in_flight, 0)
        return True

    async def wait(self, permit: Permit) -> None:
        """Wait in line for a permit; raises `RateLimited` where the pause is longer than the patience."""
        assert self._loop is not None, "enter comes first"
        permit.granted = self._loop.create_future()
        self._queue.push(permit)
        self.pump()
        try:
            await permit.granted
        except asyncio.CancelledError:
            if permit.governor is not None:
                permit.used = 0
                self._take_back(permit)
            elif permit.granted.cancelled():
                self._queue.drop(permit)
            else:
                permit.granted.exception()
            self.pump()
            raise

    def leave(self, permit: Permit, error: BaseException | None) -> None:
        """Take a permit back and learn from how the request ended."""
        governor = permit.governor
        assert governor is not None, "only what was entered is left"
        if error is None:
            governor.answered(permit.epoch, full=self.in_flight >= self._governor.limit)
        elif isinstance(error, ProviderError):
            if permit.used is None and not is_uncertain(error):
                permit.used = 0
            self._learn(permit, governor, error)
        self._take_back(permit)
        self.pump()

    def pump(self) -> None:
        """Give permits as long as somebody waits and nothing stands against it; set a timer for the next."""
        if self._loop is None:
            return
        governor, queue, now = self._governor, self._queue, self._clock()
        while (first := queue.first()) is not None:
            if now < self._open_at:
                if self._open_at - now > self.patience_s:
                    self._turn_away(self._open_at - now)
                else:
                    self._arm(self._open_at)
                break
            if self.in_flight >= governor.limit:
                break
            delay = governor.delay(now, first.tokens)
            if delay > 0:
                if delay != float("inf"):
                    self._arm(now + delay)
                break
            queue.pop()
            self._give(first, now)
            if first.granted is not None:
                first.granted.set_result(None)
        governor.note(now, self.in_flight, len(queue))

    def hold(self, seconds: float) -> None:
        """Send nothing for a while, and a little longer, so that those who were held back do not return together."""
        if self._loop is None:
            self._start()
        until = self._clock() + seconds
        if until > self._open_at:
            self._open_at = until + random.uniform(0, min(_LONGEST_SPREAD_S, 0.1 * seconds))
            self.record(self.limit, "retry-after")

    def fail(self, make: Callable[[], Exception]) -> None:
        """Fail all who wait, each with an error of its own; for a governor that cannot go on."""
        while (first := self._queue.first()) is not None:
            self._queue.pop()
            if first.granted is not None:
                first.granted.set_exception(make())

    def record(self, limit: int, reason: Reason) -> None:
        """Write a change of the limit into the history."""
        self._history.add(self._clock() - self._born if self._loop else 0.0, limit, reason)

    def govern(self, governor: Governor, reason: Reason) -> None:
        """Go on with another governor; permits that are out return to theirs."""
        self._governor = governor
        self.record(governor.total, reason)
        self.pump()

    def confine(self, ceiling: int, rates: RateLimits) -> None:
        """Lower the ceiling and the rates to these where they are higher, for what several aliases name."""
        self._governor.confine(ceiling, rates)

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.time
        self._born = self._clock()
        self.record(self.limit, "start")

    def _give(self, permit: Permit, now: float) -> None:
        governor = self._governor
        self.in_flight += 1
        permit.governor = governor
        permit.epoch = governor.epoch
        permit.charge = governor.take(now, permit.tokens)

    def _take_back(self, permit: Permit) -> None:
        self.in_flight -= 1
        if permit.charge is not None and permit.governor is not None:
            permit.governor.settle(permit.charge, permit.used)

    def _learn(self, permit: Permit, governor: Governor, error: ProviderError) -> None:
        if isinstance(error, RateLimited):
            governor.refused(self._clock(), permit.epoch, permit.charge, error.retry_after)
        elif error.retry_after:
            governor.paused(error.retry_after)
        if error.retry_after:
            self.hold(error.retry_after)

    def _turn_away(self, seconds: float) -> None:
        told = (
            f"The server asked for a pause of {seconds:.0f} s, longer than patience_s allows ({self.patience_s:g} s)."
        )
        self.fail(lambda: RateLimited(told, retry_after=seconds))

    def _arm(self, at: float) -> None:
        timer = self._timer
        if timer is not None and timer.when() <= at:
            return
        self._disarm()
        if self._loop is not None:
            self._timer = self._loop.call_at(at, self._ring)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self.pump()


class FairQueue:
    """Requests in line, by run; the runs take turns."""

    __slots__ = ("_lines", "_live", "_turns")

    def __init__(self) -> None:
        self._lines: dict[str, deque[Permit]] = {}
        self._turns: deque[str] = deque()
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def push(self, permit: Permit) -> None:
        """Stand in line behind the others of the run."""
        line = self._lines.get(permit.run)
        if line is None:
            line = self._lines[permit.run] = deque()
            self._turns.append(permit.run)
        line.append(permit)
        permit.in_line = True
        self._live += 1

    def drop(self, permit: Permit) -> None:
        """Count one that was cancelled no longer; it is passed over when its turn comes."""
        self._live -= permit.in_line
        permit.in_line = False
        if not self._live:
            self._lines.clear()
            self._turns.clear()

    def first(self) -> Permit | None:
        """Return whose turn it is; None where nobody waits."""
        while self._turns:
            line = self._lines[self._turns[0]]
            while line:
                granted = line[0].granted
                if granted is None or not granted.done():
                    return line[0]
                # It was cancelled, and has not run since to say so.
                gone = line.popleft()
                self._live -= gone.in_line
                gone.in_line = False
            del self._lines[self._turns.popleft()]
        return None

    def pop(self) -> None:
        """Take out whose turn it is, after `first` named it; its run goes to the end of the line."""
        run = self._turns.popleft()
        line = self._lines[run]
        line.popleft().in_line = False
        if line:
            self._turns.append(run)
        else:
            del self._lines[run]
        self._live -= 1


def _no_clock() -> float:
    raise RuntimeError("no permit was asked for yet")
