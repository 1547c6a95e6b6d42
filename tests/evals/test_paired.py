"""Paired differences against scipy, closed forms and laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from evals.paired import mcnemar_exact, paired_difference, sign_flip_p_value

BINARY = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar_is_the_binomial_test(b: int, c: int) -> None:
    expected = scipy_stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_many_pairs_does_not_overflow() -> None:
    assert mcnemar_exact(3000, 3000) == 1.0
    assert 0 < mcnemar_exact(3000, 3300) < 0.001


@given(BINARY)
def test_two_runs_differ_as_their_means_do_and_the_other_way_round(pairs: list[tuple[bool, bool]]) -> None:
    first, second = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    forth, back = paired_difference(first, second), paired_difference(second, first)
    assert forth.difference == pytest.approx(float(np.mean(first) - np.mean(second)))
    assert forth.difference == -back.difference
    assert forth.interval == pytest.approx((-back.interval.high, -back.interval.low))
    assert (forth.p_value, forth.first_only) == (back.p_value, back.second_only)
    assert -1 <= forth.interval.low <= forth.interval.high <= 1
    assert forth.method == "mcnemar-exact"


def test_the_interval_of_binary_runs_covers_at_its_level() -> None:
    n, ahead, behind = 40, 0.25, 0.1
    covered = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            chance = math.comb(n, b) * math.comb(n - b, c) * ahead**b * behind**c * (1 - ahead - behind) ** (n - b - c)
            if chance > 1e-9:
                interval = paired_difference([1.0] * b + [0.0] * (n - b), [0.0] * b + [1.0] * c + [0.0] * (n - b - c))
                covered += chance * (interval.interval.low <= ahead - behind <= interval.interval.high)
    assert covered == pytest.approx(0.95, abs=0.02)


@given(st.lists(st.floats(-1, 1).map(lambda x: round(x, 2)), min_size=2, max_size=9))
def test_few_sign_flips_are_counted_as_scipy_counts_them(gaps: list[float]) -> None:
    if any(gaps):
        expected = scipy_stats.permutation_test(
            [gaps, [0.0] * len(gaps)],
            lambda x, y: float(np.sum(x - y)),
            permutation_type="samples",
            n_resamples=2**12,
        ).pvalue
        assert sign_flip_p_value(gaps) == pytest.approx(expected, abs=1e-9)
    else:
        assert sign_flip_p_value(gaps) == 1.0


def test_many_sign_flips_are_drawn_and_agree_with_the_t_test() -> None:
    gaps = list(np.random.default_rng(5).normal(0.02, 0.1, size=100))
    drawn = sign_flip_p_value(gaps, resamples=5000)
    assert drawn == pytest.approx(float(scipy_stats.ttest_1samp(gaps, 0).pvalue), abs=0.02)
    assert sign_flip_p_value([1.0] * 100, resamples=999) == 0.001


def test_graded_scores_use_bootstrap_and_permutation() -> None:
    second = list(np.random.default_rng(6).uniform(0, 0.5, size=60))
    first = [score + 0.2 + 0.01 * (i % 3) for i, score in enumerate(second)]
    found = paired_difference(first, second, resamples=2000)
    assert found.method == "permutation"
    assert found.difference == pytest.approx(0.21)
    assert found.interval.low < 0.21 < found.interval.high
    assert found.interval.high - found.interval.low < 0.01
    assert found.p_value < 0.001
    assert (found.first_only, found.second_only, found.n) == (60, 0, 60)
    assert paired_difference(first, second, resamples=2000) == found


@pytest.mark.parametrize(("first", "second"), [([], []), ([1.0], [1.0, 0.0])])
def test_runs_that_cannot_be_paired_are_refused(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match="same items"):
        paired_difference(first, second)
