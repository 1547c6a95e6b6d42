"""Statistics of arms from records of items: of each arm by itself, and of what `ucb_select` chose."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colonnade import load
from db.errors import DataError
from db.runs import ItemRecord
from evals.arm_statistics import arm_statistics, chosen_arms, merged
from nodes.arm_statistics import ArmStatistics, Seen


def record(score: float | None, arm: int | None = None) -> ItemRecord:
    made = ItemRecord(run_id="r", architecture_id="a", item_id="i", score=score, created_at=datetime.now(UTC))
    trace = {"outcome": {"nodes": {"pick": {"candidates": [], "measures": {"arm": arm}}}}}
    return made if arm is None else replace(made, trace=json.dumps(trace))


def test_an_arm_by_itself_earns_its_mean_score_and_nothing_where_it_failed(tmp_path: Path) -> None:
    found = arm_statistics({"a": [record(1), record(0.5), record(None)], "b": [record(1)]})
    assert found.arms == {"a": Seen(pulls=3, reward=0.5), "b": Seen(pulls=1, reward=1)}
    found.save(tmp_path / "arms.json")
    assert ArmStatistics.load(tmp_path / "arms.json") == found
    with pytest.raises(DataError, match="runs of c hold no items"):
        arm_statistics({"a": [record(1)], "c": []})


def test_scores_count_for_the_arm_that_was_chosen() -> None:
    found = chosen_arms([record(1, 0), record(0, 2), record(1, 2), record(0)], "pick", ["a", "b", "c"])
    assert found.arms == {"a": Seen(pulls=1, reward=1), "c": Seen(pulls=2, reward=0.5)}
    with pytest.raises(DataError, match="chose arm 2, but 2 are named"):
        chosen_arms([record(1, 2)], "pick", ["a", "b"])
    with pytest.raises(DataError, match="No item tells which arm node 'other' chose"):
        chosen_arms([record(1, 0)], "other", ["a"])


seen = st.builds(Seen, pulls=st.integers(0, 50), reward=st.floats(0, 1))


@given(st.lists(st.dictionaries(st.sampled_from("abc"), seen, max_size=3), max_size=4))
def test_merging_weighs_by_pulls(parts: list[dict[str, Seen]]) -> None:
    found = merged(*(ArmStatistics(arms=part) for part in parts))
    for name in "abc":
        pulls = sum(part[name].pulls for part in parts if name in part)
        earned = sum(part[name].pulls * part[name].reward for part in parts if name in part)
        if name in found.arms:
            assert found.arms[name].pulls == pulls
            assert found.arms[name].pulls * found.arms[name].reward == pytest.approx(earned, abs=1e-6)


def test_a_run_teaches_the_next_one(tmp_path: Path) -> None:
    """A real run of nano and mini by themselves, its records, and an architecture that has learned from them."""
    database = f"sqlite:///{tmp_path / 'runs.db'}"
    runs = {}
    for model in ("nano", "mini"):
        node = {"generate": {"model": f"embedded/{model}", "temperature": 0.8}}
        evaluated = load({"name": model, "layers": [node]}, database_url=database).evaluate("dates", items=6)
        runs[model] = evaluated.evaluation.results
    path = tmp_path / "arms.json"
    arm_statistics(runs).save(path)
    arms = [
        {"name": model, "steps": [{"generate": {"model": f"embedded/{model}", "temperature": 0.8}}]} for model in runs
    ]
    spec = {"name": "pick", "layers": [{"ucb_select": {"arms": arms, "pulls": 1, "statistics_file": str(path)}}]}
    chosen = load(spec, database_url=database).evaluate("dates", items=6)
    assert chosen.evaluation.summary is not None
    (node,) = json.loads(chosen.evaluation.results[0].trace)["outcome"]["nodes"]
    found = chosen_arms(chosen.evaluation.results, node, list(runs))
    # One pull without exploration: the better arm, and its samples are those that it drew by itself.
    best = max(runs, key=lambda name: arm_statistics(runs).arms[name].reward)
    assert found.arms == {best: arm_statistics(runs).arms[best]}
    assert chosen.evaluation.summary.calls_paid == 0
