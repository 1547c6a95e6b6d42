"""The benchmark of effects compares what it says, on the same items, and writes complete tables."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from nodes.catalog import GROUPS

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
# By name, since scripts are no package that a type checker could follow.
effects: Any = importlib.import_module("effects")
effects_base: Any = importlib.import_module("effects_base")
effects_list: Any = importlib.import_module("effects_list")
effects_measure: Any = importlib.import_module("effects_measure")
effects_race: Any = importlib.import_module("effects_race")
effects_table: Any = importlib.import_module("effects_table")

Row = effects_measure.Row


def comparison(**changes: object) -> Any:
    return effects_base.Comparison("vote", "one", ("vote",), ("two", ("vote",)))._replace(**changes)


def found(first: list[float], second: list[float], *, bar: object = None, calls: int = 10, dollars: float = 1.0) -> Any:
    one = [Row(score, calls, dollars, False) for score in first]
    two = [Row(score, 10, 1.0, False) for score in second]
    return effects_table.found_of(comparison(bar=bar), "two", one, two)


def test_the_tables_are_complete_and_a_second_run_finds_everything_in_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.md"
    given = ["--items", "4", "--split", "dev", "--no-race", "--keep", str(tmp_path), "--markdown", str(table), "--json"]
    only = ["--only", "adaptive_vote", "--only", "cascade"]
    effects.main([*given, *only])
    printed = capsys.readouterr().out
    whole = json.loads(printed.splitlines()[-1])
    wanted = [c for c in effects_list.COMPARISONS if c.about in ("adaptive_vote", "cascade")]
    assert [(row["about"], row["what"]) for row in whole["rows"]] == [(c.about, c.what) for c in wanted]
    assert whole["items"] == {"arithmetic": 4}
    for row in whole["rows"]:
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["difference"] == pytest.approx(row["accuracy"] - row["baseline_accuracy"], abs=1e-3)
        assert row["calls"] > 0
        assert row["failed"] == 0
        if row["about"] == "cascade":  # matched by dollars
            assert row["baseline_dollars"] >= row["dollars"] or "the most there are" in row["baseline"]
    text = table.read_text(encoding="utf-8")
    assert all(c.what in text and c.what in printed for c in wanted)
    assert all(f"| `{name}` |" in text for name in effects_list.ABSENT)

    stores = {path: path.stat().st_size for path in tmp_path.glob("*.db")}
    effects.main([*given, *only])
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == whole
    assert {path: path.stat().st_size for path in tmp_path.glob("*.db")} == stores


def test_every_technique_and_scorer_is_compared_or_said_to_be_absent() -> None:
    known = {name for names in GROUPS.values() for name in names}
    scorers = {path.stem for path in (Path(effects_list.__file__).parents[1] / "nodes" / "scorers").glob("*.py")}
    known |= scorers - {"__init__", "base", "registry"}
    assert known <= {c.about for c in effects_list.COMPARISONS} | set(effects_list.ABSENT)


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ([1.0] * 60 + [0.0] * 40, [0.0] * 100, "pays"),
        ([0.0] * 100, [1.0] * 60 + [0.0] * 40, "costs points"),
        ([1.0] * 50 + [0.0] * 50, [1.0] * 50 + [0.0] * 50, "no difference"),
    ],
)
def test_the_verdict_goes_by_the_interval(first: list[float], second: list[float], verdict: str) -> None:
    assert found(first, second).verdict == verdict


def test_the_same_for_less_is_said() -> None:
    same = [1.0] * 50 + [0.0] * 50
    assert found(same, same, dollars=0.5).verdict == "no difference, for 50% of the dollars"


@pytest.mark.parametrize(("calls", "lost", "met"), [(5, 1, True), (6, 1, False), (5, 2, False)])
def test_a_bar_holds_for_points_and_calls(calls: int, lost: int, *, met: bool) -> None:
    bar = effects_base.Bar(points=-0.01, calls=0.55)
    assert found([1.0] * (60 - lost) + [0.0] * (40 + lost), [1.0] * 60 + [0.0] * 40, bar=bar, calls=calls).met is met


@pytest.mark.parametrize(("dollars", "n"), [(0.5, 1), (1.0, 1), (3.5, 4), (5.0, 5), (5.1, 6), (1000.0, 32)])
def test_n_is_the_least_that_costs_as_much(dollars: float, n: int) -> None:
    family = effects_base.FAMILIES["majority"]
    technique = comparison(against="majority", layers=("vote",))
    # A dollar for each sample.
    costs = [(("vote",), dollars), (family.make(1), 1.0), (family.make(family.most), float(family.most))]
    rows = {"arithmetic": {effects_measure.key_of(layers): [Row(0.0, 1, cost, False)] for layers, cost in costs}}
    assert effects.matched(rows, technique) == n


def test_a_race_is_timed_by_its_tokens_and_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLONNADE_DATA", raising=False)
    race, crowded = effects_race.races(2, "dev", pace=0.2)
    shortest = 10  # tokens; no reply of mini is shorter
    assert race.items == 2
    assert crowded.majority_s > 2 * shortest * crowded.token_s, "half of sixteen wait until the others are done"
    assert crowded.saved > 0
    assert min(race.short_s, race.majority_s) > shortest * race.token_s
    assert race.difference.n == 2
    assert len(effects_table.raced(race)) == len(effects_table._RACED)
    whole = effects_table.record([], [race], {"arithmetic": 2})
    assert json.loads(json.dumps(whole))["races"][0]["saved"] == pytest.approx(race.saved, abs=1e-4)


def test_an_unknown_or_absent_name_is_explained() -> None:
    with pytest.raises(SystemExit, match="few_shot: the models know no prompt with examples"):
        effects.main(["--only", "few_shot"])
