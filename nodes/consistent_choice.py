"""Choosing one value for each field so that constraints hold and as much weight as possible is kept.

    options = {"a": [Option(1, 2.0), Option(2, 1.0)], "b": [Option(2, 3.0)]}
    choose(options, [Same(same=("a", "b"))], allowed=0)       # a = 2 and b = 2, of weight 4; a = 1 is outvoted

Exact by branch and bound, or by hill climbing from several starts where the combinations are too many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nodes.constraints import Constraint, violated

__all__ = ["Choice", "Option", "choose", "combinations"]

_LEVEL = 1e-9
"""Weights that differ by less are equal: sums of the same weights may differ in their last bits."""
_DEEPEST = 200
"""Fields of an exact search, which is as deep as they are many."""

Picks = dict[str, int | None]
"""By field, the place of the chosen option; None for no value."""


class Option(NamedTuple):
    """A value that a field may get; the options of a field stand in the order in which they are preferred."""

    value: object
    weight: float


class Choice(NamedTuple):
    """What was chosen."""

    picks: Picks
    weight: float
    violated: int
    exact: bool
    """No other choice that breaks no more keeps more weight."""


def combinations(options: Mapping[str, Sequence[Option]], constraints: Sequence[Constraint], *, abstain: bool) -> int:
    """Return the number of choices for the fields that a constraint speaks of; the others are free."""
    return math.prod(len(options[name]) + abstain for name in _spoken(options, constraints))


def _spoken(options: Mapping[str, Sequence[Option]], constraints: Sequence[Constraint]) -> list[str]:
    spoken = frozenset[str]().union(*(constraint.fields() for constraint in constraints))
    return [name for name in options if name in spoken]


def choose(
    options: Mapping[str, Sequence[Option]],
    constraints: Sequence[Constraint],
    *,
    allowed: int,
    abstain: bool = True,
    exact_up_to: int = 20_000,
    starts: Sequence[Picks] = (),
) -> Choice:
    """Choose the values of greatest weight of which at most `allowed` constraints are violated.

    With `abstain` a field may stay without a value. Without it there may be no such choice, and the one with the fewest
    violations is returned. Up to `exact_up_to` combinations the result is the best one; beyond, hill climbing starts
    from the heaviest options, from nothing and from `starts`, and is never worse than any of these.
    """
    problem = _Problem(options, constraints, abstain)
    few = combinations(options, constraints, abstain=abstain) <= exact_up_to and len(problem.names) <= _DEEPEST
    if few:
        for most in range(allowed, max(allowed, len(constraints)) + 1):
            found = _Search(problem, most).best()
            if found is not None:
                return problem.choice(found, exact=True)
    return problem.choice(_climbed(problem, allowed, starts), exact=False)


class _Problem:
    def __init__(
        self, options: Mapping[str, Sequence[Option]], constraints: Sequence[Constraint], abstain: bool
    ) -> None:
        self.options = options
        self.constraints = constraints
        spoken = _spoken(options, constraints)
        self.of_field = {name: [c for c in constraints if name in c.fields()] for name in spoken}
        # Fields of many constraints come first, so that a search sees violations early; free fields need no search.
        self.names = sorted(spoken, key=lambda name: (-len(self.of_field[name]), name))
        self.places: dict[str, list[int | None]] = {
            name: [*range(len(options[name])), *([None] if abstain else [])] for name in spoken
        }

    def weight(self, picks: Picks) -> float:
        return math.fsum(self.weight_of(name, place) for name, place in picks.items())

    def weight_of(self, name: str, place: int | None) -> float:
        return 0.0 if place is None else self.options[name][place].weight

    def values(self, picks: Picks) -> dict[str, object]:
        return {name: self.options[name][place].value for name, place in picks.items() if place is not None}

    def choice(self, searched: Picks, *, exact: bool) -> Choice:
        picks = {name: searched.get(name, 0) for name in self.options}
        return Choice(picks, self.weight(picks), violated(self.constraints, self.values(picks)), exact)


@dataclass
class _Search:
    """Depth first over the fields, the preferred options first; what cannot get better than the best is left."""

    problem: _Problem
    most: int
    picks: Picks = field(default_factory=dict)
    found: tuple[float, int, Picks] | None = None

    def __post_init__(self) -> None:
        names = self.problem.names
        heaviest = [max(self.problem.weight_of(name, place) for place in self.problem.places[name]) for name in names]
        self.rest = [math.fsum(heaviest[depth:]) for depth in range(len(names) + 1)]
        depth_of = {name: depth for depth, name in enumerate(names)}
        # A constraint is decided as soon as the last of its fields is.
        self.decided: list[list[Constraint]] = [[] for _ in range(len(names) + 1)]
        for constraint in self.problem.constraints:
            depths = [depth_of[name] + 1 for name in constraint.fields() if name in depth_of]
            self.decided[max(depths, default=0)].append(constraint)

    def best(self) -> Picks | None:
        self._descend(0, 0.0, 0)
        return None if self.found is None else self.found[2]

    def _descend(self, depth: int, weight: float, broken: int) -> None:
        if self.decided[depth]:
            broken += violated(self.decided[depth], self.problem.values(self.picks))
        if broken > self.most or not self._may_be_better(weight + self.rest[depth], broken):
            return
        if depth == len(self.problem.names):
            self.found = (weight, broken, dict(self.picks))
            return
        name = self.problem.names[depth]
        for place in self.problem.places[name]:
            self.picks[name] = place
            self._descend(depth + 1, weight + self.problem.weight_of(name, place), broken)
        del self.picks[name]

    def _may_be_better(self, bound: float, broken: int) -> bool:
        if self.found is None:
            return True
        weight, violations, _ = self.found
        return bound > weight + _LEVEL or (bound > weight - _LEVEL and broken < violations)


def _climbed(problem: _Problem, allowed: int, starts: Sequence[Picks]) -> Picks:
    def rank(picks: Picks) -> tuple[int, float, int]:
        broken = violated(problem.constraints, problem.values(picks))
        return (max(0, broken - allowed), -round(problem.weight(picks) / _LEVEL) * _LEVEL, broken)

    heaviest: Picks = {name: problem.places[name][0] for name in problem.names}
    nothing: Picks = {name: problem.places[name][-1] for name in problem.names}
    whole = [{name: start.get(name, nothing[name]) for name in problem.names} for start in starts]
    different = {tuple(start.items()): start for start in (heaviest, nothing, *whole)}
    return min((_climb(problem, start, allowed) for start in different.values()), key=rank)


def _climb(problem: _Problem, start: Picks, allowed: int) -> Picks:
    """Change one field at a time, each time the one that helps most, until none helps."""
    picks = dict(start)
    broken = violated(problem.constraints, problem.values(picks))
    while True:
        best: tuple[tuple[int, float, int], str, int | None] | None = None
        for name in problem.names:
            old = picks[name]
            before = violated(problem.of_field[name], problem.values(picks))
            for place in problem.places[name]:
                if place == old:
                    continue
                change = violated(problem.of_field[name], problem.values({**picks, name: place})) - before
                gain = problem.weight_of(name, place) - problem.weight_of(name, old)
                excess = max(0, broken + change - allowed) - max(0, broken - allowed)
                move = ((excess, -gain, change), name, place)
                if _helps(move[0]) and (best is None or move[0] < best[0]):
                    best = move
        if best is None:
            return picks
        (_, _, change), name, place = best
        picks[name] = place
        broken += change


def _helps(change: tuple[int, float, int]) -> bool:
    excess, loss, broken = change
    if excess:
        return excess < 0
    return loss < -_LEVEL or (loss < _LEVEL and broken < 0)
