"""Lettered choices in a question: found, put in another order, and answers brought back to the first order.

What is the capital of France?          a question with choices: consecutive lines that begin with
(A) Paris                               (A), (B), …; A) and A. are read as well
(B) Rome
"""

from __future__ import annotations

import hashlib
import random
import re
import string
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Choices", "Shuffled", "read_choices", "shuffles"]

_LINE = re.compile(r"^([ \t]*\(?)([A-Z])([).][ \t]+)(\S.*)$")


class Shuffled(NamedTuple):
    """A question with its choices in another order."""

    question: str
    order: tuple[int, ...]
    """`order[i]` is the place, from 0, that the choice had which now stands at place i."""

    def original(self, letter: str) -> str | None:
        """Return the letter that the chosen choice has in the question itself, or None for no letter of a choice."""
        place = string.ascii_uppercase.find(letter) if len(letter) == 1 else -1
        return string.ascii_uppercase[self.order[place]] if 0 <= place < len(self.order) else None


class Choices(NamedTuple):
    """A question whose last run of lettered lines are its choices."""

    before: tuple[str, ...]
    lines: tuple[str, ...]
    after: tuple[str, ...]

    def shuffled(self, order: Sequence[int]) -> Shuffled:
        """Return the question with the choices in that order; letters and their form stay where they are."""
        parts = [_parts(line) for line in self.lines]
        lines = [f"{part.mark}{parts[place].text}" for part, place in zip(parts, order, strict=True)]
        return Shuffled("\n".join((*self.before, *lines, *self.after)), tuple(order))


class _Parts(NamedTuple):
    mark: str
    letter: str
    text: str


def read_choices(question: str) -> Choices | None:
    """Find the last run of at least two lines lettered A, B, … without a gap; None where there is none."""
    lines = question.split("\n")
    best: tuple[int, int] | None = None
    for begin, line in enumerate(lines):
        if (match := _LINE.match(line)) and match.group(2) == "A":
            end = begin
            while end < len(lines) and _is_choice(lines[end], end - begin):
                end += 1
            if end - begin >= 2:
                best = (begin, end)
    if best is None:
        return None
    begin, end = best
    return Choices(tuple(lines[:begin]), tuple(lines[begin:end]), tuple(lines[end:]))


def shuffles(choices: Choices, count: int, key: str) -> list[Shuffled]:
    """Return the question `count` times, first as it is, then in orders drawn from `key`, different while there are.

    The same key gives the same orders on every machine, and a longer list begins with the shorter one.
    """
    size = len(choices.lines)
    source = random.Random(int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big"))
    orders = [tuple(range(size))]
    seen = set(orders)
    while len(orders) < count:
        order = tuple(source.sample(range(size), size))
        if order not in seen or len(seen) >= _factorial(size):
            seen.add(order)
            orders.append(order)
    return [choices.shuffled(order) for order in orders[:count]]


def _factorial(size: int) -> float:
    product = 1.0
    for factor in range(2, size + 1):
        product *= factor
    return product


def _is_choice(line: str, place: int) -> bool:
    match = _LINE.match(line)
    return match is not None and place < 26 and match.group(2) == string.ascii_uppercase[place]


def _parts(line: str) -> _Parts:
    match = _LINE.match(line)
    if match is None:
        raise ValueError(f"{line!r} is no lettered choice")
    return _Parts(match.group(1) + match.group(2) + match.group(3), match.group(2), match.group(4))
