"""The shared budget over real processes on a real Redis: the cap holds at every moment, and nothing leaks."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.errors import BudgetExceeded
from providers.budget import Amount
from providers.caps import Account, CapPlan, Caps, Charge, KeyCaps
from providers.redis_link import RedisAway, RedisLink, Script
from providers.shared_budget import Books, SharedBudget
from tests.providers.redis_door import REDIS_URL, Door, needs_redis
from tests.providers.spending_process import plan_of, store_of
from tests.providers.standstill import Standstill

pytestmark = needs_redis

LEASE_S = 1.0
CALL = Amount(Decimal("0.01"), 100, 1)


@pytest.fixture(autouse=True)
def _logs_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a command run in this process before may have done to the logger."""
    logger = logging.getLogger("colonnade")
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "level", logging.INFO)


@pytest.fixture
async def link() -> AsyncIterator[RedisLink]:
    # A machine that stands still is no Redis that is away.
    link = RedisLink(REDIS_URL, prefix=f"{{t{uuid.uuid4().hex[:8]}}}:", timeout_s=60)
    yield link
    await wipe(link)
    await link.aclose()


async def wipe(link: RedisLink) -> None:
    keys = await link.call("KEYS", link.prefix + "*")
    assert isinstance(keys, list)
    for key in keys:
        assert isinstance(key, bytes)
        await link.call("DEL", key)


def plan(**caps: Any) -> CapPlan:
    return CapPlan(session=Account(name="study s", **caps))


@asynccontextmanager
async def budgets(link: RedisLink, plan: CapPlan, *, count: int = 1, **more: Any) -> AsyncIterator[list[SharedBudget]]:
    opened = [SharedBudget(link, plan, **more) for _ in range(count)]
    try:
        yield opened
    finally:
        for budget in opened:
            await budget.aclose()


async def emptied(budget: SharedBudget) -> Books:
    """Wait until nothing is held or doubtful any more."""
    return await shown(budget, lambda books: not books.out and not books.lost)


async def shown(budget: SharedBudget, so: Callable[[Books], bool]) -> Books:
    """Wait until the books are so."""
    async with asyncio.timeout(120):
        while not so(books := await budget.books()):  # noqa: ASYNC110 - the books are in Redis
            await asyncio.sleep(0.02)
    return books


async def in_line(budget: SharedBudget) -> None:
    """Wait until a request of this process has its place in the line."""
    async with asyncio.timeout(120):
        while not any(lane.ticket for lane in budget._lanes.values()):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)


class Store:
    """A call store that tells what was spent only while it is open."""

    def __init__(self) -> None:
        self.spent = Amount()
        self.open = threading.Event()
        self.open.set()

    def __call__(self, account: Account) -> Amount:
        self.open.wait(120)
        return self.spent


async def test_what_one_holds_the_other_has_not(link: RedisLink) -> None:
    async with budgets(link, plan(dollars=Decimal("0.025")), count=2) as (one, two):
        held, other = await one.reserve(CALL), await two.reserve(CALL)
        assert (await two.books()).reserved == Amount(Decimal("0.02"), 200, 2)
        assert one.reserved == two.reserved == CALL
        third = asyncio.create_task(two.reserve(CALL))
        await asyncio.sleep(0.05)
        assert not third.done()
        one.settle(held, Amount(Decimal("0.0000000004"), 1, 1))
        held = await asyncio.wait_for(third, 120)
        two.release(held)
        two.release(other)
        assert (await emptied(one)).settled == Amount(Decimal("0.000000001"), 1, 1), "parts of a nanodollar round up"
        with pytest.raises(ValueError, match="closed already"):
            two.settle(held, CALL)


async def test_with_nothing_out_anywhere_it_is_exceeded_and_the_numbers_are_said(link: RedisLink) -> None:
    async with budgets(link, plan(tokens=150), count=2) as (one, two):
        held = await one.reserve(CALL)
        waiting = [asyncio.create_task(two.reserve(CALL)) for _ in range(3)]
        await asyncio.sleep(0.02)
        one.settle(held, CALL)
        for task in waiting:
            with pytest.raises(BudgetExceeded, match="tokens: cap 150, used 100, the next request may need 100"):
                await task
        assert await emptied(one) == Books(CALL, Amount(), Amount(), 0, 0)


async def test_all_accounts_or_none(link: RedisLink) -> None:
    key = Charge("r-1", "A_KEY#12")
    caps = CapPlan(
        session=Account(name="study s", calls=10),
        run=Caps(calls=3),
        day=Caps(calls=9),
        keys={"A_KEY": KeyCaps(calls=1)},
    )
    async with budgets(link, caps) as (budget,):
        held = await budget.reserve(CALL, key)
        free = await budget.reserve(CALL, Charge("r-1"))
        waiting = asyncio.create_task(budget.reserve(CALL, key))
        await asyncio.sleep(0.02)
        run = Account(name="run r-1")
        assert (await budget.books(run)).out == 2, "what waits for its key must not hold the run's account"
        budget.settle(held, CALL)
        with pytest.raises(BudgetExceeded, match=r"of key A_KEY#12 would be passed.*calls: cap 1, used 1"):
            await waiting
        budget.release(free)
        await emptied(budget)
        assert (await budget.books(run)).settled == CALL


async def test_what_was_spent_before_counts(link: RedisLink) -> None:
    def before(account: Account) -> Amount:
        return Amount(calls=4) if account.name == "study s" else Amount()

    async with budgets(link, plan(calls=5), count=2, spent_before=before) as (one, two):
        one.settle(await one.reserve(CALL), CALL)
        with pytest.raises(BudgetExceeded, match="cap 5, used 5"):
            await two.reserve(CALL)


async def test_nobody_overtakes_a_large_request_of_another_process(link: RedisLink) -> None:
    async with budgets(link, plan(calls=4), count=2) as (one, two):
        held = [await one.reserve(CALL) for _ in range(3)]
        large = asyncio.create_task(two.reserve(Amount(calls=4)))
        await in_line(two)
        small = asyncio.create_task(one.reserve(CALL))
        await asyncio.sleep(0.05)
        assert not small.done(), "it would fit, but the large one was there before"
        for reservation in held:
            one.release(reservation)
        two.release(await asyncio.wait_for(large, 120))
        one.release(await asyncio.wait_for(small, 120))


async def test_a_cancelled_waiter_leaves_the_line(link: RedisLink) -> None:
    async with budgets(link, plan(calls=2), count=2) as (one, two):
        held = await one.reserve(CALL)
        large = asyncio.create_task(two.reserve(Amount(calls=2)))
        await in_line(two)
        large.cancel()
        await asyncio.wait({large})
        one.release(await asyncio.wait_for(one.reserve(CALL), 120))
        one.release(held)
        await emptied(one)


async def test_a_reservation_cancelled_on_its_way_is_given_back(link: RedisLink) -> None:
    async with budgets(link, plan(calls=50)) as (budget,):
        await budget.books()
        for turns in range(12):
            task = asyncio.create_task(budget.reserve(CALL))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                budget.release(task.result())
        assert await emptied(budget) == Books(Amount(), Amount(), Amount(), 0, 0)


async def test_one_that_was_silent_too_long_settles_exactly(link: RedisLink) -> None:
    async with budgets(link, plan(calls=5), count=2, lease_s=0.2, grace_s=60) as (one, two):
        held, other = await one.reserve(CALL), await one.reserve(CALL)
        time.sleep(0.3)  # noqa: ASYNC251 - a process that is stopped is what is meant
        assert (await two.books()).doubtful == CALL.plus(CALL)
        one.settle(held, Amount(tokens=7, calls=1))
        one.release(other)
        assert await emptied(two) == Books(Amount(tokens=7, calls=1), Amount(), Amount(), 0, 0)


async def test_what_the_dead_may_have_spent_is_charged_until_the_store_was_asked(link: RedisLink) -> None:
    store = Store()
    times: dict[str, Any] = {"grace_s": 0.6, "spent_before": store}
    dead = SharedBudget(link, plan(calls=5), lease_s=0.2, **times)
    await dead.reserve(Amount(calls=4))
    assert dead._beating is not None
    dead._beating.cancel()
    # The lease of one that lives lasts longer than a machine may stand still.
    async with budgets(link, plan(calls=5), lease_s=9, **times) as (budget,):
        small = await budget.reserve(Amount(calls=1))
        store.open.clear()
        large = asyncio.create_task(budget.reserve(Amount(calls=4)))
        await shown(budget, lambda books: books.doubtful == Amount(calls=4))
        await asyncio.sleep(0.1)
        assert not large.done()
        store.open.set()
        budget.release(await asyncio.wait_for(large, 120))
        budget.release(small)
        assert await emptied(budget) == Books(Amount(), Amount(), Amount(), 0, 0)


async def test_what_is_settled_after_the_store_was_asked_is_counted_once(link: RedisLink) -> None:
    store = Store()
    times: dict[str, Any] = {"lease_s": 0.2, "grace_s": 0.1, "spent_before": store}
    silent = SharedBudget(link, plan(calls=9), **times)
    held = [await silent.reserve(CALL) for _ in range(3)]
    assert silent._beating is not None
    silent._beating.cancel()
    async with budgets(link, plan(calls=9), **times) as (budget,):
        budget.release(await budget.reserve(CALL))
        await asyncio.sleep(0.3)
        assert await emptied(budget) == Books(Amount(), Amount(), Amount(), 0, 0), "the store shows nothing yet"
        # As it is asked once more, one of the two is there to be seen, and when it answers both are.
        store.open.clear()
        store.spent = CALL
        silent.settle(held[0], CALL)
        silent.settle(held[1], CALL)
        silent.release(held[2])
        await shown(budget, lambda books: (books.doubtful, books.lost) == (CALL.plus(CALL), 2))
        store.spent = CALL.plus(CALL)
        store.open.set()
        assert (await emptied(budget)).settled == store.spent
    await silent.aclose()


async def test_where_the_store_cannot_say_the_worst_case_stays_charged(link: RedisLink) -> None:
    dead = SharedBudget(link, plan(calls=5), lease_s=0.2, grace_s=0.1)
    await dead.reserve(CALL)
    assert dead._beating is not None
    dead._beating.cancel()
    async with budgets(link, plan(calls=5), lease_s=0.2, grace_s=0.1) as (budget,):
        budget.release(await budget.reserve(CALL))
        await asyncio.sleep(0.2)
        assert (await emptied(budget)).settled == CALL


async def test_the_budget_waits_for_redis_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    async with Door() as door:
        link = RedisLink(door.url, prefix=f"{{t{uuid.uuid4().hex[:8]}}}:", timeout_s=60, retry_s=0.05)
        async with budgets(link, plan(calls=3)) as (budget,):
            held = await budget.reserve(CALL)
            await door.shut()
            waiting = asyncio.create_task(budget.reserve(CALL))
            budget.settle(held, CALL)
            await asyncio.sleep(0.6)
            assert not waiting.done()
            assert budget.settled == CALL, "a settlement is never held up"
            await door.open()
            budget.release(await asyncio.wait_for(waiting, 120))
            assert (await emptied(budget)).settled == CALL
            await wipe(link)
        await link.aclose()
    said = [record.message for record in caplog.records]
    assert sum("shared budget waits for Redis" in one for one in said) == 1
    assert sum("went away" in one for one in said) == 1
    assert sum(one.endswith("answers again.") for one in said) == 1


async def test_settlements_that_cannot_be_sent_are_said_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async with Door() as door:
        link = RedisLink(door.url, prefix=f"{{t{uuid.uuid4().hex[:8]}}}:", timeout_s=60, retry_s=0.05)
        budget = SharedBudget(link, plan(calls=3), lease_s=0.3)
        held = await budget.reserve(CALL)
        await door.shut()
        budget.settle(held, CALL)
        await budget.aclose()
        await link.aclose()
    assert any("1 settlements of the shared budget could not be sent" in record.message for record in caplog.records)
    async with RedisLinkToWipe(link.prefix):
        pass


async def test_books_that_redis_lost_are_made_anew_with_what_is_under_way(
    link: RedisLink, caplog: pytest.LogCaptureFixture
) -> None:
    stored = Amount()

    def before(account: Account) -> Amount:
        return stored

    async with budgets(link, plan(calls=4), count=2, lease_s=5, spent_before=before) as (one, two):
        held = await one.reserve(CALL)
        one.settle(await one.reserve(CALL), CALL)
        stored = CALL
        other = await two.reserve(CALL)
        await wipe(link)
        again = await asyncio.wait_for(two.reserve(CALL), 120)
        assert (await two.books()) == Books(CALL, Amount(Decimal("0.03"), 300, 3), Amount(), 3, 0)
        one.settle(held, CALL)
        two.release(other)
        two.settle(again, CALL)
        assert (await emptied(one)).settled.calls == 3
    assert any("Redis lost the account 'study s'" in record.message for record in caplog.records)


async def test_a_script_that_fails_is_no_silence(link: RedisLink) -> None:
    budget = SharedBudget(link, plan(calls=4))
    held = await budget.reserve(CALL)
    await link.call("SET", f"{link.prefix}budget:held:{budget._me}", "no hash any more")
    budget.settle(held, CALL)
    await asyncio.sleep(0.1)
    with pytest.raises(Exception, match="WRONGTYPE"):
        await budget.reserve(CALL)
    await budget.aclose()


class RedisLinkToWipe:
    """A link that takes away what a test left, at its end."""

    def __init__(self, prefix: str) -> None:
        self._link = RedisLink(REDIS_URL, prefix=prefix, timeout_s=60)

    async def __aenter__(self) -> RedisLink:
        return self._link

    async def __aexit__(self, *_: object) -> None:
        await wipe(self._link)
        await self._link.aclose()


class Spender:
    """A process that spends; a new one takes the place of one that died."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._process: subprocess.Popen[str] | None = None

    def begin(self, told: dict[str, Any]) -> None:
        if self._process is None or self._process.poll() is not None:
            self.end()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.providers.spending_process", str(self._store)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == "ready\n"
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()

    def wait(self) -> dict[str, int]:
        """Return what became of the calls; nothing where the process died."""
        assert self._process is not None
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline() or "{}"))

    def end(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
            self._process.wait(120)


@pytest.fixture(scope="module")
def spenders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Spender]]]:
    store = tmp_path_factory.mktemp("spending") / "store"
    pool = [Spender(store) for _ in range(4)]
    yield store, pool
    for spender in pool:
        spender.end()


def schedule(dice: random.Random, calls: int, weights: list[int], *, crash: bool) -> list[list[object]]:
    fates = dice.choices(["settle", "fail", "cancel"], weights, k=calls)
    if crash:
        fates[dice.randrange(calls)] = "crash"
    return [
        [
            str(Decimal(dice.randint(0, 99)) / 10_000),
            dice.randint(0, 200),
            dice.randint(0, 100),
            fate,
            dice.randint(0, 40),
        ]
        for fate in fates
    ]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    processes=st.integers(1, 4),
    crashes=st.integers(0, 3),
    weights=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    caps=st.tuples(st.integers(1, 150), st.integers(1, 30_000), st.integers(1, 300)),
    run_calls=st.integers(1, 120),
    chance=st.integers(0, 2**32),
)
def test_the_cap_holds_over_processes_on_every_schedule(
    spenders: tuple[Path, list[Spender]],
    processes: int,
    crashes: int,
    weights: list[int],
    caps: tuple[int, int, int],
    run_calls: int,
    chance: int,
) -> None:
    """256 calls in flight over 1 to 4 processes, some of which die: settled + reserved + doubtful <= cap throughout."""
    store, pool = spenders
    store.unlink(missing_ok=True)
    dice = random.Random(chance)
    told: dict[str, Any] = {
        "prefix": f"{{t{uuid.uuid4().hex[:8]}}}:",
        "name": f"s{chance}",
        "caps": [str(Decimal(caps[0]) / 100), caps[1], caps[2]],
        "run_calls": run_calls,
        "lease_s": LEASE_S,
    }
    for number, spender in enumerate(pool[:processes]):
        calls = schedule(dice, 256 // processes, weights, crash=number < min(crashes, processes))
        spender.begin({**told, "calls": calls})
    asyncio.run(_watch_and_reckon(told, store, pool[:processes]))


async def _watch_and_reckon(told: dict[str, Any], store: Path, pool: list[Spender]) -> None:
    plan = plan_of(told)
    accounts = [plan.session, *(Account(name=f"run {told['name']}-{n}", calls=told["run_calls"]) for n in range(3))]
    async with RedisLinkToWipe(told["prefix"]) as link:
        survivor = SharedBudget(
            link, plan, spent_before=lambda one: store_of(store, one), lease_s=LEASE_S, grace_s=LEASE_S / 2
        )
        ended = asyncio.gather(*(asyncio.to_thread(spender.wait) for spender in pool))
        looks: list[tuple[Account, Books]] = []
        async with Standstill() as stood:
            while not ended.done():
                looks += [(account, await survivor.books(account)) for account in accounts]
                await asyncio.sleep(0.002)
        counts = await ended
        # A machine so busy that a process stood still for its whole lease makes it one that died and lives again.
        exact = not any(one.get("stood_still_ms", 0) > LEASE_S * 900 for one in counts)
        assert len(looks) > 8 or stood.longest_s > 0.2
        for look in looks if exact else ():
            _check(*look)
        # One that lives looks after what the dead left.
        survivor.release(await survivor.reserve(Amount(calls=0)))
        for account in accounts:
            async with asyncio.timeout(120):
                while (books := await survivor.books(account)).out or books.lost:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.02)
            stored = store_of(store, account)
            assert (books.reserved, books.doubtful) == (Amount(), Amount()), "something leaked"
            assert books.settled == stored or not exact
        if all(counts):
            assert sum(one["settled"] for one in counts) == store_of(store, accounts[0]).calls
        await survivor.aclose()


def _check(account: Account, books: Books) -> None:
    total = books.settled.plus(books.reserved).plus(books.doubtful)
    for name in ("dollars", "tokens", "calls"):
        cap = getattr(account, name)
        assert min(getattr(books.reserved, name), getattr(books.doubtful, name)) >= 0
        assert cap is None or getattr(total, name) <= cap, (account, books)


async def test_a_wrong_script_is_an_error_and_no_outage(link: RedisLink) -> None:
    with pytest.raises(Exception, match="Script attempted"):
        await link.run(Script("return nothing_of_that_name"), [], [])
    assert not link.away


async def test_a_redis_that_never_answered_is_away(caplog: pytest.LogCaptureFixture) -> None:
    link = RedisLink("redis://someone:hush@127.0.0.1:1/0")
    for _ in range(2):
        with pytest.raises(RedisAway):
            await link.call("PING")
    await link.aclose()
    assert "hush" not in caplog.text
    assert caplog.text.count("went away") == 1
