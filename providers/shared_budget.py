"""The budget of several processes, kept in Redis: the same face as `Budget`, the same caps, one set of books.

Invariant for each account at every moment: settled + reserved + doubtful <= cap. A process holds its reservations by a
lease, which it renews while it lives. When it dies, what it held becomes doubtful, which counts against the cap like
any reservation, until another process has looked into the call store and put what is found there in its place
(docs/decisions/0005-shared-budget.md). Where Redis does not answer, `reserve` waits, and settlements wait to be sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

from db.errors import BudgetExceeded
from providers import budget_scripts as scripts
from providers.budget import Amount, Budget, Purses, Reservation, SpentBefore, exceeded
from providers.caps import Account, CapPlan, Charge
from providers.redis_link import Field, RedisAway, RedisLink, Reply, Script

__all__ = ["Books", "SharedBudget"]

_NANO = Decimal(1_000_000_000)
_POLL_S = (0.005, 0.1)
_CLOSE_BATCH = 64
_RETRY_S = 0.25
_COMMIT_S = 1.0
"""Longer than an answer takes from its settlement to its commit."""
_NOBODY = Charge()
_LOG = logging.getLogger("colonnade")


class Books(NamedTuple):
    """What Redis knows of an account."""

    settled: Amount
    reserved: Amount
    doubtful: Amount
    """Worst cases of processes that died, until the call store has been asked."""
    out: int
    """Reservations that are held."""
    lost: int
    """Reservations that are doubtful."""


class _Waiter(NamedTuple):
    reservation: SharedReservation
    future: asyncio.Future[None]


class SharedReservation(Reservation):
    """A reservation with its name in Redis."""

    __slots__ = ("id",)

    def __init__(self, amount: Amount, purses: Purses, name: str) -> None:
        super().__init__(amount, purses)
        self.id = name


@dataclass(slots=True, kw_only=True)
class _Lane:
    """The line of those in this process who are charged to the same accounts; only its first asks Redis."""

    name: str
    waiting: deque[_Waiter] = field(default_factory=deque)
    ticket: int = 0
    task: asyncio.Task[None] | None = None


class SharedBudget(Budget):
    """Caps that hold over all processes that use one Redis; belongs to one event loop, closed with `aclose`.

    `settled` and `reserved` are this process' own part; `books` reads the whole. `lease_s` is how long a process may
    be silent before it counts as dead, `grace_s` how much longer its worst cases stay charged.
    """

    def __init__(
        self,
        link: RedisLink,
        plan: CapPlan,
        *,
        spent_before: SpentBefore | None = None,
        lease_s: float = 30.0,
        grace_s: float = 30.0,
    ) -> None:
        super().__init__(plan=plan)
        self._link = link
        self._prior = spent_before
        self._lease_ms = int(lease_s * 1000)
        self._grace_ms = int(grace_s * 1000)
        self._me = secrets.token_hex(8)
        self._serial = 0
        self._generations: dict[str, bytes] = {}
        self._accounts: dict[str, Account] = {}
        self._meeting = asyncio.Lock()
        self._held: dict[str, SharedReservation] = {}
        self._lanes: dict[Purses, _Lane] = {}
        self._closing: deque[tuple[str, Amount]] = deque()
        self._flushing: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._turn = asyncio.Event()
        self._paused = False
        self._broken: Exception | None = None

    async def reserve(self, amount: Amount, charge: Charge = _NOBODY) -> SharedReservation:
        """Hold an amount against all accounts of a call; waits while others may still give back what they hold.

        Waits too, without end, while Redis does not answer. Raises `BudgetExceeded` as `Budget.reserve` does.
        """
        if self._broken is not None:
            raise self._broken
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat(), name="colonnade-budget-lease")
        purses = self._purses_of(charge)
        self._serial += 1
        reservation = SharedReservation(amount, purses, f"{self._serial}")
        lane = self._lanes.setdefault(purses, _Lane(name=f"{self._me}/{len(self._lanes)}"))
        try:
            if lane.waiting or not await self._try(reservation, lane, -1):
                await self._stand_in(lane, reservation)
        except BudgetExceeded:
            raise
        except BaseException:
            # It may have been granted in the moment in which we gave up; closing what was never held does nothing.
            self._send_closing(reservation.id, Amount())
            raise
        self._held[reservation.id] = reservation
        for purse in purses:
            purse.out += 1
            purse.reserved = purse.reserved.plus(amount)
        return reservation

    def settle(self, reservation: Reservation, actual: Amount) -> None:
        """Turn a reservation into what was really used; Redis hears of it soon, however long it is away."""
        super().settle(reservation, actual)
        self._forget(reservation, actual)

    def release(self, reservation: Reservation) -> None:
        """Give a reservation back whole."""
        super().release(reservation)
        self._forget(reservation, Amount())

    async def books(self, account: Account | None = None) -> Books:
        """Return what Redis knows of an account, of the session's by default; raises `RedisAway`."""
        name = (account or self.plan.session).name
        reply = await self._run(scripts.READ, name)
        values = [int(value) if isinstance(value, bytes) else 0 for value in _list(reply)]
        settled, reserved, doubtful = (
            Amount(Decimal(values[i]) / _NANO, values[i + 1], values[i + 2]) for i in (0, 3, 6)
        )
        return Books(settled, reserved, doubtful, values[9], values[10])

    async def aclose(self) -> None:
        """Send what is settled and leave; what cannot be sent within a lease is left to the lease's end."""
        for lane in self._lanes.values():
            if lane.task is not None:
                lane.task.cancel()
                await asyncio.wait({lane.task})
        if self._flushing is not None:
            _, late = await asyncio.wait({self._flushing}, timeout=self._lease_ms / 1000)
            if late:
                self._flushing.cancel()
                await asyncio.wait(late)
                _LOG.warning(
                    "Redis did not come back: %d settlements of the shared budget could not be sent and stay "
                    "charged with their worst cases until the call store has been asked.",
                    len(self._closing),
                )
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait({self._beating})
            self._beating = None
            self._post(scripts.LEAVE, "")

    def _forget(self, reservation: Reservation, actual: Amount) -> None:
        if isinstance(reservation, SharedReservation):
            del self._held[reservation.id]
            self._send_closing(reservation.id, actual)

    def _send_closing(self, name: str, actual: Amount) -> None:
        self._closing.append((name, actual))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(), name="colonnade-budget-settle")

    async def _flush(self) -> None:
        try:
            while self._closing:
                batch = [self._closing[i] for i in range(min(_CLOSE_BATCH, len(self._closing)))]
                fields = [value for name, actual in batch for value in (name, *_units(actual))]
                try:
                    await self._run(scripts.CLOSE, *fields)
                except RedisAway:
                    await self._pause()
                    continue
                except Exception as error:  # noqa: BLE001 - the next reservation raises it
                    self._broken = error
                    return
                for _ in batch:
                    self._closing.popleft()
                self._turn.set()
        finally:
            self._flushing = None

    async def _try(self, reservation: SharedReservation, lane: _Lane, ticket: int) -> bool:
        """Ask Redis until it answers: True is granted, False is wait; raises `BudgetExceeded`."""
        accounts = [purse.account for purse in reservation.purses]
        while True:
            try:
                verdict, *said = await self._ask(reservation, accounts, lane, ticket)
            except RedisAway:
                await self._pause()
                continue
            self._paused = False
            if verdict == b"unknown":
                continue
            if verdict == b"over":
                account = next(one for one in accounts if one.name == _text(said[0]))
                settled = Amount(Decimal(_int(said[1])) / _NANO, _int(said[2]), _int(said[3]))
                raise exceeded(account, settled, reservation.amount)
            if verdict == b"wait" and ticket >= 0:
                lane.ticket = _int(said[0])
            return verdict == b"ok"

    async def _ask(
        self, reservation: SharedReservation, accounts: list[Account], lane: _Lane, ticket: int
    ) -> list[Reply]:
        for account in accounts:
            if account.name not in self._generations:
                await self._meet(account, None)
        fields: list[Field] = [reservation.id, lane.name, ticket, *_units(reservation.amount)]
        seen = {account.name: self._generations[account.name] for account in accounts}
        for account in accounts:
            fields += (account.name, seen[account.name], *_caps(account))
        reply = _list(await self._run(scripts.RESERVE, *fields))
        if reply[0] == b"unknown":
            lost = next(one for one in accounts if one.name == _text(reply[1]))
            await self._meet(lost, seen[lost.name])
        return reply

    async def _stand_in(self, lane: _Lane, reservation: SharedReservation) -> None:
        waiter = _Waiter(reservation, asyncio.get_running_loop().create_future())
        lane.waiting.append(waiter)
        if lane.task is None:
            lane.task = asyncio.create_task(self._serve(lane), name="colonnade-budget-line")
        await waiter.future

    async def _serve(self, lane: _Lane) -> None:
        """Ask for the first of a lane until it is granted, then for the next."""
        pause_s = _POLL_S[0]
        try:
            while lane.waiting:
                reservation, future = lane.waiting[0]
                if future.done() or await self._try(reservation, lane, lane.ticket):
                    lane.waiting.popleft()
                    pause_s = _POLL_S[0]
                    self._grant(lane, reservation, future)
                else:
                    self._turn.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._turn.wait(), pause_s)
                    pause_s = min(2 * pause_s, _POLL_S[1])
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            # All of them and not only the first, for the reason given in `Budget`.
            for waiter in lane.waiting:
                if not waiter.future.done():
                    told = BudgetExceeded(str(error)) if isinstance(error, BudgetExceeded) else error
                    waiter.future.set_exception(told)
            lane.waiting.clear()
            lane.ticket = 0
        finally:
            lane.task = None

    def _grant(self, lane: _Lane, reservation: SharedReservation, future: asyncio.Future[None]) -> None:
        if not future.done():
            lane.ticket = 0
            future.set_result(None)
            return
        # Cancelled: what may have been granted is given back, and the place in line is left, unless another takes it.
        self._send_closing(reservation.id, Amount())
        if not lane.waiting and lane.ticket:
            lane.ticket = 0
            names = [purse.account.name for purse in reservation.purses]
            self._post(scripts.LEAVE, lane.name, *names)

    async def _meet(self, account: Account, seen: bytes | None) -> None:
        """Learn the generation of an account, making it where it is new; `seen` is one that Redis no longer knows."""
        async with self._meeting:
            if self._generations.get(account.name) != seen:
                return
            if seen is not None:
                _LOG.warning("Redis lost the account '%s' of the shared budget; it is made anew.", account.name)
                # What was settled just before is on its way into the call store, which is read next.
                await asyncio.sleep(_COMMIT_S)
            spent = None if self._prior is None else await asyncio.to_thread(self._prior, account)
            quiet = 0 if seen is None else self._lease_ms
            fields = (account.name, secrets.token_hex(8), *_units(spent or Amount()), quiet)
            reply = await self._run(scripts.OPEN, *fields)
            if not isinstance(reply, bytes):
                raise TypeError(f"Redis gave no generation of '{account.name}': {reply!r}")
            if seen is not None:
                await self._adopt(account)
            self._generations[account.name] = reply
            self._accounts[account.name] = account

    async def _adopt(self, account: Account) -> None:
        for reservation in list(self._held.values()):
            names = [purse.account.name for purse in reservation.purses]
            if account.name in names:
                await self._run(scripts.ADOPT, reservation.id, *_units(reservation.amount), *names)

    async def _beat(self) -> None:
        """Keep the lease, take notice of accounts that Redis lost, and clear up after processes that died."""
        while True:
            await asyncio.sleep(self._lease_ms / 3000)
            try:
                seen = dict(self._generations)
                known = [value for pair in seen.items() for value in pair]
                for lost in _list(await self._run(scripts.BEAT, *known)):
                    await self._meet(self._accounts[_text(lost)], seen[_text(lost)])
                for dead in _list(await self._run(scripts.DOUBTFUL, self._grace_ms)):
                    process, *names = (_text(value) for value in _list(dead))
                    await self._clear(process, names)
            except RedisAway:
                continue
            except Exception:  # noqa: BLE001 - it is logged with its traceback
                # A database that cannot be read must not end the lease, and with it the hold on what is under way.
                _LOG.exception("The shared budget could not be looked after; it is tried again.")

    async def _clear(self, process: str, names: list[str]) -> None:
        fields: list[Field] = [process]
        for name in names:
            account = self._accounts.get(name) or Account(name=name)
            spent = None if self._prior is None else await asyncio.to_thread(self._prior, account)
            fields += (name, int(spent is not None), *_units(spent or Amount()))
        await self._run(scripts.CLEAR, *fields)
        _LOG.warning(
            "A process died with calls under way; the shared budget of %s is set to what the call store shows. "
            "Its unfinished calls may have been billed nevertheless.",
            ", ".join(names),
        )

    async def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            _LOG.warning("The shared budget waits for Redis at %s: no new call is made.", self._link.address)
        await asyncio.sleep(_RETRY_S)

    async def _run(self, script: Script, *fields: Field) -> Reply:
        return await self._link.run(script, [self._link.prefix + "budget:"], [self._me, self._lease_ms, *fields])

    def _post(self, script: Script, *fields: Field) -> None:
        key = self._link.prefix + "budget:"
        self._link.post("EVAL", script.text, 1, key, self._me, self._lease_ms, *fields)


def _units(amount: Amount) -> tuple[int, int, int]:
    """Return whole nanodollars (rounded up, so that no part of a cent is forgotten), tokens and calls."""
    return int((amount.dollars * _NANO).to_integral_value(ROUND_CEILING)), amount.tokens, amount.calls


def _caps(account: Account) -> tuple[Field, Field, Field]:
    dollars = account.dollars
    return (
        "" if dollars is None else int((dollars * _NANO).to_integral_value(ROUND_FLOOR)),
        "" if account.tokens is None else account.tokens,
        "" if account.calls is None else account.calls,
    )


def _list(reply: Reply) -> list[Reply]:
    if not isinstance(reply, list):
        raise TypeError(f"Redis gave {reply!r} where a list was due")
    return reply


def _text(reply: Reply) -> str:
    if not isinstance(reply, bytes):
        raise TypeError(f"Redis gave {reply!r} where a text was due")
    return reply.decode()


def _int(reply: Reply) -> int:
    if not isinstance(reply, int | bytes):
        raise TypeError(f"Redis gave {reply!r} where a number was due")
    return int(reply)
