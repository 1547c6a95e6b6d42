"""Selectors of programs: laws, and a case counted by hand."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.code_selection import (
    ProgramRuns,
    agreement_sets,
    dual_execution_agreement,
    expected_accuracy,
    most_tests_passed,
)


@st.composite
def runs(draw: st.DrawFn) -> ProgramRuns:
    tests = draw(st.integers(0, 6))
    row = st.lists(st.booleans(), min_size=tests, max_size=tests)
    weights = draw(st.lists(st.integers(1, 4), min_size=tests, max_size=tests))
    return ProgramRuns(draw(st.lists(row, min_size=1, max_size=9)), draw(st.sampled_from([tuple(weights), ()])))


def by_hand(given_runs: ProgramRuns) -> set[int]:
    """Expand programs and tests to pairs and count them, as the paper describes it."""
    weights = given_runs.weights or [1] * len(given_runs.passed[0])
    passing = defaultdict(set)
    for program, row in enumerate(given_runs.passed):
        copies = [(test, copy) for test, passed in enumerate(row) if passed for copy in range(int(weights[test]))]
        passing[frozenset(copies)].add(program)
    best = max(len(programs) * len(tests) for tests, programs in passing.items())
    return {one for tests, programs in passing.items() if len(programs) * len(tests) == best for one in programs}


@given(runs())
def test_dual_agreement_is_the_count_of_pairs(given_runs: ProgramRuns) -> None:
    assert set(dual_execution_agreement(given_runs, programs="count")) == by_hand(given_runs)


@given(runs())
def test_sets_part_the_programs_and_stand_in_order(given_runs: ProgramRuns) -> None:
    sets = agreement_sets(given_runs)
    assert sorted(place for one in sets for place in one.programs) == list(range(len(given_runs.passed)))
    assert all(one.score == pytest.approx(len(one.programs) ** 0.5 * one.tests) for one in sets)
    assert [one.score for one in sets] == sorted((one.score for one in sets), reverse=True)


@given(runs(), st.randoms(use_true_random=False))
def test_the_order_of_programs_and_tests_changes_no_choice(given_runs: ProgramRuns, chance: random.Random) -> None:
    passed, weights = given_runs
    rows, columns = list(range(len(passed))), list(range(len(passed[0])))
    chance.shuffle(rows)
    chance.shuffle(columns)
    mixed = ProgramRuns(
        [[passed[r][c] for c in columns] for r in rows], [weights[c] for c in columns] if weights else ()
    )
    for select in (most_tests_passed, dual_execution_agreement):
        assert {rows[place] for place in select(mixed)} == set(select(given_runs))


@given(runs())
def test_most_tests_passed_beats_every_other(given_runs: ProgramRuns) -> None:
    weights = given_runs.weights or [1] * len(given_runs.passed[0])
    totals = [sum(w for w, passed in zip(weights, row, strict=True) if passed) for row in given_runs.passed]
    assert {totals[place] for place in most_tests_passed(given_runs)} == {max(totals)}
    assert len(most_tests_passed(given_runs)) == totals.count(max(totals))


def test_a_lone_outlier_wins_by_tests_and_loses_by_agreement() -> None:
    # Four programs agree on two tests; one passes three that nobody else does.
    passed = [[True, True, False, False, False]] * 4 + [[False, False, True, True, True]]
    assert most_tests_passed(ProgramRuns(passed)) == (4,)
    assert dual_execution_agreement(ProgramRuns(passed)) == (0, 1, 2, 3)
    # The root takes sway from numbers: with six tests the outlier wins by it, and not by the count.
    passed = [[True, True, *[False] * 6]] * 4 + [[False, False, *[True] * 6]]
    assert dual_execution_agreement(ProgramRuns(passed)) == (4,)
    assert dual_execution_agreement(ProgramRuns(passed), programs="count") == (0, 1, 2, 3)


def test_where_nothing_passes_all_are_equal() -> None:
    nothing = ProgramRuns([[False], [False]])
    assert dual_execution_agreement(nothing) == most_tests_passed(nothing) == (0, 1)
    untested = ProgramRuns([[], [], []])
    assert dual_execution_agreement(untested) == most_tests_passed(untested) == (0, 1, 2)


def test_accuracy_is_the_mean_over_ties() -> None:
    assert expected_accuracy((0, 2, 3), (True, True, False, False)) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="none can be drawn"):
        expected_accuracy((), (True,))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one program"):
        most_tests_passed(ProgramRuns([]))
    with pytest.raises(ValueError, match="2 weights"):
        dual_execution_agreement(ProgramRuns([[True]], (1, 2)))
    with pytest.raises(ValueError, match=r"\[1, 2\] results"):
        most_tests_passed(ProgramRuns([[True], [True, False]]))
