"""Tasks whose problems are made on the spot, with exact answers: word problems (`arithmetic`) and dates (`dates`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from evals.problems import Difficulty, Family, make_problems
from evals.scorers.extracted import ExtractedScorer
from evals.task import Item, Task
from evals.tasks.registry import TaskOptions, task

__all__ = ["GeneratedOptions", "make_arithmetic", "make_dates"]

USUAL_ITEMS = 100


class GeneratedOptions(TaskOptions):
    """Options of the generated tasks."""

    difficulty: Difficulty = Field("mixed", description="easy, medium, hard, or mixed (the three in turn)")
    split: Literal["dev", "test", "train"] = Field("test", description="train, dev or test; they never overlap")


@task("arithmetic", GeneratedOptions)
def make_arithmetic(options: GeneratedOptions, items: int | None, seed: int) -> Task:
    """Make word problems of two to six steps."""
    return _make("arithmetic", options, items, seed)


@task("dates", GeneratedOptions)
def make_dates(options: GeneratedOptions, items: int | None, seed: int) -> Task:
    """Make problems of date arithmetic."""
    return _make("dates", options, items, seed)


def _make(family: Family, options: GeneratedOptions, items: int | None, seed: int) -> Task:
    problems = make_problems(
        family, items or USUAL_ITEMS, split=options.split, difficulty=options.difficulty, seed=seed
    )
    made = tuple(
        Item(id=p.id, question=p.question, gold=p.answer, metadata={"difficulty": p.difficulty, "split": p.split})
        for p in problems
    )
    return Task(name=family, items=made, scorer=ExtractedScorer(kind="numeric"))
