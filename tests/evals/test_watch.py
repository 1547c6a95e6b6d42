"""Repeated looks: the chance against counting all orders, the error without a change, the falls that are found."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evals.watch import _chance, _windows, fell, novel, rose, smallest_fall, spent

Values = NDArray[np.float64]

ALPHA = 0.05


def history(
    rng: np.random.Generator, *, references: int, looks: int, mean: float = 0.7, alike: float = 1.0, fall: float = 0.0
) -> Values:
    """Draw 0/1 samples of 200 items of unlike difficulty; from the first look on their mean is lower by `fall`."""
    easy = rng.beta(mean * alike, (1 - mean) * alike, 200)
    now = easy * (1 - fall / mean)
    chances = [easy] * references + [now] * looks
    return np.stack([rng.random(200) < chance for chance in chances], axis=1).astype(float)


def first_alarm(scores: Values, references: int, *, alpha: float = ALPHA, before: int = 0) -> int | None:
    """Return the first look with an alarm, as a watch would meet it."""
    looks = scores.shape[1] - references
    for look in range(before + 1, looks + 1):
        if fell(scores[:, : references + look], references, look).error <= alpha:
            return look
    return None


@settings(max_examples=40)
@given(st.data())
def test_the_chance_counts_all_orders(data: st.DataObject) -> None:
    samples = data.draw(st.integers(2, 4))
    row = st.lists(st.integers(-2, 3), min_size=samples, max_size=samples)
    rows = data.draw(st.lists(row, min_size=1, max_size=3))
    window = data.draw(st.integers(1, samples - 1))
    seen = sum(sum(row[samples - window :]) for row in rows)
    orders = list(itertools.product(*(itertools.permutations(row) for row in rows)))
    low = sum(sum(sum(row[samples - window :]) for row in order) <= seen for order in orders)
    assert _chance(np.asarray(rows), window) == pytest.approx(low / len(orders), abs=1e-12)


def test_all_looks_and_windows_share_the_error() -> None:
    assert 0.99 < math.fsum(spent(look) for look in range(1, 50_000)) < 1
    for looks in (1, 2, 3, 4, 30):
        assert math.fsum(share for _, share in _windows(looks)) == pytest.approx(1)
        assert [window for window, _ in _windows(looks)] == sorted({1, min(looks, 3), looks})


@pytest.mark.parametrize("references", [1, 4])
def test_histories_without_change_hardly_ever_give_an_alarm(references: int) -> None:
    rng = np.random.default_rng(references)
    alarms = sum(first_alarm(history(rng, references=references, looks=30), references) is not None for _ in range(200))
    assert alarms <= 0.05 * 200


def test_a_test_against_the_reference_alone_would_give_them() -> None:
    """The reference's own error comes back in every look, so adding the looks up finds it."""
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(100):
        scores = history(rng, references=1, looks=30)
        gaps = scores[:, :1] - scores[:, 1:]
        sigmas = gaps.sum() / math.sqrt((gaps**2).sum())
        alarms += sigmas > 1.645
    assert alarms > 25


@pytest.mark.parametrize("alike", [0.5, 1.0])
def test_a_fall_of_ten_points_is_found_within_three_looks(alike: float) -> None:
    rng = np.random.default_rng(11)
    found = sum(
        first_alarm(history(rng, references=4, looks=3, alike=alike, fall=0.1), 4, alpha=0.6 * ALPHA) is not None
        for _ in range(200)
    )
    assert found >= 0.9 * 200


def test_a_late_fall_is_found_as_well_even_with_a_reference_of_one_sample() -> None:
    rng = np.random.default_rng(12)
    found = 0
    for _ in range(100):
        easy = rng.beta(0.7, 0.3, 200)
        chances = [easy] * 10 + [easy * 6 / 7] * 3
        scores = np.stack([rng.random(200) < chance for chance in chances], axis=1).astype(float)
        found += first_alarm(scores, 1, alpha=0.6 * ALPHA, before=9) is not None
    assert found >= 90


def test_the_smallest_fall_is_one_that_is_found() -> None:
    rng = np.random.default_rng(13)
    found, falls = 0, []
    for _ in range(100):
        before = history(rng, references=4, looks=0)
        smallest = smallest_fall(before, alpha=ALPHA)
        assert smallest is not None
        falls.append(smallest)
        found += first_alarm(history(rng, references=4, looks=3, fall=smallest), 4) is not None
    assert 0.05 < np.mean(falls) < 0.1
    assert found >= 85
    assert smallest_fall(before[:, :1], alpha=ALPHA) is None


def test_graded_scores_keep_the_error_and_show_a_fall() -> None:
    rng = np.random.default_rng(14)
    alarms = found = 0
    for _ in range(20):
        level = rng.uniform(0.3, 0.9, (100, 1))
        scores = np.clip(level + rng.normal(0, 0.1, (100, 8)), 0, 1)
        alarms += first_alarm(scores, 2) is not None
        scores[:, 2:] = np.clip(scores[:, 2:] - 0.05, 0, 1)
        found += first_alarm(scores[:, :5], 2) is not None
    assert alarms <= 2
    assert found >= 18


def test_costs_rise_by_ranks_so_that_one_runaway_item_is_no_alarm() -> None:
    rng = np.random.default_rng(15)
    tokens = rng.lognormal(5, 1, (80, 1)) * rng.lognormal(0, 0.2, (80, 5))
    calm = rose(tokens, 3, 2)
    assert calm.error > ALPHA
    runaway = tokens.copy()
    runaway[0, 4] *= 1000
    assert rose(runaway, 3, 2).error > ALPHA
    tokens[:, 4] *= 1.3
    risen = rose(tokens, 3, 2)
    assert (risen.error < 1e-3, risen.window) == (True, 1)
    assert risen.after > risen.before
    # What never varies shows nothing, and what rose in a fifth of the items alone does.
    calls = np.full((80, 5), 3.0)
    assert rose(calls, 3, 2).error == 1
    calls[:16, 4] = 5
    assert rose(calls, 3, 2).error < 1e-3


def test_answers_that_nobody_gave_before_show_a_change() -> None:
    same = [["a", "a", "a", "a"]] * 40
    assert novel(same, 1).error == 1
    some = [["a", "a", "a", "b"]] * 8 + same
    assert novel(some, 1).error < 1e-2
    assert novel(some, 1).after == pytest.approx(8 / 48)
    # A provider whose greedy answers differ anyway: as many stand alone as ever.
    restless = [[*"abcd"]] * 20 + [["a", "b", "a", "a"], ["b", "a", "a", "a"], ["a", "a", "a", "b"]] * 6
    assert novel(restless, 1).error == 1
    # With a single answer before there is no telling.
    assert novel([["a", "b"]] * 50, 1).error == 1


def test_many_items_and_samples_are_counted_without_loss() -> None:
    rng = np.random.default_rng(16)
    scores = (rng.random((3000, 33)) < 0.6).astype(float)
    calm = fell(scores, 3, 30)
    assert calm.error > ALPHA
    scores[:, -1] = rng.random(3000) < 0.5
    assert fell(scores, 3, 30).error < 1e-6


@pytest.mark.parametrize(
    ("shape", "references", "look"), [((0, 3), 1, 2), ((4, 1), 1, 1), ((4, 3), 0, 3), ((4, 3), 1, 1)]
)
def test_what_cannot_be_a_look_is_refused(shape: tuple[int, int], references: int, look: int) -> None:
    with pytest.raises(ValueError, match="a look needs items and a reference"):
        fell(np.zeros(shape), references, look)


def test_costs_without_change_hardly_ever_give_an_alarm() -> None:
    rng = np.random.default_rng(17)
    alarms = 0
    for _ in range(100):
        tokens = rng.lognormal(5, 1, (60, 1)) * rng.lognormal(0, 0.4, (60, 12))
        alarms += any(rose(tokens[:, : 2 + look], 2, look).error <= ALPHA for look in range(1, 11))
    assert alarms <= 5
