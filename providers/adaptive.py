"""How many requests an endpoint is given at once: additive increase, multiplicative decrease, one cut per episode.

A refusal (429) of a request that was sent before the last cut says nothing about the limit after it, so each permit
carries the epoch it was given in, and only the first refusal of an epoch cuts. Failures of the server (5xx) and
timeouts never cut: fewer requests do not mend a server. The limit grows only where it is what holds requests back.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal, NamedTuple

from providers.rates import Charge, RateLimits, Rates

if TYPE_CHECKING:
    from providers.limits import Limiter

__all__ = ["CUT", "Adaptive", "History", "LimitChange", "LocalGovernor", "Reason"]

CUT = 0.8
"""What a refusal leaves of the limit."""
_KEPT = 256
_MERGED_S = 1.0

Reason = Literal["cut", "growth", "local", "retry-after", "shared", "start"]
"""`retry-after`: nothing is sent for a while. `shared`, `local`: from here on that of all processes, or our own."""


class LimitChange(NamedTuple):
    """A moment at which the limit of an endpoint changed."""

    at_s: float
    """Seconds since the limiter was made."""
    limit: int
    reason: Reason


class History:
    """The last changes of a limit, oldest first; growth within a second is one entry."""

    __slots__ = ("_changes",)

    def __init__(self) -> None:
        self._changes: deque[LimitChange] = deque(maxlen=_KEPT)

    def add(self, at_s: float, limit: int, reason: Reason) -> None:
        """Remember a change."""
        changes = self._changes
        if reason == "growth" and changes and changes[-1].reason == "growth" and at_s - changes[-1].at_s < _MERGED_S:
            at_s = changes.pop().at_s
        changes.append(LimitChange(at_s, limit, reason))

    def read(self) -> tuple[LimitChange, ...]:
        """Return the changes."""
        return tuple(self._changes)


class Adaptive:
    """A limit between 1 and a ceiling. Doubles with every round of answers until the first cut, then grows by one."""

    __slots__ = ("_exact", "ceiling", "epoch", "limit", "slow_start")

    def __init__(self, ceiling: int, *, start: int | None = None) -> None:
        self.ceiling = ceiling
        self.limit = min(ceiling, start or ceiling)
        self.epoch = 0
        self.slow_start = True
        self._exact = float(self.limit)

    def grow(self, epoch: int) -> bool:
        """Count an answer that came while the limit was full; tells whether the limit rose."""
        if self.limit >= self.ceiling or epoch != self.epoch:
            return False
        self._exact = min(self.ceiling, self._exact + (1.0 if self.slow_start else 1.0 / self._exact))
        if int(self._exact) == self.limit:
            return False
        self.limit = int(self._exact)
        return True

    def cut(self, epoch: int) -> bool:
        """Count a refusal of a request that was sent in an epoch; tells whether it cut the limit."""
        if epoch != self.epoch:
            return False
        self.epoch += 1
        self.slow_start = False
        self._exact = max(1.0, self._exact * CUT)
        self.limit = int(self._exact)
        return True

    def confine(self, ceiling: int) -> None:
        """Lower the ceiling."""
        self.ceiling = min(self.ceiling, ceiling)
        self._exact = min(self._exact, float(self.ceiling))
        self.limit = int(self._exact)


class LocalGovernor:
    """The limits of an endpoint as this process alone keeps them; see `providers.limits.Governor`."""

    __slots__ = ("_adaptive", "_limiter", "_rates", "epoch", "limit")

    def __init__(self, ceiling: int, *, start: int | None = None, rates: RateLimits | None = None) -> None:
        self._adaptive = Adaptive(ceiling, start=start)
        self._rates = Rates(rates) if rates is not None and rates.any else None
        self._limiter: Limiter | None = None
        self.limit = self._adaptive.limit
        self.epoch = 0

    def bind(self, limiter: Limiter) -> None:
        """Name the limiter that is governed."""
        self._limiter = limiter

    def delay(self, now: float, tokens: int) -> float:
        """Return the seconds until a request may go out."""
        return self._rates.delay(now, tokens) if self._rates is not None else 0.0

    def take(self, now: float, tokens: int) -> Charge | None:
        """Count a request that goes out."""
        return self._rates.take(now, tokens) if self._rates is not None else None

    def settle(self, charge: Charge | None, used: int | None) -> None:
        """Correct a request to its real usage."""
        if charge is not None and self._rates is not None:
            self._rates.settle(charge, used)

    def answered(self, epoch: int, *, full: bool) -> None:
        """Learn from an answer; `full`: every permit was out."""
        if full and self._adaptive.grow(epoch):
            self._changed("growth")

    def refused(self, now: float, epoch: int, charge: Charge | None, retry_after: float | None) -> None:
        """Learn from a 429."""
        if charge is not None and self._rates is not None:
            self._rates.refused(now, charge.asked)
        if self._adaptive.cut(epoch):
            self.epoch = self._adaptive.epoch
            self._changed("cut")

    def paused(self, retry_after: float) -> None:
        """Hear that the server asked for a pause; the limiter keeps it."""

    def note(self, now: float, in_flight: int, waiting: int) -> None:
        """Hear how many permits are out and how many requests wait."""

    @property
    def rates(self) -> RateLimits:
        """Requests and tokens that may go out in a window."""
        return self._rates.limits if self._rates is not None else RateLimits()

    def confine(self, ceiling: int, rates: RateLimits) -> None:
        """Lower the ceiling of the limit and the rates to these, where they are higher."""
        self._adaptive.confine(ceiling)
        self.limit = self._adaptive.limit
        stricter = self.rates.stricter(rates)
        if stricter != self.rates:
            self._rates = Rates(stricter)

    def adopt(self, limit: int) -> None:
        """Go on from a limit that was found elsewhere."""
        self._adaptive = Adaptive(self._adaptive.ceiling, start=max(1, limit))
        self._adaptive.slow_start = False
        self._adaptive.epoch = self.epoch = self.epoch + 1
        self.limit = self._adaptive.limit

    @property
    def total(self) -> int:
        """Permits that may be out over all processes, of which there is one."""
        return self.limit

    async def aclose(self) -> None:
        """Nothing is open."""

    def _changed(self, reason: Reason) -> None:
        self.limit = self._adaptive.limit
        if self._limiter is not None:
            self._limiter.record(self.limit, reason)
