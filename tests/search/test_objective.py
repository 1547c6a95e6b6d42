"""Objectives, and the guard that keeps a split from being fitted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import Measured, Objective, ReusableHoldout

ITEMS = [Measured(quality=1, dollars=0.2, calls=4, seconds=2), Measured(quality=0, dollars=0.4, calls=8, seconds=4)]


def test_more_is_better_in_every_objective() -> None:
    wanted = Objective(names=("quality", "dollars", "calls", "seconds", "cost_per_correct", "utility"), error_price=2.0)
    assert wanted.values(ITEMS) == pytest.approx((0.5, -0.3, -6, -3, -0.6, -1.3))
    assert Objective(names=("cost_per_correct",)).values(ITEMS[1:]) == (-float("inf"),)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 5)), min_size=1), st.floats(0, 10))
def test_a_score_is_what_the_mean_is_made_of(pairs: list[tuple[float, float]], price: float) -> None:
    wanted = Objective(names=("utility",), error_price=price)
    items = [Measured(quality=quality, dollars=dollars) for quality, dollars in pairs]
    assert wanted.values(items)[0] == pytest.approx(np.mean([wanted.score(item) for item in items]), abs=1e-9)


def test_refuses() -> None:
    for bad in ({"names": ()}, {"names": ("quality", "quality")}, {"error_price": -1.0}):
        with pytest.raises(ValueError, match="objectives are different ones"):
            Objective(**bad)
    with pytest.raises(ValueError, match="at least one item"):
        Objective().values([])
    with pytest.raises(ValueError, match="no single item"):
        Objective(names=("cost_per_correct",)).score(ITEMS[0])


class TestReusableHoldout:
    def test_the_best_of_many_null_architectures_is_not_believed(self) -> None:
        """Five hundred coins: the best of them look good on 100 items; the guard shows what they are worth."""
        rng = np.random.default_rng(3)
        training, holdout = (rng.random((500, 100)) < 0.5).astype(float), (rng.random((500, 1000)) < 0.5).astype(float)
        guard, said = ReusableHoldout(budget=300, threshold=0.06, noise=0.01), list[float]()
        for seen, hidden in zip(training, holdout, strict=True):
            answer = guard.ask(list(seen), list(hidden))
            guard = answer.guard
            said.append(answer.value)
        looked = training.mean(axis=1)
        best = np.argsort(-looked)[:20]
        assert np.mean(np.asarray(said)[best] - 0.5) < 0.5 * np.mean(looked[best] - 0.5)
        assert guard.asked == 500
        assert 0 < guard.budget < 300

    def test_with_its_budget_spent_the_holdout_is_shut(self) -> None:
        guard = ReusableHoldout(budget=1, threshold=0.01, noise=0.001)
        first = guard.ask([1.0] * 50, [0.0] * 50)
        assert first.from_holdout
        assert first.value < 0.1
        again = first.guard.ask([1.0] * 50, [0.0] * 50)
        assert again == (1.0, False, again.guard)
        assert guard.ask([1.0] * 50, [0.0] * 50) == first

    def test_refuses(self) -> None:
        with pytest.raises(ValueError, match="above 0"):
            ReusableHoldout(budget=1, threshold=0)
        with pytest.raises(ValueError, match="at least one score"):
            ReusableHoldout(budget=1).ask([], [1.0])
