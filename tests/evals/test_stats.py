"""Statistics against closed forms, scipy, laws, and figures that were published or recorded."""

from __future__ import annotations

import gzip
import itertools
import json
import math
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from evals.stats import (
    bootstrap_mean,
    cost_per_correct,
    coverage,
    expected_calibration_error,
    pass_at_k,
    plurality,
    quantile,
    wilson,
)


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (1199, 1319), (3, 500)])
def test_wilson_is_scipys(correct: int, n: int) -> None:
    expected = scipy_stats.binomtest(correct, n).proportion_ci(method="wilson")
    assert wilson(correct, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_share_and_mirrors(n: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, n))
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n <= high <= 1
    mirrored = wilson(n - correct, n)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((low, high), abs=1e-12)


def test_wilson_of_nothing_is_everything_and_nonsense_is_refused() -> None:
    assert wilson(0, 0) == (0, 1)
    with pytest.raises(ValueError, match="correct=3, n=2"):
        wilson(3, 2)


def test_wilson_covers_at_its_level() -> None:
    n, share = 60, 0.3
    chance = [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
    covered = sum(p for k, p in enumerate(chance) if wilson(k, n).low <= share <= wilson(k, n).high)
    assert covered == pytest.approx(0.95, abs=0.02)


def test_bootstrap_is_near_the_normal_interval_and_repeats() -> None:
    values = list(np.random.default_rng(3).normal(0.4, 0.1, size=400))
    low, high = bootstrap_mean(values, resamples=4000)
    half = 1.96 * float(np.std(values)) / 20
    assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=0.001)
    assert bootstrap_mean(values, resamples=4000) == (low, high)
    assert bootstrap_mean(values, resamples=4000, seed=1) != (low, high)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_mean([])


@given(st.integers(1, 60), st.data())
def test_pass_at_k_is_the_exact_ratio(n: int, data: st.DataObject) -> None:
    correct, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    exact = 1 - Fraction(math.comb(n - correct, k), math.comb(n, k))
    assert pass_at_k(n, correct, k) == pytest.approx(float(exact), abs=1e-12)


@given(st.integers(1, 60), st.data())
def test_pass_at_1_is_the_share_and_more_samples_never_hurt(n: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, n))
    values = [pass_at_k(n, correct, k) for k in range(1, n + 1)]
    assert values[0] == pytest.approx(correct / n)
    assert values[-1] == float(correct > 0)
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(values))


def test_pass_at_k_of_many_samples_and_nonsense() -> None:
    assert pass_at_k(10**6, 10, 10**5) == pytest.approx(1 - 0.9**10, abs=1e-4)
    for n, correct, k in [(5, 6, 1), (5, 1, 0), (5, 1, 6), (5, -1, 1)]:
        with pytest.raises(ValueError, match="pass@k needs"):
            pass_at_k(n, correct, k)


def test_pass_at_k_of_recorded_codegen_samples(shared_data: Path) -> None:
    ratios: dict[int, list[float]] = {1: [], 10: [], 100: []}
    outcomes = []
    with gzip.open(shared_data / "humaneval_codegen16b_100" / "data.jsonl.gz", "rt") as file:
        for line in file:
            row = json.loads(line)
            right = [row["gt"][index] == "passed" for index in row["samples"]]
            outcomes.append(right)
            for k, values in ratios.items():
                values.append(pass_at_k(len(right), sum(right), k))
    assert len(outcomes) == 164
    assert 100 * float(np.mean(ratios[1])) == pytest.approx(22.11, abs=0.005)
    assert 100 * float(np.mean(ratios[10])) == pytest.approx(50.38, abs=0.005)
    assert 100 * float(np.mean(ratios[100])) == pytest.approx(73.78, abs=0.005)
    assert coverage(outcomes) == pytest.approx(float(np.mean(ratios[100])))


def test_coverage() -> None:
    assert coverage([[False, True], [False, False]]) == 0.5
    with pytest.raises(ValueError, match="at least one"):
        coverage([])


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=12))
def test_plurality_has_the_most_votes_and_of_equals_comes_first(answers: list[str | None]) -> None:
    winner = plurality(answers)
    votes = [answer for answer in answers if answer is not None]
    if winner is None:
        assert not votes
    else:
        assert all(votes.count(winner) >= votes.count(other) for other in votes)
        equals = [other for other in votes if votes.count(other) == votes.count(winner)]
        assert equals[0] == winner


def test_cost_per_correct() -> None:
    ten = Decimal("0.10")
    cost = cost_per_correct([ten] * 40, [True] * 20 + [False] * 20)
    assert cost.value == Decimal("0.20")
    assert cost.interval is not None
    assert cost.interval.low < 0.2 < cost.interval.high
    # Every resample's ratio is 0.1 / share right, so the interval is that of the share, turned over.
    share = wilson(20, 40)
    assert cost.interval == pytest.approx((0.1 / share.high, 0.1 / share.low), rel=0.15)


def test_cost_per_correct_is_unknown_rather_than_zero() -> None:
    assert cost_per_correct([Decimal(1), None], [True, True]) == (None, None)
    assert cost_per_correct([Decimal(1)], [False]) == (None, None)
    assert cost_per_correct([], []) == (None, None)
    few = cost_per_correct([Decimal(1)] * 30, [True] + [False] * 29)
    assert few.value == 30
    assert few.interval is not None
    assert few.interval.high == math.inf
    with pytest.raises(ValueError, match="1 costs, 2 outcomes"):
        cost_per_correct([None], [True, False])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 1))
def test_quantile_is_numpys(values: list[float], q: float) -> None:
    assert quantile(values, q) == pytest.approx(float(np.quantile(values, q)), rel=1e-9, abs=1e-6)


def test_quantile_of_nothing() -> None:
    with pytest.raises(ValueError, match="n=0"):
        quantile([], 0.5)


def test_calibration_error() -> None:
    # Two bins: mean confidence 0.9 with 1 of 2 right, mean confidence 0.2 with 0 of 2 right: (0.4 + 0.2) / 2.
    assert expected_calibration_error([0.85, 0.95, 0.2, 0.2], [True, False, False, False], bins=2) == pytest.approx(0.3)
    assert expected_calibration_error([1.0, 0.0], [True, False]) == 0
    for confidences, right in [([], []), ([0.5], [True, False]), ([1.5], [True])]:
        with pytest.raises(ValueError, match="calibration needs"):
            expected_calibration_error(confidences, right)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_calibration_error_is_a_share_and_at_least_the_overall_gap(pairs: list[tuple[float, bool]]) -> None:
    confidences, right = [c for c, _ in pairs], [r for _, r in pairs]
    error = expected_calibration_error(confidences, right)
    gap = abs(math.fsum(confidences) - sum(right)) / len(pairs)
    assert gap - 1e-9 <= error <= 1 + 1e-9
