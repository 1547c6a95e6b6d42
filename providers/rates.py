"""Requests and tokens per minute: token buckets that know the wait instead of trying again.

Providers count over a window of a minute, sliding or fixed, and a full bucket at its start would overrun both. So the
bucket is small (2 % of the window) and refills at 95 % of the rate: no window sees more than 97 % of what is allowed,
and the rest is for requests that bunch up on their way.

Tokens are taken at what requests of the endpoint have used so far of their worst case, and corrected to the real
usage when the answer comes. Some servers count the worst case (prompt and `max_tokens`) whatever is used; a refusal
that only this explains makes the worst case count from then on, and one that speaks against it takes that back.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import NamedTuple

__all__ = ["BURST", "SHARE", "SLICES", "Bucket", "Charge", "RateLimits", "Rates", "Usual", "counts_what_is_asked"]

SHARE = 0.95
"""Part of the allowed rate that a bucket refills at."""
BURST = 0.02
"""Part of a window's allowance that may go out at once."""
SLICES = 20
"""Parts of the window in which tokens are remembered."""
_NEAR = 0.9
_MOST = 1.25
"""A server that let pass this much of its allowance, counted in worst cases, does not count worst cases."""
_FORGET = 0.98


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """What an endpoint allows in a window; None: as much as it takes."""

    requests: int | None = None
    tokens: int | None = None
    window_s: float = 60.0

    @property
    def any(self) -> bool:
        """Tell whether anything is limited."""
        return self.requests is not None or self.tokens is not None

    def stricter(self, other: RateLimits) -> RateLimits:
        """Return the lower of each."""
        return replace(self, requests=_least(self.requests, other.requests), tokens=_least(self.tokens, other.tokens))


class Charge(NamedTuple):
    """What a permit took from the buckets; the tokens of a request until its usage is known."""

    tokens: float = 0.0
    """Taken from the bucket."""
    asked: int = 0
    """The worst case."""
    slice: int = 0
    """Part of the window that it counts in."""
    final: bool = True
    """True where the real usage corrects nothing."""


class Bucket:
    """A token bucket in one number: the moment at which it will be full again. Times in seconds."""

    __slots__ = ("burst", "full_at", "rate")

    def __init__(self, allowed: int, window_s: float, *, least_burst: float = 0.0) -> None:
        self.rate = SHARE * allowed / window_s
        self.burst = max(least_burst, BURST * allowed)
        self.full_at = 0.0

    def delay(self, now: float, amount: float) -> float:
        """Return the seconds until an amount can be taken; one above the burst waits for a full bucket."""
        return max(0.0, self.full_at - max(0.0, self.burst - amount) / self.rate - now)

    def take(self, now: float, amount: float) -> None:
        """Take an amount, whether it is there or not."""
        self.full_at = max(self.full_at, now) + amount / self.rate

    def correct(self, amount: float) -> None:
        """Take more, or give back, for something that was taken before."""
        self.full_at += amount / self.rate


class Usual:
    """The part of their worst case that requests have used lately; all of it while nothing is known."""

    __slots__ = ("_asked", "_used")

    def __init__(self) -> None:
        self._asked = 0.0
        self._used = 0.0

    def of(self, asked: int) -> float:
        """Return the tokens that a request will probably use."""
        return max(1.0, asked * self._used / self._asked) if self._asked else float(asked)

    def learn(self, asked: int, used: int) -> None:
        """Remember what a request used."""
        self._asked = self._asked * _FORGET + asked
        self._used = self._used * _FORGET + used


class Rates:
    """The buckets of one endpoint in one process: `delay`, `take` when it is 0, `settle` when the usage is known."""

    def __init__(self, limits: RateLimits) -> None:
        self.limits = limits
        self.counts_asked = False
        """Whether the server is believed to count worst cases."""
        self.usual = Usual()
        self._requests = Bucket(limits.requests, limits.window_s, least_burst=1.0) if limits.requests else None
        self._tokens = Bucket(limits.tokens, limits.window_s) if limits.tokens else None
        self._window: deque[_Slice] = deque()
        self._open = 0.0

    def delay(self, now: float, asked: int) -> float:
        """Return the seconds until a request of at most `asked` tokens may go out; 0: now."""
        wait = self._requests.delay(now, 1.0) if self._requests else 0.0
        if self._tokens and asked:
            wait = max(wait, self._tokens.delay(now, self._cost(asked)))
        return wait

    def take(self, now: float, asked: int) -> Charge:
        """Count a request that goes out now."""
        if self._requests:
            self._requests.take(now, 1.0)
        if not self._tokens or not asked:
            return Charge()
        cost = self._cost(asked)
        self._tokens.take(now, cost)
        part = self._slice(now)
        part.used += cost
        part.asked += asked
        self._open += asked - cost
        return Charge(cost, asked, part.number, self.counts_asked)

    def settle(self, charge: Charge, used: int | None) -> None:
        """Correct a request to its real usage; None where nobody knows it."""
        if not self._tokens or not charge.asked:
            return
        self._open -= charge.asked - charge.tokens
        if used is None:
            return
        if used:
            self.usual.learn(charge.asked, used)
        if charge.final and used:
            return
        self._tokens.correct(used - charge.tokens)
        for part in reversed(self._window):
            if part.number == charge.slice:
                part.used += used - charge.tokens
                part.asked -= 0 if used else charge.asked
                break

    def refused(self, now: float, asked: int) -> None:
        """Learn from a refusal (429) how the server counts; `asked` is the worst case of what was refused."""
        if not self._tokens or self.limits.tokens is None:
            return
        self._slice(now)
        used = sum(part.used for part in self._window) + self._open
        worst = sum(part.asked for part in self._window)
        verdict = counts_what_is_asked(self.limits.tokens, used=used, asked=worst, counts_asked=self.counts_asked)
        if verdict is not None:
            self.counts_asked = verdict

    def _cost(self, asked: int) -> float:
        return float(asked) if self.counts_asked else self.usual.of(asked)

    def _slice(self, now: float) -> _Slice:
        number = int(now * SLICES / self.limits.window_s)
        while self._window and self._window[0].number < number - SLICES:
            self._window.popleft()
        if not self._window or self._window[-1].number != number:
            self._window.append(_Slice(number))
        return self._window[-1]


def counts_what_is_asked(allowed: int, *, used: float, asked: float, counts_asked: bool) -> bool | None:
    """Tell from the sums of a window at a refusal whether the server counts worst cases; None: no telling.

    `used` counts real usage, and the worst case for what is under way.
    """
    if counts_asked:
        return False if asked < 0.8 * allowed else None
    return True if used < _NEAR * allowed <= asked <= _MOST * allowed else None


def _least(one: int | None, other: int | None) -> int | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)


@dataclass(slots=True)
class _Slice:
    number: int
    used: float = 0.0
    asked: float = 0.0
