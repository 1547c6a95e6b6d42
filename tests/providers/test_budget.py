"""The cap holds at every moment, whatever is reserved, settled, released and cancelled."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.errors import BudgetExceeded
from providers.budget import Amount, Budget

CALL = Amount(Decimal("0.01"), 100, 1)


def check(budget: Budget) -> None:
    for name in ("dollars", "tokens", "calls"):
        cap = getattr(budget, name)
        assert getattr(budget.reserved, name) >= 0
        if cap is not None:
            assert getattr(budget.settled, name) + getattr(budget.reserved, name) <= cap


async def test_reserve_settle_release() -> None:
    budget = Budget(dollars=Decimal("0.03"))
    one, two = await budget.reserve(CALL), await budget.reserve(CALL)
    assert budget.reserved == Amount(Decimal("0.02"), 200, 2)
    budget.settle(one, Amount(Decimal("0.004"), 40, 1))
    budget.release(two)
    assert budget.reserved == Amount()
    assert budget.settled == Amount(Decimal("0.004"), 40, 1)


async def test_a_reservation_is_closed_once() -> None:
    budget = Budget(calls=5)
    held = await budget.reserve(CALL)
    budget.release(held)
    with pytest.raises(ValueError, match="closed already"):
        budget.settle(held, CALL)


async def test_what_does_not_fit_waits_for_what_is_out_in_order() -> None:
    budget = Budget(tokens=250)
    one, two = await budget.reserve(CALL), await budget.reserve(CALL)
    third = asyncio.create_task(budget.reserve(CALL))
    fourth = asyncio.create_task(budget.reserve(Amount(tokens=1)))
    await asyncio.sleep(0)
    assert not third.done()
    assert not fourth.done(), "a smaller one must not overtake"
    budget.settle(one, Amount(tokens=10))
    await asyncio.sleep(0)
    assert third.done()
    assert fourth.done()
    check(budget)
    budget.release(two)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(dollars=Decimal("0.005")), r"dollars: cap \$0.005, used \$0, the next request may need \$0.01"),
        (Budget(tokens=99), "tokens: cap 99, used 0, the next request may need 100"),
        (Budget(calls=1, spent=Amount(calls=1)), "calls: cap 1, used 1, the next request may need 1"),
    ],
)
async def test_with_nothing_out_it_is_exceeded_and_the_numbers_are_said(budget: Budget, said: str) -> None:
    with pytest.raises(BudgetExceeded, match=said):
        await budget.reserve(CALL)


async def test_all_who_wait_are_told_once_nothing_can_come_back() -> None:
    budget = Budget(calls=1)
    held = await budget.reserve(CALL)
    waiting = [asyncio.create_task(budget.reserve(CALL)) for _ in range(3)]
    await asyncio.sleep(0)
    budget.settle(held, CALL)
    for task in waiting:
        with pytest.raises(BudgetExceeded):
            await task
    assert budget.reserved == Amount()


async def test_a_cancelled_waiter_leaves_the_line() -> None:
    budget = Budget(calls=2)
    held, other = await budget.reserve(CALL), await budget.reserve(CALL)
    first = asyncio.create_task(budget.reserve(Amount(calls=2)))
    second = asyncio.create_task(budget.reserve(CALL))
    await asyncio.sleep(0)
    first.cancel()
    budget.release(held)
    await asyncio.wait({first, second})
    assert second.result().amount == CALL
    budget.release(other)
    check(budget)


async def test_a_waiter_cancelled_in_the_moment_of_its_turn_gives_it_back() -> None:
    budget = Budget(calls=1)
    held = await budget.reserve(CALL)
    waiting = asyncio.create_task(budget.reserve(CALL))
    await asyncio.sleep(0)
    budget.release(held)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert budget.reserved == Amount()


async def test_more_than_reserved_is_booked_as_billed() -> None:
    budget = Budget(tokens=100)
    budget.settle(await budget.reserve(CALL), Amount(tokens=140))
    assert budget.settled.tokens == 140
    with pytest.raises(BudgetExceeded):
        await budget.reserve(Amount(tokens=1))


_AMOUNTS = st.builds(Amount, st.decimals(0, 2, places=3, allow_nan=False), st.integers(0, 200), st.integers(1, 3))


@settings(max_examples=150, deadline=None)
@given(
    amounts=st.lists(_AMOUNTS, min_size=1, max_size=40),
    caps=st.tuples(st.decimals(0, 10, places=2), st.integers(0, 1500), st.integers(0, 25)),
    chance=st.integers(0, 2**32),
)
def test_the_cap_holds_on_every_schedule(amounts: list[Amount], caps: tuple[Decimal, int, int], chance: int) -> None:
    dice = random.Random(chance)
    budget = Budget(*caps)
    used: list[Amount] = []

    async def call(amount: Amount) -> None:
        await asyncio.sleep(dice.random() / 1e6)
        try:
            held = await budget.reserve(amount)
        except BudgetExceeded:
            return
        check(budget)
        try:
            await asyncio.sleep(dice.random() / 1e6)
        except asyncio.CancelledError:
            budget.release(held)
            raise
        if dice.random() < 0.3:
            budget.release(held)
        else:
            share = Decimal(dice.randint(0, 100)) / 100
            actual = Amount(amount.dollars * share, int(amount.tokens * share), amount.calls)
            used.append(actual)
            budget.settle(held, actual)
        check(budget)

    async def main() -> None:
        tasks = [asyncio.create_task(call(amount)) for amount in amounts]
        while not all(task.done() for task in tasks):
            check(budget)
            if dice.random() < 0.2:
                dice.choice(tasks).cancel()
            await asyncio.sleep(0)
        await asyncio.wait(tasks)

    asyncio.run(main())
    check(budget)
    assert budget.reserved == Amount(), "something leaked"
    total = Amount()
    for actual in used:
        total = total.plus(actual)
    assert budget.settled == total
