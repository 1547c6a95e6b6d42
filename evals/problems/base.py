"""What every problem family shares: the problem, its split, and the reader that works it out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, Protocol

__all__ = [
    "EXACT",
    "LEVELS",
    "Difficulty",
    "ExactReader",
    "Family",
    "Level",
    "Operator",
    "Problem",
    "Reader",
    "Split",
    "answer_line",
    "exactly",
    "fingerprint",
    "operation",
    "split_of",
]

Family = Literal["arithmetic", "dates"]
Split = Literal["train", "dev", "test"]
Level = Literal["easy", "medium", "hard"]
Difficulty = Literal["easy", "medium", "hard", "mixed"]
Operator = Literal["+", "-", "*", "/"]

LEVELS: tuple[Level, ...] = ("easy", "medium", "hard")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem with its exact solution."""

    id: str
    """Family and a hash of the question; the same question has the same id everywhere."""
    family: Family
    split: Split
    difficulty: Level
    question: str
    answer: str
    """The decimal integer that is the answer."""
    solution: tuple[str, ...]
    """One line a step; the last line is ``Answer: N``."""


class Reader(Protocol):
    """Reads a story and does its sums: exactly, or with habits of its own (``training/habits.py``)."""

    def misreads(self, kind: str, word: str) -> bool:
        """Say whether the phrase of this kind, told with this word, is misunderstood."""

    def compute(self, left: int, operator: Operator, right: int) -> int:
        """Return the value written down for one operation."""


def exactly(left: int, operator: Operator, right: int) -> int:
    """Return the true value; a division is rounded down."""
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    return left // right


class ExactReader:
    """Understands everything and never miscalculates."""

    def misreads(self, kind: str, word: str) -> bool:
        """Never."""
        return False

    def compute(self, left: int, operator: Operator, right: int) -> int:
        """Return the true value."""
        return exactly(left, operator, right)


EXACT = ExactReader()


def operation(left: int, operator: Operator, right: int, value: int) -> str:
    """Write one step as a line."""
    return f"{left} {operator} {right} = {value}"


def answer_line(value: int) -> str:
    """Write the line that ends a solution."""
    return f"Answer: {value}"


def fingerprint(text: str) -> int:
    """Hash a text to a number that is the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def split_of(canonical: str) -> Split:
    """Assign a canonical problem to its split: 80 % train, 10 % dev, 10 % test."""
    bucket = fingerprint(canonical) % 10
    if bucket == 0:
        return "test"
    return "dev" if bucket == 1 else "train"
