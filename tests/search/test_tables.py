"""The benchmark's tables say what a vote says, and its measures measure."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.stats import plurality

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
# By name, since scripts are no package that a type checker could follow.
models: Any = importlib.import_module("search_models")
tables: Any = importlib.import_module("search_tables")


@pytest.fixture(scope="module")
def table() -> Any:
    rng = np.random.default_rng(0)
    accuracy = np.linspace(0.3, 0.8, 7)[:, None]
    codes = np.where(rng.random((7, 900)) < accuracy, 0, rng.integers(-1, 5, size=(7, 900)))
    return models.VoteTable("made", models.Votes(tuple("abcdefg"), codes.astype(np.int16), 6), 4, others=3)


def test_values_are_the_means_of_scores(table: Any) -> None:
    for point in range(0, len(table.domain), 9):
        right = table.scores(point)
        assert right[: table.dev_items].mean() == pytest.approx(table.dev[point])
        assert right[table.dev_items :].mean() == pytest.approx(table.held[point])


def test_ties_go_to_the_answer_given_first() -> None:
    codes = np.asarray([[1, 0, 2, -1], [0, 1, 0, 0], [0, 0, 0, -1], [1, 1, -1, 2]], dtype=np.int16)
    votes = models.Votes(tuple("abcd"), np.tile(codes, 30), 3)
    table = models.VoteTable("ties", votes, 4)
    order = np.random.default_rng(0).permutation(120)[int(0.08 * 120) :]
    for point, (subset, weighted) in enumerate(table.points):
        if not weighted:
            answers = votes.codes[list(subset)].T[order]
            expected = [plurality([None if a < 0 else int(a) for a in item]) == 0 for item in answers]
            assert list(table.scores(point)) == expected


def test_other_halves_are_judged_as_the_tables_own(table: Any) -> None:
    right = np.stack([table.scores(point) for point in range(len(table.domain))])
    for number in range(1, 4):
        order = table.order(number)
        assert sorted(order) == list(range(table.items))
        dev, held = (right[:, half].mean(axis=1) for half in (order[: table.dev_items], order[table.dev_items :]))
        assert table.halves.best_dev[number - 1] == pytest.approx(dev.max())
        assert table.halves.its_held[number - 1] == pytest.approx(held[dev.argmax()])
        assert table.halves.best_held[number - 1] == pytest.approx(held.max())
    before = table.halves
    table.grade(3, processes=2)
    assert all((one == other).all() for one, other in zip(before, table.halves, strict=True))


def test_regret_and_its_crossing(table: Any) -> None:
    best, worst = int(table.dev.argmax()), int(table.dev.argmin())
    curve = tables.Curve(np.asarray([10, 20]), np.asarray([worst, best]))
    at, left = tables.regret(table, [curve])
    assert at.tolist() == [10, 20]
    assert left[0] > 1
    assert left[1] == pytest.approx(0)
    assert tables.reached(table, [curve]) == 20
    assert tables.reached(table, [tables.Curve(np.asarray([10]), np.asarray([worst]))]) == float("inf")
    assert tables.reached(table, [tables.Curve(np.asarray([10]), np.asarray([best]))]) == 10
    # Of two searches one has no pick until 20: half of the way is left to it.
    late = tables.Curve(np.asarray([20]), np.asarray([best]))
    assert tables.regret(table, [late, tables.Curve(np.asarray([10]), np.asarray([best]))])[1] == pytest.approx(
        [0.5, 0]
    )


def test_the_race_needs_less_than_random(table: Any) -> None:
    chance = tables.reached(table, [tables.random_search(table, seed) for seed in range(20)])
    curves = [tables.race(table, tables.Job("default", seed, int(chance))) for seed in range(3)]
    assert tables.reached(table, curves) < 0.6 * chance


def test_a_table_is_measured_kept_and_drawn(table: Any, tmp_path: Path) -> None:
    alone = tables.measure(table, 2, ["greedy", "gp", "itas", "tpe"])
    result = tables.kept(tmp_path, "made", lambda: tables.measure(table, 2, ["greedy", "gp", "itas", "tpe"], 2))
    assert result == alone
    figures = result.figures
    assert figures["default_over_random"] == figures["default"] / figures["random"]
    own = figures["oracle_within_1pt"] >= tables.TELLING
    assert figures["held_out_within_1pt"] == figures["own_within_1pt" if own else "fixed_within_1pt"]
    assert {"random", "default", "tpe"} < set(result.curves)
    again = tables.kept(tmp_path, "made", pytest.fail)
    assert again.figures == figures
    tables.plot({"made": again}, tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_text().count("mean regret on dev") == 1


def test_recorded_answers_give_the_published_accuracy(shared_data: Path) -> None:
    votes = models.gsm8k(shared_data)
    place = votes.models.index("gpt-4o-2024-08-06")
    assert round(100 * float((votes.codes[place] == 0).mean()), 2) == 96.21
    assert len(models.gsm8k(shared_data, models.OPEN).models) == len(models.OPEN) == 18
