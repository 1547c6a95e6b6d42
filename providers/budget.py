"""A hard cap on dollars, tokens and calls: reserve the worst case, settle to what was used, release on failure.

Invariant at every moment, for each account: settled + reserved <= cap, as long as no call uses more than was reserved
for it (a provider that bills more than `max_tokens` is settled as billed, and nothing further is let through).

A call may be charged to several accounts (the session's, its run's, the day's, its key's); it is held against all of
them or against none. This is the budget of one process; `providers.shared_budget` has the one of several.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

from db.errors import BudgetExceeded
from providers.caps import Account, CapPlan, Charge, day_of

__all__ = ["Amount", "Budget", "Reservation", "SpentBefore", "exceeded"]

_ZERO = Decimal(0)
_SECONDS_OF_A_DAY = 86_400
_NOBODY = Charge()


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


SpentBefore = Callable[[Account], Amount | None]
"""Says what an account had spent before, by what is stored; None where that cannot be known."""


class Capped(NamedTuple):
    """Which measures have a cap that asks for an estimate."""

    dollars: bool
    tokens: bool


class Purse:
    """An account with what is settled and reserved of it by this process."""

    __slots__ = ("account", "out", "reserved", "settled")

    def __init__(self, account: Account, spent: Amount) -> None:
        self.account = account
        self.settled = spent
        self.reserved = Amount()
        self.out = 0

    def fits(self, amount: Amount) -> bool:
        """Tell whether an amount is left."""
        account, settled, reserved = self.account, self.settled, self.reserved
        return not (
            (account.dollars is not None and settled[0] + reserved[0] + amount[0] > account.dollars)
            or (account.tokens is not None and settled[1] + reserved[1] + amount[1] > account.tokens)
            or (account.calls is not None and settled[2] + reserved[2] + amount[2] > account.calls)
        )


Purses = tuple[Purse, ...]


class Reservation:
    """A part of the budget that is held for a request; closed once, by `settle` or `release`."""

    __slots__ = ("amount", "open", "purses")

    def __init__(self, amount: Amount, purses: Purses) -> None:
        self.amount = amount
        self.purses = purses
        self.open = True


class _Waiter(NamedTuple):
    number: int
    amount: Amount
    future: asyncio.Future[Reservation]


class Budget:
    """Caps for one process; None leaves a measure uncapped. Belongs to one event loop.

    `spent` is what the session had used before, `plan` the caps beside those of the session, and `spent_before` is
    asked once for each other account (a run that goes on, the day's spending so far).
    """

    def __init__(
        self,
        dollars: Decimal | None = None,
        tokens: int | None = None,
        calls: int | None = None,
        *,
        spent: Amount | None = None,
        plan: CapPlan | None = None,
        spent_before: SpentBefore | None = None,
    ) -> None:
        if plan is None:
            plan = CapPlan(session=Account(name="session", dollars=dollars, tokens=tokens, calls=calls))
        self.plan = plan
        self._spent_before = spent_before
        self._session = Purse(plan.session, spent or Amount())
        self._purses: dict[str, Purse] = {plan.session.name: self._session}
        self._known: dict[tuple[Charge, int], Purses] = {}
        self._capped: dict[Charge, Capped] = {}
        self._lines: dict[Purses, deque[_Waiter]] = {}
        self._number = 0

    @property
    def dollars(self) -> Decimal | None:
        """The session's cap in dollars."""
        return self.plan.session.dollars

    @property
    def tokens(self) -> int | None:
        """The session's cap in tokens."""
        return self.plan.session.tokens

    @property
    def calls(self) -> int | None:
        """The session's cap in calls."""
        return self.plan.session.calls

    @property
    def settled(self) -> Amount:
        """What the session has used."""
        return self._session.settled

    @property
    def reserved(self) -> Amount:
        """What the session holds for requests under way."""
        return self._session.reserved

    def caps(self, charge: Charge = _NOBODY) -> Capped:
        """Tell which measures are capped for a call so charged."""
        capped = self._capped.get(charge)
        if capped is None:
            accounts = self.plan.accounts(charge, "")
            capped = self._capped[charge] = Capped(
                dollars=any(one.dollars is not None for one in accounts),
                tokens=any(one.tokens is not None for one in accounts),
            )
        return capped

    async def reserve(self, amount: Amount, charge: Charge = _NOBODY) -> Reservation:
        """Hold an amount; waits in line while others may still give back what they hold.

        Raises `BudgetExceeded` with cap, settled and asked, once nothing is held any more and it still does not fit.
        """
        purses = self._purses_of(charge)
        if not self._lines:
            tight = _tight(purses, amount)
            if not tight:
                return self._hold(purses, amount)
            if (spent := _spent(tight)) is not None:
                raise exceeded(spent.account, spent.settled, amount)
        return await self._wait(purses, amount)

    def settle(self, reservation: Reservation, actual: Amount) -> None:
        """Turn a reservation into what was really used; raises `ValueError` where it was closed before."""
        _close(reservation)
        for purse in reservation.purses:
            purse.settled = purse.settled.plus(actual)
        self._admit()

    def release(self, reservation: Reservation) -> None:
        """Give a reservation back whole; raises `ValueError` where it was closed before."""
        _close(reservation)
        self._admit()

    async def aclose(self) -> None:
        """End; there is nothing to give back here."""

    def _purses_of(self, charge: Charge) -> Purses:
        # The day is looked at for every call, so that a run over midnight begins with the new day's cap.
        today = int(time.time()) // _SECONDS_OF_A_DAY if self.plan.by_day else 0
        purses = self._known.get((charge, today))
        if purses is None:
            purses = tuple(self._purse(account) for account in self.plan.accounts(charge, day_of()))
            self._known[(charge, today)] = purses
        return purses

    def _purse(self, account: Account) -> Purse:
        purse = self._purses.get(account.name)
        if purse is None:
            before = self._spent_before(account) if self._spent_before is not None else None
            purse = self._purses[account.name] = Purse(account, before or Amount())
        return purse

    def _hold(self, purses: Purses, amount: Amount) -> Reservation:
        for purse in purses:
            purse.out += 1
            purse.reserved = purse.reserved.plus(amount)
        return Reservation(amount, purses)

    async def _wait(self, purses: Purses, amount: Amount) -> Reservation:
        future: asyncio.Future[Reservation] = asyncio.get_running_loop().create_future()
        self._number += 1
        self._lines.setdefault(purses, deque()).append(_Waiter(self._number, amount, future))
        self._admit()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.release(future.result())
            else:
                self._admit()
            raise

    def _admit(self) -> None:
        """Let in whoever fits, in the order of arrival; nobody overtakes one who waits for the same account."""
        if not self._lines:
            return
        heads = [(line[0].number, purses) for purses, line in self._lines.items()]
        heapq.heapify(heads)
        short: set[Purse] = set()
        while heads:
            _, purses = heapq.heappop(heads)
            line = self._lines[purses]
            if self._step(purses, line, short):
                if line:
                    heapq.heappush(heads, (line[0].number, purses))
                else:
                    del self._lines[purses]

    def _step(self, purses: Purses, line: deque[_Waiter], short: set[Purse]) -> bool:
        """Deal with the first of a line; False says that it has to wait."""
        _, amount, future = line[0]
        if future.done():
            line.popleft()
            return True
        if not short.isdisjoint(purses):
            return False
        tight = _tight(purses, amount)
        if not tight:
            line.popleft()
            future.set_result(self._hold(purses, amount))
            return True
        spent = _spent(tight)
        if spent is None:
            short.update(tight)
            return False
        _give_up(line, exceeded(spent.account, spent.settled, amount))
        return True


def exceeded(account: Account, settled: Amount, asked: Amount) -> BudgetExceeded:
    """Return the error that says which cap of an account would be passed, with its numbers."""
    parts = [
        f"{name}: cap {shown(cap)}, used {shown(used)}, the next request may need {shown(need)}"
        for name, cap, used, need, shown in (
            ("dollars", account.dollars, settled.dollars, asked.dollars, _dollars),
            ("tokens", account.tokens, settled.tokens, asked.tokens, _whole),
            ("calls", account.calls, settled.calls, asked.calls, _whole),
        )
        if cap is not None and used + need > cap
    ]
    whose = "" if account.name.startswith("session") else f" of {account.name}"
    return BudgetExceeded(f"The budget{whose} would be passed ({'; '.join(parts)}).")


def _close(reservation: Reservation) -> None:
    if not reservation.open:
        raise ValueError("the reservation is closed already")
    reservation.open = False
    for purse in reservation.purses:
        purse.out -= 1
        purse.reserved = purse.reserved.minus(reservation.amount)


def _tight(purses: Purses, amount: Amount) -> list[Purse]:
    return [purse for purse in purses if not purse.fits(amount)]


def _spent(tight: Sequence[Purse]) -> Purse | None:
    """Return a purse to which nothing can come back any more."""
    return next((purse for purse in tight if not purse.out), None)


def _give_up(line: deque[_Waiter], error: BudgetExceeded) -> None:
    # Nobody is left to give anything back. All who wait are told, not only the first: a smaller request that
    # slipped in behind would be cancelled in mid-flight by the end of the run, and its answer lost.
    while line:
        future = line.popleft().future
        if not future.done():
            future.set_exception(BudgetExceeded(str(error)))


def _dollars(value: Decimal | int) -> str:
    return f"${value:.6f}".rstrip("0").rstrip(".")


def _whole(value: Decimal | int) -> str:
    return f"{value:,}"
