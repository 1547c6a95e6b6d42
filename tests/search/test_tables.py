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
    return models.Table("made", models.Votes(tuple("abcdefg"), codes.astype(np.int16), 6), 4)


def test_values_are_the_means_of_scores(table: Any) -> None:
    for point in range(0, len(table.domain), 9):
        right = table.scores(point)
        assert right[: table.dev_items].mean() == pytest.approx(table.dev[point])
        assert right[table.dev_items :].mean() == pytest.approx(table.held[point])


def test_ties_go_to_the_answer_given_first() -> None:
    codes = np.asarray([[1, 0, 2, -1], [0, 1, 0, 0], [0, 0, 0, -1], [1, 1, -1, 2]], dtype=np.int16)
    votes = models.Votes(tuple("abcd"), np.tile(codes, 30), 3)
    table = models.Table("ties", votes, 4)
    order = np.random.default_rng(0).permutation(120)[int(0.08 * 120) :]
    for point, (subset, weighted) in enumerate(table.points):
        if not weighted:
            answers = votes.codes[list(subset)].T[order]
            expected = [plurality([None if a < 0 else int(a) for a in item]) == 0 for item in answers]
            assert list(table.scores(point)) == expected


def test_regret_and_its_crossing(table: Any) -> None:
    best, worst = int(table.dev.argmax()), int(table.dev.argmin())
    curve = tables.Curve(np.asarray([10, 20]), np.asarray([worst, best]))
    left = tables.regret(table, [curve], np.asarray([5.0, 10.0, 25.0]))
    assert left[0] == 1
    assert left[1] > 1
    assert left[2] == 0
    assert tables.reached(table, [curve]) == 20
    assert tables.reached(table, [tables.Curve(np.asarray([10]), np.asarray([worst]))]) == float("inf")
    assert tables.reached(table, [tables.Curve(np.asarray([10]), np.asarray([best]))]) == 10


def test_the_race_needs_less_than_random(table: Any) -> None:
    chance = tables.reached(table, [tables.random_search(table, seed, 150) for seed in range(20)])
    curves = [tables.race(table, seed, int(chance)) for seed in range(3)]
    assert tables.reached(table, curves) < 0.6 * chance


def test_recorded_answers_give_the_published_accuracy(shared_data: Path) -> None:
    votes = models.gsm8k(shared_data)
    place = votes.models.index("gpt-4o-2024-08-06")
    assert round(100 * float((votes.codes[place] == 0).mean()), 2) == 96.21
