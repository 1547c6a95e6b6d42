"""Tables of spending learned from recorded outcomes: exact under the budget, better than one strategy for all."""

from __future__ import annotations

import itertools
import json
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import DataError
from db.runs import ItemRecord
from evals.compute_optimal import (
    Allocation,
    Spent,
    Trial,
    allocations,
    learn_table,
    quantile_thresholds,
    recorded_trials,
)
from nodes.spending import Spending, SpendingTable, bin_of

STOP, MORE, MOST = Spending(), Spending(samples=4), Spending(samples=12, choose="best")

outcomes = st.tuples(st.integers(0, 8), st.integers(0, 8)).map(lambda pair: Spent(pair[0] / 8, float(pair[1])))


@given(
    st.integers(1, 3).flatmap(
        lambda width: st.lists(st.lists(outcomes, min_size=width, max_size=width), min_size=1, max_size=4)
    )
)
def test_allocations_are_all_that_no_other_beats(bins: list[list[Spent]]) -> None:
    every = [
        Allocation(sum(one.accuracy for one in chosen), sum(one.cost for one in chosen), ())
        for chosen in itertools.product(*bins)
    ]
    found = allocations(bins)
    assert [one.cost for one in found] == sorted({one.cost for one in found})
    assert [one.accuracy for one in found] == sorted({one.accuracy for one in found})
    for one in found:
        chosen = [strategies[place] for strategies, place in zip(bins, one.choices, strict=True)]
        assert one.cost == sum(spent.cost for spent in chosen)
        assert one.accuracy == pytest.approx(sum(spent.accuracy for spent in chosen))
    for budget in {one.cost for one in every}:
        best = max(one.accuracy for one in every if one.cost <= budget)
        assert max(one.accuracy for one in found if one.cost <= budget) == pytest.approx(best)


def trials() -> list[Trial]:
    """Easy questions are right at once, middling ones after 4 samples, and hard ones never."""
    easy = Trial(1.0, (Spent(1, 2), Spent(1, 6), Spent(1, 14)))
    middling = Trial(0.5, (Spent(0, 2), Spent(1, 6), Spent(1, 14)))
    hopeless = Trial(0.0, (Spent(0, 2), Spent(0, 6), Spent(0, 14)))
    return [easy] * 5 + [middling] * 3 + [hopeless] * 2


def learned(budget: float, thresholds: tuple[float, ...] | None = (0.9, 0.3)) -> SpendingTable:
    return learn_table(
        trials(), (STOP, MORE, MOST), budget=budget, pilot=2, estimate="agreement", thresholds=thresholds
    )


def test_a_table_spends_where_it_helps_and_nowhere_else() -> None:
    found = learned(100)
    assert found.table == (STOP, MORE, STOP)
    assert (found.accuracy, found.cost) == pytest.approx((0.8, 0.7 * 2 + 0.3 * 6))
    assert (found.budget, found.trained_on, found.pilot, found.estimate) == (100, 10, 2, "agreement")
    assert learned(3.1).table == (STOP, STOP, STOP)
    assert learned(3.2).table == (STOP, MORE, STOP)


def test_it_is_no_worse_than_any_one_strategy_at_its_cost() -> None:
    for place in range(3):
        accuracy = math.fsum(trial.outcomes[place].accuracy for trial in trials()) / 10
        cost = math.fsum(trial.outcomes[place].cost for trial in trials()) / 10
        found = learned(cost)
        assert found.accuracy >= accuracy
        assert found.cost <= cost + 1e-9


def test_bins_are_quantiles_where_none_are_given() -> None:
    found = learned(100, None)
    assert found.thresholds == quantile_thresholds([trial.ease for trial in trials()], 5)
    assert found.accuracy == pytest.approx(0.8)
    assert found.cost == pytest.approx(3.2)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(1, 6))
def test_quantiles_fall_and_leave_no_bin_empty(eases: list[float], bins: int) -> None:
    thresholds = quantile_thresholds(eases, bins)
    assert list(thresholds) == sorted(set(thresholds), reverse=True)
    assert len(thresholds) < bins
    assert {bin_of(ease, thresholds) for ease in eases} == set(range(len(thresholds) + 1))


def test_what_cannot_be_learned_is_said() -> None:
    with pytest.raises(DataError, match=r"The cheapest table costs 2 a question, more than the budget of 1\."):
        learned(1)
    with pytest.raises(DataError, match=r"No question lies in bin 2, 3; choose"):
        learned(9, (0.9, 0.8, 0.7, 0.3))
    with pytest.raises(ValueError, match="an outcome of each of the 1 strategies"):
        learn_table(trials(), (STOP,), budget=9, pilot=2, estimate="best")


def record(item: str, ease: float | None, score: float, calls: int) -> ItemRecord:
    trace = {} if ease is None else {"outcome": {"nodes": {"compute_optimal": {"measures": {"ease": ease}}}}}
    return ItemRecord(
        run_id="r",
        architecture_id="a",
        item_id=item,
        status="failed" if ease is None else "ok",
        score=score,
        calls_used=calls,
        trace=json.dumps(trace),
        created_at=datetime.now(UTC),
    )


def test_runs_of_each_strategy_are_trials() -> None:
    few = [record("a", 0.5, 0, 2), record("b", 1.0, 1, 2), record("c", None, 0, 0), record("d", 0.5, 1, 2)]
    many = [record("c", None, 0, 4), record("b", None, 0, 6), record("a", 0.5, 1, 6)]
    found = recorded_trials([few, many], unit="calls")
    # `d` was not tried by both; all failed on `c`; of `b` one run tells the ease, the other failed.
    assert found == [
        Trial(0.5, (Spent(0, 2), Spent(1, 6))),
        Trial(1.0, (Spent(1, 2), Spent(0, 6))),
        Trial(0.0, (Spent(0, 0), Spent(0, 4))),
    ]
    with pytest.raises(DataError, match="The runs differ in the ease of item 'a'"):
        recorded_trials([few, [record("a", 0.75, 1, 6)]], unit="calls")
    with pytest.raises(DataError, match="No item that all runs have tells its ease at node 'spend'"):
        recorded_trials([few, many], node="spend", unit="calls")
    with pytest.raises(DataError, match="A price of item 'a' is unknown"):
        recorded_trials([few, many])
