"""Exact checks of a reply: its answer, and each of its steps."""

from __future__ import annotations

import re

from evals.problems.base import Problem

__all__ = ["check", "check_steps", "match_steps", "read_answer"]

_ANSWER = re.compile(r"answer\s*(?:is)?\s*:?[\s*$]*(-?\d[\d,]*)(?:\.0+)?(?![\d.]*\d)", re.IGNORECASE)
_STEP = re.compile(r"(-?\d+)([+*])(-?\d+)=(.*)")


def read_answer(text: str) -> str | None:
    """Return the integer after the last ``Answer:`` of a reply, or None where there is none."""
    found: list[str] = _ANSWER.findall(text)
    return str(int(found[-1].replace(",", ""))) if found else None


def check(problem: Problem, text: str) -> bool:
    """Say whether the reply gives the problem's answer; a reply without an answer is wrong."""
    return read_answer(text) == problem.answer


def check_steps(problem: Problem, text: str) -> list[bool]:
    """Say of each line that is not blank whether it is the exact solution's step at that place.

    After the first wrong step all are wrong: what follows rests on it. The ``Answer:`` line counts as a step.
    """
    return match_steps(problem.solution, text)


def match_steps(solution: tuple[str, ...], text: str) -> list[bool]:
    """Compare a reply's lines with those of a solution, as `check_steps` does."""
    labels: list[bool] = []
    right = True
    for place, line in enumerate(line for line in text.splitlines() if line.strip()):
        right = right and place < len(solution) and _normal(line) == _normal(solution[place])
        labels.append(right)
    return labels


def _normal(line: str) -> str:
    squeezed = re.sub(r"\s+", "", line).lower().rstrip(".")
    sum_ = _STEP.fullmatch(squeezed)
    if sum_ is None:
        return squeezed
    left, operator, right, rest = sum_.groups()
    first, second = sorted((left, right))
    return f"{first}{operator}{second}={rest}"
