"""Preferences without the effect of the place: by both orders, and by a fit."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.position_bias import Comparison, Correction, corrected, fit_strengths, position_bias

COUNT = 4
PAIRS = [(a, b) for a in range(COUNT) for b in range(COUNT) if a != b]
COMPARISONS = st.lists(
    st.builds(
        lambda pair, outcome: Comparison(pair[0], pair[1], outcome),
        st.sampled_from(PAIRS),
        st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    ),
    max_size=14,
)
HOW: list[Correction] = ["none", "swap", "bradley_terry"]


@pytest.mark.parametrize("how", HOW)
@given(comparisons=COMPARISONS)
@settings(max_examples=25)
def test_preferences_of_a_pair_are_complements(how: Correction, comparisons: list[Comparison]) -> None:
    found = corrected(comparisons, COUNT, how)
    for a, b in itertools.combinations(range(COUNT), 2):
        assert found.preferences[a][b] + found.preferences[b][a] == pytest.approx(1.0)
        assert 0.0 <= found.preferences[a][b] <= 1.0
    assert math.fsum(found.scores) == pytest.approx(COUNT / 2)
    assert -1.0 <= found.position_bias <= 1.0


@pytest.mark.parametrize("how", HOW)
@given(comparisons=COMPARISONS, source=st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_neither_the_order_of_comparisons_nor_the_names_of_responses_count(
    how: Correction, comparisons: list[Comparison], source: object
) -> None:
    names, shuffled = list(range(COUNT)), list(comparisons)
    source.shuffle(names)  # type: ignore[attr-defined]  # hypothesis types it as an object of random's interface
    source.shuffle(shuffled)  # type: ignore[attr-defined]  # as above
    renamed = [Comparison(names[c.first], names[c.second], c.outcome) for c in shuffled]
    found, other = corrected(comparisons, COUNT, how), corrected(renamed, COUNT, how)
    assert [other.scores[names[i]] for i in range(COUNT)] == pytest.approx(list(found.scores), abs=1e-6)
    assert other.position_bias == pytest.approx(found.position_bias, abs=1e-6)


def always_first(count: int) -> list[Comparison]:
    return [Comparison(a, b, 1.0) for a in range(count) for b in range(count) if a != b]


@pytest.mark.parametrize("how", ["swap", "bradley_terry"])
def test_a_judge_that_looks_at_the_place_alone_says_nothing_of_quality(how: Correction) -> None:
    found = corrected(always_first(3), 3, how)
    assert found.scores == pytest.approx((0.5, 0.5, 0.5))
    assert found.position_bias > 0.8
    assert corrected([Comparison(0, 1, 1.0), Comparison(1, 0, 1.0)], 2, "swap").position_bias == 1.0


def test_a_missing_order_is_a_tie_for_swap_and_counts_alone_for_none() -> None:
    seen = [Comparison(0, 1, 1.0)]
    assert corrected(seen, 2, "swap").preferences[0][1] == 0.75
    assert corrected(seen, 2, "none").preferences[0][1] == 1.0
    assert corrected([], 2, "none").preferences[0][1] == 0.5
    assert corrected([], 1, "swap").scores == (1.0,)
    repeated = [Comparison(0, 1, 1.0), Comparison(0, 1, 0.0), Comparison(1, 0, 0.0)]
    assert corrected(repeated, 2, "none").preferences[0][1] == 0.75


def test_the_bias_is_read_from_pairs_that_were_shown_both_ways() -> None:
    both = [Comparison(0, 1, 1.0), Comparison(1, 0, 0.0)]
    assert position_bias([*both, Comparison(2, 3, 1.0)]) == 0.0
    assert position_bias([Comparison(2, 3, 1.0)]) == 1.0
    assert position_bias([]) == 0.0


def test_the_fit_finds_the_strengths_and_the_effect_that_outcomes_were_drawn_from() -> None:
    """One order a pair only, where swapping can take nothing out."""
    strengths, effect = np.array([1.0, 0.3, -0.2, -1.1]), 0.8
    source = np.random.default_rng(4)
    seen = []
    for a, b in PAIRS:
        chance = 1 / (1 + math.exp(-(strengths[a] - strengths[b] + effect)))
        seen += [Comparison(a, b, float(source.random() < chance)) for _ in range(150)]
    found = fit_strengths(seen, COUNT)
    assert found.effect == pytest.approx(effect, abs=0.15)
    assert found.strengths == pytest.approx(strengths.tolist(), abs=0.2)
    assert sum(found.strengths) == pytest.approx(0, abs=1e-6)


def test_the_fit_is_where_the_penalised_likelihood_is_flat() -> None:
    seen = [Comparison(0, 1, 1.0), Comparison(1, 2, 0.5), Comparison(2, 0, 0.25), Comparison(0, 2, 1.0)]
    found = fit_strengths(seen, 3, ridge=0.2)
    at = np.array([*found.strengths, found.effect])

    def loss(at: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        logits = [at[c.first] - at[c.second] + at[3] for c in seen]
        likelihood = sum(math.log1p(math.exp(z)) - c.outcome * z for z, c in zip(logits, seen, strict=True))
        return float(likelihood + 0.1 * (at @ at))

    for place in range(4):
        step = np.eye(4)[place] * 1e-4
        assert loss(at + step) == pytest.approx(loss(at - step), abs=1e-9)
    # Whoever always wins gets no infinite strength.
    assert abs(fit_strengths([Comparison(0, 1, 1.0)] * 50, 2).strengths[0]) < 10


@pytest.mark.parametrize(
    ("comparison", "said"),
    [
        (Comparison(0, 2, 1.0), "does not compare two of 2 responses"),
        (Comparison(1, 1, 1.0), "does not compare two of 2 responses"),
        (Comparison(0, 1, 1.5), "has an outcome outside 0..1"),
    ],
)
def test_what_cannot_be_is_refused(comparison: Comparison, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        corrected([comparison], 2, "none")
    with pytest.raises(ValueError, match="The ridge must lie above 0, not at 0"):
        fit_strengths([], 2, ridge=0)
