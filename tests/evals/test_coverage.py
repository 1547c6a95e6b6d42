"""Coverage against enumeration, laws against data that follow them, and their limits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.coverage import Tally, coverage_curve, doubling, pass_at_each_k, percentiles
from evals.coverage_laws import CoverageLaw, Saturation, fit_law, fit_saturation
from evals.stats import pass_at_k


@st.composite
def tallies(draw: st.DrawFn, *, most: int = 40) -> list[Tally]:
    sizes = draw(st.lists(st.integers(2, most), min_size=1, max_size=12))
    return [Tally(n, draw(st.integers(0, n))) for n in sizes]


@given(st.integers(1, 8), st.data())
def test_pass_at_k_counts_the_subsets_that_hold_a_right_sample(n: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, n))
    found = pass_at_each_k(Tally(n, correct))
    for k in range(1, n + 1):
        subsets = list(itertools.combinations(range(n), k))
        share = sum(any(place < correct for place in subset) for subset in subsets) / len(subsets)
        assert found[k - 1] == pytest.approx(share, abs=1e-12)


@given(st.integers(1, 300), st.data())
def test_all_k_at_once_are_each_k_alone_and_never_fall(n: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, n))
    found = pass_at_each_k(Tally(n, correct))
    assert found == pytest.approx([pass_at_k(n, correct, k) for k in range(1, n + 1)], abs=1e-12)
    assert np.all(np.diff(found) >= 0)
    assert found[-1] == (correct > 0)


def test_pass_at_k_is_stable_for_many_samples() -> None:
    found = pass_at_each_k(Tally(10_000, 1))
    assert found == pytest.approx(np.arange(1, 10_001) / 10_000, rel=1e-9)


@given(tallies())
def test_the_curve_is_the_mean_and_lies_in_its_interval(given_tallies: list[Tally]) -> None:
    curve = coverage_curve(given_tallies, resamples=200)
    least = min(tally.samples for tally in given_tallies)
    assert [point.k for point in curve.points] == list(doubling(least))
    for k, value, (low, high) in curve.points:
        mean = sum(pass_at_k(*tally, k) for tally in given_tallies) / len(given_tallies)
        assert value == pytest.approx(mean, abs=1e-12)
        assert -1e-9 <= low <= high <= 1 + 1e-9
    values = [point.value for point in curve.points]
    assert all(later >= earlier - 1e-12 for earlier, later in itertools.pairwise(values))
    assert coverage_curve(given_tallies[::-1], resamples=1).points[0].value == pytest.approx(values[0])


def test_the_interval_of_coverage_covers_at_its_level() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for trial in range(100):
        chances = rng.beta(1, 3, size=120)
        drawn = [Tally(20, int(rng.binomial(20, chance))) for chance in chances]
        low, high = coverage_curve(drawn, (5,), resamples=250, seed=trial).points[0].interval
        # Of a beta(1, 3) chance p, the mean of 1 - (1 - p)^5 is 1 - 3/8.
        covered += low <= 5 / 8 <= high
    assert covered / 100 == pytest.approx(0.95, abs=0.05)


def test_reaching_names_the_least_k_on_the_curve() -> None:
    curve = coverage_curve([Tally(8, 1)], resamples=1)
    assert [point.k for point in curve.points] == [1, 2, 4, 8]
    assert (curve.reaching(0.25), curve.reaching(0.3), curve.reaching(1.0)) == (2, 4, 8)
    assert coverage_curve([Tally(8, 0)], resamples=1).reaching(0.1) is None


def test_doubling_ends_with_the_most() -> None:
    assert doubling(1) == (1,)
    assert doubling(8) == (1, 2, 4, 8)
    assert doubling(100) == (1, 2, 4, 8, 16, 32, 64, 100)


@pytest.mark.parametrize("bad", [Tally(0, 0), Tally(3, 4), Tally(3, -1)])
def test_nonsense_is_refused(bad: Tally) -> None:
    with pytest.raises(ValueError, match=f"samples={bad.samples}, correct={bad.correct}"):
        pass_at_each_k(bad)


def test_a_curve_needs_problems_and_samples_for_its_k() -> None:
    with pytest.raises(ValueError, match="at least one problem"):
        coverage_curve([])
    with pytest.raises(ValueError, match="the 3 samples"):
        coverage_curve([Tally(5, 1), Tally(3, 1)], (4,))
    with pytest.raises(ValueError, match="at least two samples"):
        fit_law([Tally(1, 1)])


def of_beta(alpha: float, *, problems: int, samples: int) -> list[Tally]:
    """Draw tallies whose chances are beta(alpha, 1): coverage by k is then known in closed form."""
    rng = np.random.default_rng(11)
    return [Tally(samples, int(rng.binomial(samples, rng.beta(alpha, 1)))) for _ in range(problems)]


def known_coverage(alpha: float, k: int) -> float:
    """1 - E[(1 - p)^k] for p of beta(alpha, 1), which is 1 - alpha · B(alpha, k + 1)."""
    return 1 - alpha * math.exp(math.lgamma(alpha) + math.lgamma(k + 1) - math.lgamma(alpha + k + 1))


def test_the_law_foretells_coverage_that_was_not_measured() -> None:
    fitted = fit_law(of_beta(0.3, problems=600, samples=50), resamples=200)
    assert fitted is not None
    assert fitted.error < 0.01
    for k in (1, 10, 50, 200):
        estimate = fitted.coverage(k)
        assert estimate.value == pytest.approx(known_coverage(0.3, k), abs=0.03)
        assert estimate.interval.low <= estimate.value <= estimate.interval.high


@given(st.floats(-4, -0.05), st.floats(-1.5, -0.05))
def test_a_law_is_found_again_in_its_own_values(a: float, b: float) -> None:
    from evals.coverage_laws import _laws

    ks = doubling(256)
    found = _laws(ks, np.asarray([[a * k**b for k in ks]]))[0]
    assert found == pytest.approx((a, b), rel=1e-3, abs=1e-3)


@given(st.floats(0.05, 1), st.floats(0.002, 0.9))
def test_a_saturating_form_is_found_again_in_its_own_values(f_max: float, p: float) -> None:
    from evals.coverage_laws import _saturations

    ks = doubling(256)
    truth = Saturation(f_max, p)
    found = _saturations(ks, np.asarray([[truth.coverage(k) for k in ks]]))[0]
    assert [found.coverage(k) for k in ks] == pytest.approx([truth.coverage(k) for k in ks], abs=2e-3)


@given(st.floats(-4, -0.05), st.floats(-1.5, -0.05), st.floats(0.02, 0.98))
def test_samples_for_a_target_reach_it_and_no_fewer_do(a: float, b: float, target: float) -> None:
    law = CoverageLaw(a, b)
    k = law.samples_for(target)
    if k == 1:
        assert law.coverage(1) >= target
    elif math.isfinite(k):
        assert law.coverage(k) == pytest.approx(target, rel=1e-6)
        assert law.coverage(k * 0.99) < target


@given(st.floats(0.01, 1), st.floats(0.001, 0.999), st.floats(1e-6, 0.5))
def test_the_saturation_point_is_where_the_next_sample_adds_too_little(f_max: float, p: float, epsilon: float) -> None:
    form = Saturation(f_max, p)
    n = form.point(epsilon)

    def gain(n: int) -> float:
        return f_max * p * (1 - p) ** n

    assert gain(n) <= epsilon * (1 + 1e-6)
    if n > 1:
        assert gain(n - 1) > epsilon * (1 - 1e-6)


def test_what_nothing_or_everything_solves_has_no_law_or_a_flat_one() -> None:
    assert fit_law([Tally(5, 0), Tally(9, 0)]) is None
    assert fit_saturation([Tally(5, 0)]) is None
    sure = fit_law([Tally(5, 5)], resamples=5)
    assert sure is not None
    assert (sure.law, sure.coverage(100).value, sure.samples_for(0.9).value) == (CoverageLaw(0.0, 0.0), 1.0, 1.0)
    stuck = fit_law([Tally(5, 5), Tally(5, 0)], resamples=50)
    assert stuck is not None
    assert stuck.coverage(1_000).value == pytest.approx(0.5)
    assert stuck.samples_for(0.9).value == math.inf


def test_resampled_problems_without_a_right_sample_count_as_no_coverage() -> None:
    """Of 20 problems with one that is solved, a resample holds none that is with a chance of 0.95^20, over a third."""
    few = [Tally(8, 1), *[Tally(8, 0)] * 19]
    law, saturation = fit_law(few, resamples=300), fit_saturation(few, resamples=300)
    assert law is not None
    assert saturation is not None
    assert len(law.draws) == len(saturation.draws) == 300
    assert law.coverage(8).interval.low == 0.0
    assert law.samples_for(0.9).interval.high == math.inf
    assert saturation.point(0.001).interval.low == 1.0


def test_targets_and_gains_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="target=1"):
        CoverageLaw(-1, -1).samples_for(1)
    with pytest.raises(ValueError, match="epsilon=0"):
        Saturation(0.5, 0.5).point(0)


def test_an_interval_of_counts_is_infinite_where_they_are() -> None:
    assert percentiles([1.0, 2.0, 3.0, math.inf], 0.5) == pytest.approx((2.0 - 1 / 3, 3.0), abs=1e-9)
    assert percentiles([1.0, math.inf], 0.95).high == math.inf
    assert percentiles([math.inf], 0.95) == (math.inf, math.inf)
