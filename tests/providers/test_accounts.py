"""Several accounts in one process: held against all or none, each with its own line."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.calls import CallStore
from db.errors import BudgetExceeded
from db.maintenance import Maintenance
from providers import CacheMode, Gateway
from providers.budget import Amount, Budget, Capped
from providers.caps import Account, CapPlan, Caps, Charge, KeyCaps, day_of, key_label
from providers.testing_server import ModelServer
from tests.providers.asking import book_of, request, scope

ONE = Amount(Decimal("0.01"), 100, 1)
DAY = Account(name=f"day {day_of()}")


def spent(budget: Budget, name: str) -> Amount:
    return budget._purses[name].settled


async def test_a_call_is_held_against_all_its_accounts_or_none() -> None:
    plan = CapPlan(run=Caps(calls=2), day=Caps(dollars=Decimal("0.03")), keys={"K": KeyCaps(tokens=150, per="day")})
    budget = Budget(plan=plan)
    held = await budget.reserve(ONE, Charge("r-1", "K#1"))
    assert set(budget._purses) == {"session", "run r-1", f"day {day_of()}", f"key K#1 {day_of()}"}
    waiting = asyncio.create_task(budget.reserve(ONE, Charge("r-1", "K#1")))
    await asyncio.sleep(0)
    assert budget.reserved == ONE, "what does not fit one account is held against none"
    other = await budget.reserve(ONE, Charge("r-2", "K#2"))
    budget.settle(held, Amount(Decimal("0.001"), 10, 1))
    budget.release(await waiting)
    budget.settle(other, ONE)
    assert spent(budget, "run r-1").tokens == spent(budget, f"key K#1 {day_of()}").tokens == 10
    assert spent(budget, DAY.name) == budget.settled == Amount(Decimal("0.011"), 110, 2)


async def test_who_waits_for_one_key_does_not_hold_up_another() -> None:
    budget = Budget(plan=CapPlan(keys={"A": KeyCaps(calls=1), "B": KeyCaps(calls=9)}))
    held = await budget.reserve(ONE, Charge(key="A#1"))
    stuck = asyncio.create_task(budget.reserve(ONE, Charge(key="A#1")))
    await asyncio.sleep(0)
    free = await asyncio.wait_for(budget.reserve(ONE, Charge(key="B#1")), 1)
    budget.settle(held, ONE)
    with pytest.raises(BudgetExceeded, match=r"The budget of key A#1 would be passed \(calls: cap 1, used 1, the next"):
        await stuck
    budget.release(free)


async def test_a_run_that_goes_on_and_a_day_that_has_begun_count_what_was_spent() -> None:
    asked: list[str] = []

    def before(account: Account) -> Amount | None:
        asked.append(account.name)
        return Amount(calls=3) if account.name.startswith("run") else None

    budget = Budget(plan=CapPlan(run=Caps(calls=4), day=Caps(calls=9)), spent_before=before)
    budget.settle(await budget.reserve(ONE, Charge("r-1")), ONE)
    with pytest.raises(BudgetExceeded, match="of run r-1 would be passed"):
        await budget.reserve(ONE, Charge("r-1"))
    assert asked == ["run r-1", DAY.name], "each account is asked for once"


def test_an_estimate_is_made_only_where_something_is_capped() -> None:
    budget = Budget(plan=CapPlan(run=Caps(tokens=5), keys={"K": KeyCaps(dollars=Decimal(1))}))
    assert budget.caps() == Capped(dollars=False, tokens=False)
    assert budget.caps(Charge("r", "")) == Capped(dollars=False, tokens=True)
    assert budget.caps(Charge("r", "K#1")) == Capped(dollars=True, tokens=True)
    assert budget.caps(Charge("r", "L#1")) == Capped(dollars=False, tokens=True)
    assert (Budget(calls=3).calls, Budget(tokens=4).tokens, Budget(dollars=Decimal(5)).dollars) == (3, 4, Decimal(5))


def test_a_label_tells_keys_apart_and_holds_none() -> None:
    key = "sk-planted-0123456789abcdef"
    label = key_label("OPENAI_API_KEY", key)
    assert label == key_label("OPENAI_API_KEY", key) != key_label("OPENAI_API_KEY", key + "0")
    assert label.startswith("OPENAI_API_KEY#")
    assert len(label) == len("OPENAI_API_KEY#") + 8
    assert not any(key[i : i + 5] in label for i in range(len(key) - 5))


@settings(max_examples=150, deadline=None)
@given(
    calls=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(1, 4)), min_size=1, max_size=40),
    caps=st.tuples(st.integers(1, 30), st.integers(1, 12), st.integers(1, 12)),
    chance=st.integers(0, 2**32),
)
def test_every_account_keeps_its_cap_on_every_schedule(
    calls: list[tuple[int, int, int]], caps: tuple[int, int, int], chance: int
) -> None:
    dice = random.Random(chance)
    session, run, key = caps
    keys = {name: KeyCaps(calls=key) for name in ("K0", "K1")}
    budget = Budget(plan=CapPlan(session=Account(name="s", calls=session), run=Caps(calls=run), keys=keys))

    def check() -> None:
        for purse in budget._purses.values():
            assert purse.out >= 0
            assert purse.reserved.calls >= 0
            cap = purse.account.calls
            assert cap is None or purse.settled.calls + purse.reserved.calls <= cap

    async def call(run: int, key: int, n: int) -> None:
        charge = Charge(f"r{run}", f"K{key}#1" if key < 2 else "")
        try:
            held = await budget.reserve(Amount(calls=n), charge)
        except BudgetExceeded:
            return
        check()
        try:
            await asyncio.sleep(dice.random() / 1e6)
        except asyncio.CancelledError:
            budget.release(held)
            raise
        budget.settle(held, Amount(calls=dice.randint(0, n)))

    async def main() -> None:
        tasks = [asyncio.create_task(call(*one)) for one in calls]
        while not all(task.done() for task in tasks):
            check()
            if dice.random() < 0.2:
                dice.choice(tasks).cancel()
            await asyncio.sleep(0)
        await asyncio.wait(tasks)

    asyncio.run(asyncio.wait_for(main(), 120))
    check()
    assert all(purse.reserved == Amount() and not purse.out for purse in budget._purses.values())
    assert not budget._lines


async def test_what_was_withheld_was_paid_and_is_written_down(store: CallStore, tmp_path: Path) -> None:
    async with (
        ModelServer(script=["content-filter"]) as server,
        Gateway(book_of(server, tmp_path), store) as gateway,
    ):
        asked = await gateway.ask(request(), scope=scope(), node="draft")
        billed = server.ledger
    (failure,) = Maintenance(store.database).calls(status="failed")
    assert len(asked.failures) == 1
    assert (failure.kind, failure.attempts, failure.node, failure.run_id) == ("content_filter", 1, "draft", "r-1")
    assert store.get([failure.key or ""]) == {}
    spent = store.spent("r-1")
    assert (spent.calls, spent.prompt_tokens, spent.completion_tokens) == (
        1,
        billed.prompt_tokens,
        billed.completion_tokens,
    )


@pytest.mark.parametrize("cache", ["off", "read-only"])
async def test_what_is_not_kept_was_paid_nevertheless(store: CallStore, tmp_path: Path, cache: CacheMode) -> None:
    async with ModelServer() as server, Gateway(book_of(server, tmp_path), store, cache=cache) as gateway:
        await gateway.ask(request(), 3, scope=scope(), node="draft")
    assert store.spent("r-1").calls == 3
    assert Maintenance(store.database).calls() == ()


async def test_a_spent_budget_is_no_failed_call(store: CallStore, tmp_path: Path) -> None:
    budget = Budget(calls=1)
    async with ModelServer() as server, Gateway(book_of(server, tmp_path), store, budget=budget) as gateway:
        with pytest.raises(BudgetExceeded):
            await gateway.ask(request(), 2, scope=scope(), node="draft")
    assert Maintenance(store.database).calls(status="failed") == ()
