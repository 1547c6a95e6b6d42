"""A hard cap on dollars, tokens and calls: reserve the worst case, settle to what was used, release on failure.

Invariant at every moment: settled + reserved <= cap, as long as no call uses more than was reserved for it (a
provider that bills more than `max_tokens` is settled as billed, and nothing further is let through).
"""

from __future__ import annotations

import asyncio
from collections import deque
from decimal import Decimal
from typing import NamedTuple

from db.errors import BudgetExceeded

__all__ = ["Amount", "Budget", "Reservation"]

_ZERO = Decimal(0)


class Amount(NamedTuple):
    """What calls cost."""

    dollars: Decimal = _ZERO
    tokens: int = 0
    calls: int = 0

    def plus(self, other: Amount) -> Amount:
        """Add."""
        return Amount(self.dollars + other.dollars, self.tokens + other.tokens, self.calls + other.calls)

    def minus(self, other: Amount) -> Amount:
        """Subtract."""
        return Amount(self.dollars - other.dollars, self.tokens - other.tokens, self.calls - other.calls)


class Reservation:
    """A part of the budget that is held for a request; closed once, by `settle` or `release`."""

    __slots__ = ("amount", "open")

    def __init__(self, amount: Amount) -> None:
        self.amount = amount
        self.open = True


class Budget:
    """Caps for one process; None leaves a measure uncapped. Belongs to one event loop.

    `spent` is what the run had used before, so that a resumed run keeps its cap.
    """

    def __init__(
        self,
        dollars: Decimal | None = None,
        tokens: int | None = None,
        calls: int | None = None,
        *,
        spent: Amount | None = None,
    ) -> None:
        self.dollars = dollars
        self.tokens = tokens
        self.calls = calls
        self.settled = spent or Amount()
        self.reserved = Amount()
        self._out = 0
        self._waiting: deque[tuple[Amount, asyncio.Future[Reservation]]] = deque()

    async def reserve(self, amount: Amount) -> Reservation:
        """Hold an amount; waits in line while others may still give back what they hold.

        Raises `BudgetExceeded` with cap, settled and asked, once nothing is held any more and it still does not fit.
        """
        if not self._waiting:
            if self._fits(amount):
                return self._hold(amount)
            if not self._out:
                raise self._exceeded(amount)
        future: asyncio.Future[Reservation] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, future))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.release(future.result())
            else:
                self._waiting = deque(entry for entry in self._waiting if entry[1] is not future)
                self._admit()
            raise

    def settle(self, reservation: Reservation, actual: Amount) -> None:
        """Turn a reservation into what was really used; raises `ValueError` where it was closed before."""
        self._close(reservation)
        self.settled = self.settled.plus(actual)
        self._admit()

    def release(self, reservation: Reservation) -> None:
        """Give a reservation back whole; raises `ValueError` where it was closed before."""
        self._close(reservation)
        self._admit()

    def _close(self, reservation: Reservation) -> None:
        if not reservation.open:
            raise ValueError("the reservation is closed already")
        reservation.open = False
        self._out -= 1
        self.reserved = self.reserved.minus(reservation.amount)

    def _hold(self, amount: Amount) -> Reservation:
        self._out += 1
        self.reserved = self.reserved.plus(amount)
        return Reservation(amount)

    def _fits(self, amount: Amount) -> bool:
        total = self.settled.plus(self.reserved).plus(amount)
        return not (
            (self.dollars is not None and total.dollars > self.dollars)
            or (self.tokens is not None and total.tokens > self.tokens)
            or (self.calls is not None and total.calls > self.calls)
        )

    def _admit(self) -> None:
        while self._waiting:
            amount, future = self._waiting[0]
            if future.done():
                self._waiting.popleft()
            elif self._fits(amount):
                self._waiting.popleft()
                future.set_result(self._hold(amount))
            elif not self._out:
                self._give_up()
            else:
                return

    def _give_up(self) -> None:
        # Nobody is left to give anything back. All who wait are told, not only the first: a smaller request that
        # slipped in behind would be cancelled in mid-flight by the end of the run, and its answer lost.
        waiting, self._waiting = self._waiting, deque()
        for amount, future in waiting:
            if not future.done():
                future.set_exception(self._exceeded(amount))

    def _exceeded(self, asked: Amount) -> BudgetExceeded:
        parts = [
            f"{name}: cap {shown(cap)}, used {shown(used)}, the next request may need {shown(need)}"
            for name, cap, used, need, shown in (
                ("dollars", self.dollars, self.settled.dollars, asked.dollars, _dollars),
                ("tokens", self.tokens, self.settled.tokens, asked.tokens, _whole),
                ("calls", self.calls, self.settled.calls, asked.calls, _whole),
            )
            if cap is not None and used + need > cap
        ]
        return BudgetExceeded(f"The budget would be passed ({'; '.join(parts)}).")


def _dollars(value: Decimal | int) -> str:
    return f"${value:.6f}".rstrip("0").rstrip(".")


def _whole(value: Decimal | int) -> str:
    return f"{value:,}"
