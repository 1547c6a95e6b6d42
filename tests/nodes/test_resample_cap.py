"""The cap of resampling: the formulas agree with sums and with simulation, and the best K is the best."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.resample_cap import (
    Rates,
    Stakes,
    accuracy_limit,
    best_cap,
    expected_draws,
    expected_utility,
    passing_accuracy,
)


def _rates(p: float, q: float, weight: float) -> Rates:
    return Rates(p_tp=p * q, p_fp=p * (1 - q), weight=weight)


RATES = st.builds(_rates, st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 10))
KINDS = st.lists(RATES, min_size=1, max_size=4)
STAKES = st.builds(Stakes, st.floats(0.1, 10), st.floats(0, 10), st.floats(0, 1))


@given(RATES, st.integers(0, 40), STAKES)
def test_the_utility_is_the_stated_sum(kind: Rates, cap: int, stakes: Stakes) -> None:
    gain = kind.p_tp * stakes.benefit - kind.p_fp * stakes.penalty - stakes.cost
    summed = math.fsum((1 - kind.passes) ** (j - 1) * gain for j in range(1, cap + 1))
    assert expected_utility([kind], cap, stakes) == pytest.approx(summed, abs=1e-9)


@given(KINDS, st.integers(1, 30), STAKES)
def test_no_cap_is_better_than_the_best(kinds: list[Rates], most: int, stakes: Stakes) -> None:
    cap = best_cap(kinds, most, stakes)
    assert 0 <= cap <= most
    top = expected_utility(kinds, cap, stakes)
    for other in range(most + 1):
        assert expected_utility(kinds, other, stakes) <= top + 1e-9 * abs(top) + 1e-12


@given(RATES, st.integers(1, 30), STAKES)
def test_questions_of_one_kind_want_no_draw_or_draws_without_end(kind: Rates, most: int, stakes: Stakes) -> None:
    cap = best_cap([kind], most, stakes)
    gain = expected_utility([kind], 1, stakes)
    if gain <= 0:
        assert cap == 0
    else:
        assert expected_utility([kind], cap, stakes) == pytest.approx(expected_utility([kind], most, stakes))


def test_mixed_questions_have_an_end_below_ten() -> None:
    kinds = (Rates(p_tp=0.6, p_fp=0.02, weight=3), Rates(p_tp=0.05, p_fp=0.2))
    caps = [best_cap(kinds, 1000, Stakes(penalty=penalty)) for penalty in (0, 0.25, 0.5, 1, 2, 4)]
    assert caps == sorted(caps, reverse=True)
    assert 1 <= caps[-1] < caps[3] < 10 < caps[0]


def test_a_dearer_draw_never_raises_the_cap_of_this_mixture() -> None:
    kinds = (Rates(p_tp=0.6, p_fp=0.02, weight=3), Rates(p_tp=0.05, p_fp=0.1))
    caps = [best_cap(kinds, 500, Stakes(penalty=0.2, cost=cost)) for cost in (0, 0.02, 0.05, 0.1, 0.3, 1)]
    assert caps == sorted(caps, reverse=True)
    assert caps[-1] == 0


@given(st.floats(0.01, 1), st.floats(0, 1), st.integers(1, 50))
def test_the_accuracy_of_one_kind_is_its_limit_at_every_cap(p: float, q: float, cap: int) -> None:
    kind = _rates(p, q, 1)
    assert accuracy_limit([kind]) == pytest.approx(q, abs=1e-6)
    assert passing_accuracy([kind], cap) == pytest.approx(q, abs=1e-6)


def test_the_accuracy_of_a_mixture_falls_to_its_limit() -> None:
    kinds = (Rates(p_tp=0.6, p_fp=0.02, weight=3), Rates(p_tp=0.05, p_fp=0.2), Rates(p_tp=0, p_fp=0))
    curve = [passing_accuracy(kinds, cap) for cap in (1, 2, 5, 20, 1000)]
    assert curve == sorted(curve, reverse=True)
    assert curve[-1] == pytest.approx(accuracy_limit(kinds))
    assert accuracy_limit(kinds) == pytest.approx((3 * 0.6 / 0.62 + 0.05 / 0.25) / 4)
    assert math.isnan(accuracy_limit([Rates(p_tp=0, p_fp=0)]))


def test_simulation_finds_what_is_expected() -> None:
    kinds = (Rates(p_tp=0.5, p_fp=0.05, weight=3), Rates(p_tp=0.04, p_fp=0.16))
    stakes, cap, n = Stakes(benefit=1, penalty=0.7, cost=0.03), 6, 40_000
    lots = random.Random(7)
    utility = draws = right = passed = 0.0
    for kind in lots.choices(kinds, [kind.weight for kind in kinds], k=n):
        for _ in range(cap):
            lot = lots.random()
            draws += 1
            utility -= stakes.cost
            if lot < kind.passes:
                is_right = lot < kind.p_tp
                utility += stakes.benefit if is_right else -stakes.penalty
                right += is_right
                passed += 1
                break
    assert utility / n == pytest.approx(expected_utility(kinds, cap, stakes), abs=0.01)
    assert draws / n == pytest.approx(expected_draws(kinds, cap), abs=0.03)
    assert right / passed == pytest.approx(passing_accuracy(kinds, cap), abs=0.01)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one kind"):
        expected_utility([], 3, Stakes())
    with pytest.raises(ValueError, match="above 1"):
        Rates(p_tp=0.6, p_fp=0.5)
