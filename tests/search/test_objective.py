"""Objectives, and the guard that keeps a split from being fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import UserError
from search import Measured, Objective, ReusableHoldout, choose

ITEMS = [Measured(quality=1, dollars=0.2, calls=4, seconds=2), Measured(quality=0, dollars=0.4, calls=8, seconds=4)]


def test_more_is_better_in_every_objective() -> None:
    wanted = Objective(names=("quality", "dollars", "calls", "seconds", "cost_per_correct", "utility"), error_price=2.0)
    assert wanted.values(ITEMS) == pytest.approx((0.5, -0.3, -6, -3, -0.6, -1.3))


def test_a_cost_per_correct_answer_is_finite_without_one() -> None:
    wanted = Objective(names=("cost_per_correct",))
    assert wanted.values(ITEMS[1:]) == (-0.8,)
    assert wanted.values([ITEMS[1], replace(ITEMS[1], quality=0.25)]) == (-1.6,)
    assert wanted.score(ITEMS[0]) == 1
    wanted.check_rungs((9,))
    Objective().check_rungs((3, 9))
    with pytest.raises(UserError, match="cannot be raced by rungs of items; race by 'utility', or use one rung"):
        replace(wanted, names=("quality", "cost_per_correct")).check_rungs((3, 9))


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


class TestFinalists:
    def test_the_winner_of_a_null_space_is_not_believed(self) -> None:
        """Two hundred coins, the best five are finalists: what is said of the winner loses a third of its luck."""
        before, after, shown = list[float](), list[float](), list[int]()
        for seed in range(100):
            rng = np.random.default_rng((seed, 7))
            training, guarded = (rng.random((2, 200, 100)) < 0.5).astype(float)
            best = [int(trial) for trial in np.argsort(-training.mean(axis=1), kind="stable")[:5]]
            choice = choose(
                {trial: list(training[trial]) for trial in best},
                {trial: list(guarded[trial]) for trial in best},
                ReusableHoldout(budget=5, seed=seed),
            )
            assert {*choice.order} == {*best}
            before.append(training[best[0]].mean() - 0.5)
            after.append(choice.values[choice.order[0]] - 0.5)
            shown.append(choice.shown)
        assert np.mean(after) < 0.75 * np.mean(before)
        assert 2 < np.mean(shown) <= 5

    def test_where_both_parts_agree_the_order_of_training_stands(self) -> None:
        scores = {4: [1.0] * 6 + [0.0] * 4, 1: [1.0] * 7 + [0.0] * 3, 9: [1.0] * 7 + [0.0] * 3}
        choice = choose(scores, scores, ReusableHoldout(budget=3))
        assert choice == ((1, 9, 4), {1: 0.7, 9: 0.7, 4: 0.6}, 0)

    def test_a_lucky_leader_falls_behind(self) -> None:
        training = {0: [1.0] * 50, 1: [1.0] * 40 + [0.0] * 10}
        guarded = {0: [1.0] * 20 + [0.0] * 30, 1: [1.0] * 40 + [0.0] * 10}
        choice = choose(training, guarded, ReusableHoldout(budget=2))
        assert choice.order == (1, 0)
        assert choice.shown == 1
        assert choice.values[0] == pytest.approx(0.4, abs=0.1)
        assert choose(training, guarded, ReusableHoldout(budget=0)).order == (0, 1)

    def test_who_was_scored_on_few_items_stands_behind(self) -> None:
        """As where a budget ends before all finalists reach the last rung: six lucky items are no proof."""
        training = {4: [1.0] * 6, 3: [1.0] * 17 + [0.0], 0: [1.0] * 12 + [0.0] * 6}
        guarded = dict.fromkeys(training, [1.0] * 4 + [0.0])
        choice = choose(training, guarded, ReusableHoldout(budget=3))
        assert choice.order == (3, 0, 4)
        assert choose(
            {4: training[4], 3: training[3]}, {4: [1.0] * 5, 3: [0.0] * 5}, ReusableHoldout(budget=2)
        ).order == (
            3,
            4,
        )

    def test_refuses(self) -> None:
        for bad in ({}, {1: [1.0]}):
            with pytest.raises(ValueError, match="scores on both parts"):
                choose(bad, {}, ReusableHoldout(budget=1))
        with pytest.raises(ValueError, match="at least one score"):
            choose({1: []}, {1: []}, ReusableHoldout(budget=1))
