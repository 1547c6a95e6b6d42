"""Problems drawn by family, split, difficulty and seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Protocol

from evals.problems import arithmetic, dates
from evals.problems.base import EXACT, LEVELS, Difficulty, Family, Level, Problem, Reader, Split, fingerprint, split_of

__all__ = ["Story", "draw_stories", "draw_story", "make_problems", "problem_of"]


class Story(Protocol):
    """A problem before it is put into words; a reader with habits can work it out as well."""

    @property
    def level(self) -> Level:
        """How hard it is."""

    @property
    def canonical(self) -> str:
        """What makes it the same problem; its hash decides the split."""

    @property
    def question(self) -> str:
        """The story in words."""

    def solve(self, reader: Reader) -> tuple[str, ...]:
        """Work it out as this reader understands it; the last line is ``Answer: N``."""


def draw_story(family: Family, split: Split, level: Level, rng: random.Random) -> Story:
    """Draw stories until one belongs to the split, and return it."""
    while True:
        story: Story = arithmetic.make_story(level, rng) if family == "arithmetic" else dates.make_story(level, rng)
        if split_of(story.canonical) == split:
            return story


def draw_stories(family: Family, *, split: Split, difficulty: Difficulty = "mixed", seed: int = 0) -> Iterator[Story]:
    """Yield different stories for ever; `mixed` takes the three levels in turn."""
    rng = random.Random(f"{family}/{split}/{difficulty}/{seed}")
    levels = LEVELS if difficulty == "mixed" else (difficulty,)
    seen: set[str] = set()
    while True:
        for level in levels:
            story = draw_story(family, split, level, rng)
            while story.canonical in seen:
                story = draw_story(family, split, level, rng)
            seen.add(story.canonical)
            yield story


def problem_of(family: Family, story: Story) -> Problem:
    """Put a story into words and work it out."""
    solution = story.solve(EXACT)
    return Problem(
        id=f"{family}-{fingerprint(story.question):016x}",
        family=family,
        split=split_of(story.canonical),
        difficulty=story.level,
        question=story.question,
        answer=solution[-1].removeprefix("Answer: "),
        solution=solution,
    )


def make_problems(
    family: Family, n: int, *, split: Split, difficulty: Difficulty = "mixed", seed: int = 0
) -> list[Problem]:
    """Make `n` different problems; the same arguments give the same problems in every process.

    A problem's split follows from a hash of the problem, so no seed can bring a test problem into training.
    With a larger `n` the list grows at its end.
    """
    stories = draw_stories(family, split=split, difficulty=difficulty, seed=seed)
    return [problem_of(family, next(stories)) for _ in range(n)]
