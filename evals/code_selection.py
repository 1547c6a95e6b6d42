"""Selectors of programs by the tests they pass, where all programs were run on all tests.

Both choose among candidates without knowing which is right, and both return everything that shares the first place:
what is then expected of a choice is the mean over it, not the luck of the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

__all__ = [
    "AgreementSet",
    "ProgramRuns",
    "agreement_sets",
    "dual_execution_agreement",
    "expected_accuracy",
    "most_tests_passed",
]


class ProgramRuns(NamedTuple):
    """Programs that were run on tests."""

    passed: Sequence[Sequence[bool]]
    """By program and test; programs that were sampled several times stand here as often."""
    weights: Sequence[float] = ()
    """How often each test was generated; empty for 1 each."""


class AgreementSet(NamedTuple):
    """Programs that pass exactly the same tests: a consensus set."""

    programs: tuple[int, ...]
    """Places of the programs, in order."""
    tests: float
    """Tests that they pass, each with its weight."""
    score: float


def most_tests_passed(runs: ProgramRuns) -> tuple[int, ...]:
    """Return the places of the programs that pass most tests, by weight; all that are equal.

    Raises `ValueError` without programs and for rows of unequal length.
    """
    weights = _weights(runs)
    totals = [_weight(row, weights) for row in runs.passed]
    best = max(totals)
    return tuple(place for place, total in enumerate(totals) if total == best)


def agreement_sets(runs: ProgramRuns, *, programs: Literal["count", "root"] = "root") -> tuple[AgreementSet, ...]:
    """Return the consensus sets of dual execution agreement, best first (CodeT, arXiv 2207.10397).

    Programs that pass the same tests are one set; its score is their number times the number of tests they pass.
    With `programs="root"`, as the authors' code counts, the number of programs goes in by its square root, since equal
    programs come for free and tests are the scarcer witness; with `"count"` as it is. Raises as `most_tests_passed`.
    """
    weights = _weights(runs)
    members: dict[bytes, list[int]] = {}
    for place, row in enumerate(runs.passed):
        members.setdefault(bytes(map(bool, row)), []).append(place)
    sets = []
    for places in members.values():
        tests = _weight(runs.passed[places[0]], weights)
        size = len(places) ** (0.5 if programs == "root" else 1.0)
        sets.append(AgreementSet(tuple(places), tests, size * tests))
    return tuple(sorted(sets, key=lambda one: -one.score))


def dual_execution_agreement(runs: ProgramRuns, *, programs: Literal["count", "root"] = "root") -> tuple[int, ...]:
    """Return the places of the programs of the best consensus set, or of several where they are equal.

    Where no program passes a test, that is all of them. Raises as `most_tests_passed`.
    """
    sets = agreement_sets(runs, programs=programs)
    return tuple(sorted(place for one in sets if one.score == sets[0].score for place in one.programs))


def expected_accuracy(chosen: Sequence[int], correct: Sequence[bool]) -> float:
    """Return the chance that one of the chosen programs, drawn at random, is right.

    Raises `ValueError` where none is chosen.
    """
    if not chosen:
        raise ValueError("of no programs none can be drawn")
    return sum(correct[place] for place in chosen) / len(chosen)


def _weights(runs: ProgramRuns) -> Sequence[float]:
    if not runs.passed:
        raise ValueError("a selector needs at least one program")
    tests = len(runs.passed[0])
    weights = runs.weights or (1,) * tests
    if len(weights) != tests or any(len(row) != tests for row in runs.passed):
        lengths = sorted({len(row) for row in runs.passed})
        raise ValueError(f"each program has a result for each test ({lengths} results, {len(weights)} weights)")
    return weights


def _weight(row: Sequence[bool], weights: Sequence[float]) -> float:
    return sum(weight for passed, weight in zip(row, weights, strict=True) if passed)
