"""The habits that make the embedded models err: slips at random and misconceptions tied to words.

A well-trained model imitates the distribution of its data, so whatever a habit does here with some probability, the
model does with about that probability at temperature 1.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from evals.problems.base import Family, Operator, exactly


@dataclass(frozen=True, kw_only=True)
class FamilyHabits:
    """How one model goes wrong in one family of problems."""

    slip: float
    """Chance that one operation is miscalculated; doubled for products of two-digit numbers."""
    hot: frozenset[str]
    """Words whose phrases are usually misread."""
    misread_hot: float
    misread_cold: float


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How one model goes wrong."""

    arithmetic: FamilyHabits
    dates: FamilyHabits

    def of(self, family: Family) -> FamilyHabits:
        """Return the habits for a family."""
        return self.arithmetic if family == "arithmetic" else self.dates


NANO = Habits(
    arithmetic=FamilyHabits(
        slip=0.17,
        hot=frozenset(["bags", "tins", "breaks", "fades", "heap", "pile", "hats", "cats", "uncle", "aunt"]),
        misread_hot=0.62,
        misread_cold=0.03,
    ),
    dates=FamilyHabits(
        slip=0.17,
        hot=frozenset(["July", "October", "camp", "course", "class"]),
        misread_hot=0.75,
        misread_cold=0.03,
    ),
)
"""In arithmetic its hot words are others than mini's, so that mixing the two pays; in dates they include mini's."""
MINI = Habits(
    arithmetic=FamilyHabits(
        slip=0.11,
        hot=frozenset(["boxes", "trays", "rots", "bends", "hoard", "toys", "brother"]),
        misread_hot=0.80,
        misread_cold=0.03,
    ),
    dates=FamilyHabits(slip=0.11, hot=frozenset(["July", "course"]), misread_hot=0.70, misread_cold=0.03),
)
JUDGE = Habits(
    arithmetic=FamilyHabits(slip=0.25, hot=frozenset(), misread_hot=0.0, misread_cold=0.25),
    dates=FamilyHabits(slip=0.25, hot=frozenset(), misread_hot=0.0, misread_cold=0.25),
)
"""Only for solving from nothing, which the judge is bad at."""
JUDGE_REPAIR = FamilyHabits(slip=0.25, hot=frozenset(), misread_hot=0.0, misread_cold=0.30)
"""How it goes on after the one step that it mends: else a call to refine would be worth a whole architecture."""


def sharpened(chance: float, ways: int, temperature: float) -> float:
    """Return the chance of a mistake that comes in so many equally likely ways, sampled at a temperature."""
    if temperature == 1 or chance in (0, 1):
        return chance
    wrong: float = ways * (chance / ways) ** (1 / temperature)
    right: float = (1 - chance) ** (1 / temperature)
    return wrong / (wrong + right)


@dataclass(kw_only=True)
class HabitReader:
    """Reads and calculates with the habits of a model; one reader a solution."""

    habits: FamilyHabits
    rng: random.Random
    temperature: float = 1.0
    faithful_steps: int = 0
    """So many operations at the start are done exactly."""
    slips: bool = True
    """Whether it miscalculates at all; without, only its misconceptions show."""
    _known: dict[str, bool] = field(default_factory=dict)

    def misreads(self, kind: str, word: str) -> bool:
        """Draw once whether this word is misunderstood; a word is understood the same way twice."""
        if self.faithful_steps > 0:
            return False
        if word not in self._known:
            chance = self.habits.misread_hot if word in self.habits.hot else self.habits.misread_cold
            self._known[word] = self.rng.random() < sharpened(chance, 1, self.temperature)
        return self._known[word]

    def compute(self, left: int, operator: Operator, right: int) -> int:
        """Return the true value or, with the chance of a slip, one near it."""
        true = exactly(left, operator, right)
        if self.faithful_steps > 0:
            self.faithful_steps -= 1
            return true
        chance = self.habits.slip if self.slips else 0.0
        if operator == "*" and max(left, right) > 9:
            chance *= 2
        if self.rng.random() >= sharpened(chance, 4, self.temperature):
            return true
        return max(0, true + self.rng.choice((-1, 1, -10, 10)))
