"""What a call costs on a machine that is paid by the hour.

While at least one sample is being drawn on it, a machine costs its rate; each moment's cost is divided evenly among the
samples in flight then. So a call alone pays all of its seconds, one of 64 pays a 64th, and all calls together pay the
machine's busy time exactly. Idle time is nobody's: it is the machine's owner's. Only this process's calls are known:
where several processes share a machine, each charges itself as if alone, which is never too little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal

__all__ = ["Rent"]

_HOUR_S = 3600
_FINEST = Decimal("1e-12")


class Rent:
    """The clock of one rented machine: `shares` grows each second by 1 / (samples in flight)."""

    __slots__ = ("_clock", "_last", "_shares", "busy_s", "in_flight", "usd_per_hour")

    def __init__(self, usd_per_hour: Decimal, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.usd_per_hour = usd_per_hour
        self.busy_s = 0.0
        """Seconds in which at least one sample was in flight, up to the last call that began or ended."""
        self.in_flight = 0
        self._clock = clock
        self._last = 0.0
        self._shares = 0.0

    @property
    def dollars(self) -> Decimal:
        """Dollars of the busy time, failed calls included."""
        return self._price(self.busy_s)

    def begin(self, samples: int) -> float:
        """Count samples in; the reading is to be given to `end`."""
        self._advance()
        self.in_flight += samples
        return self._shares

    def end(self, samples: int, since: float) -> Decimal:
        """Count samples out and return the dollars of all of them together."""
        self._advance()
        self.in_flight -= samples
        return self._price(samples * (self._shares - since))

    def _advance(self) -> None:
        now = self._clock()
        if self.in_flight:
            self.busy_s += now - self._last
            self._shares += (now - self._last) / self.in_flight
        self._last = now

    def _price(self, seconds: float) -> Decimal:
        # A millionth of a millionth is finer than any bill, and keeps the digits of stored prices few.
        return (self.usd_per_hour * Decimal(seconds) / _HOUR_S).quantize(_FINEST)
