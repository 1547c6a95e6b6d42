"""Thresholds of a cascade from recorded outcomes: they are the cheapest, they keep their target, and they are read."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colonnade import load
from db.errors import DataError
from db.runs import ItemRecord
from evals.cascades import StageOutcome, learn_thresholds, stage_outcomes
from nodes.cascade_thresholds import CascadeThresholds

LEVELS = (0.25, 0.5, 0.75, 1.0)


def stage(*rows: tuple[float, float, float]) -> dict[str, StageOutcome]:
    return {str(place): StageOutcome(*row) for place, row in enumerate(rows)}


def test_a_sure_stage_is_believed_and_an_unsure_one_is_not() -> None:
    fast = stage((1.0, 1, 1), (1.0, 1, 1), (0.5, 0, 1), (0.5, 1, 1))
    strong = stage((0, 1, 10), (0, 1, 10), (0, 1, 10), (0, 1, 10))
    found = learn_thresholds({"fast": fast, "strong": strong})
    assert found == CascadeThresholds(
        stages=("fast", "strong"), thresholds=(0.75,), accuracy=1.0, cost=6.0, target=1.0, trained_on=4
    )
    # With less to keep the cheap stage alone will do; and with a weak one the strong stage is always asked.
    assert learn_thresholds({"fast": fast, "strong": strong}, target=0.7).thresholds == (0.0,)
    weak = stage(*[(1.0, 0, 1)] * 4)
    assert learn_thresholds({"fast": weak, "strong": strong}).thresholds == (2.0,)


def test_what_was_not_answered_is_never_believed() -> None:
    fast = stage((-1.0, 0, 1), (1.0, 1, 1))
    strong = stage((0, 1, 10), (0, 1, 10))
    found = learn_thresholds({"fast": fast, "strong": strong})
    assert (found.thresholds, found.cost) == ((0.0,), 6.0)


outcome = st.builds(StageOutcome, st.sampled_from(LEVELS), st.sampled_from((0.0, 1.0)), st.floats(0.1, 5))


@given(st.integers(1, 6).flatmap(lambda n: st.lists(st.lists(outcome, min_size=n, max_size=n), min_size=2, max_size=3)))
def test_no_thresholds_that_keep_the_accuracy_are_cheaper(rows: list[list[StageOutcome]]) -> None:
    stages = {f"m{place}": stage(*row) for place, row in enumerate(rows)}
    found = learn_thresholds(stages)

    def walk(thresholds: tuple[float, ...], item: int) -> tuple[float, float]:
        cost = 0.0
        for row, threshold in zip(rows, (*thresholds, 0.0), strict=True):
            cost += row[item].cost
            if row[item].confidence >= threshold:
                return row[item].score, cost
        raise AssertionError

    tables = {}
    for thresholds in itertools.product((*LEVELS, 2.0), repeat=len(rows) - 1):
        walked = [walk(thresholds, item) for item in range(len(rows[0]))]
        tables[thresholds] = tuple(sum(part) / len(walked) for part in zip(*walked, strict=True))
    cheapest = min(cost for accuracy, cost in tables.values() if accuracy >= found.target - 1e-9)
    assert found.cost == pytest.approx(cheapest)
    assert found.accuracy >= found.target - 1e-9


def test_bad_input_is_said() -> None:
    one = stage((1, 0, 1))
    with pytest.raises(DataError, match="two stages or more"):
        learn_thresholds({"a": one})
    with pytest.raises(DataError, match="no item that all of a, b"):
        learn_thresholds({"a": one, "b": {}})
    with pytest.raises(DataError, match=r"No thresholds reach an accuracy of 0\.9; 0 is the most"):
        learn_thresholds({"a": one, "b": one}, target=0.9)
    bare = ItemRecord(run_id="r", architecture_id="a", item_id="i", created_at=datetime.now(UTC))
    with pytest.raises(DataError, match="No item tells the confidence of a node 'cascade'"):
        stage_outcomes([replace(bare, cost_used=Decimal(1))])
    with pytest.raises(DataError, match="A price of item 'i' is unknown"):
        stage_outcomes([bare])


def test_many_stages_take_a_bounded_time() -> None:
    rows = [(place / 200, float(place % 3 > 0), 1.0) for place in range(200)]
    found = learn_thresholds({f"m{number}": stage(*rows) for number in range(8)}, target=0.5)
    assert len(found.thresholds) == 7


def test_a_cascade_learns_from_runs_of_its_stages(tmp_path: Path) -> None:
    """Real runs of nano and of mini, and the cascade with what was learned: as foretold, without a new call."""
    database = f"sqlite:///{tmp_path / 'runs.db'}"
    settings = {"samples": [3, 2], "temperature": 0.8}

    def evaluate(name: str, **more: object) -> tuple[ItemRecord, ...]:
        spec = {"name": name, "layers": [{"cascade": {**settings, **more}}]}
        return load(spec, database_url=database).evaluate("arithmetic", items=12).evaluation.results

    fast = evaluate("fast", stages=["embedded/nano", "embedded/mini"], threshold=0.0)
    strong = evaluate("strong", stages=["embedded/mini"], samples=2)
    runs = {"embedded/nano": fast, "embedded/mini": strong}
    learned = learn_thresholds({model: stage_outcomes(results) for model, results in runs.items()})
    learned.save(tmp_path / "thresholds.json")
    chosen = evaluate("learned", stages=list(runs), thresholds_file=str(tmp_path / "thresholds.json"))
    assert sum(record.score or 0 for record in chosen) / 12 == pytest.approx(learned.accuracy)
    assert sum(float(record.cost_used or 0) for record in chosen) / 12 == pytest.approx(learned.cost)
    assert sum(record.calls_paid for record in chosen) == 0
    assert learned.accuracy >= learned.target
