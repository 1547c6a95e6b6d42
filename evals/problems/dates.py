"""Date arithmetic: on which day of the month does something end that moves on by days and weeks?"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from evals.problems.base import Level, Reader, answer_line, operation

__all__ = ["LENGTHS", "MONTHS", "NOUNS", "Move", "Story", "Unit", "make_story"]

Unit = Literal["days", "weeks"]

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""Days a month has in a common year, which every story is set in."""
NOUNS = ("fair", "camp", "trip", "show", "course", "cruise", "feast", "tour", "class", "market")

_MISTAKEN = {31: 30, 30: 31, 28: 30}
_MOVES: dict[Level, int] = {"easy": 1, "medium": 2, "hard": 3}


@dataclass(frozen=True, kw_only=True)
class Move:
    """A span of time after which the story goes on."""

    unit: Unit
    count: int

    @property
    def days(self) -> int:
        """How many days it lasts."""
        return self.count * 7 if self.unit == "weeks" else self.count


@dataclass(frozen=True, kw_only=True)
class Story:
    """A date problem before it is put into words."""

    level: Level
    noun: str
    day: int
    month: int
    """0 for January."""
    moves: tuple[Move, ...]

    @property
    def canonical(self) -> str:
        """What makes it the same problem."""
        return f"dates:{self.noun};{self.day};{self.month};" + ";".join(f"{m.unit},{m.count}" for m in self.moves)

    @property
    def question(self) -> str:
        """The story in words."""
        sentences = [f"The {self.noun} opens on {self.day} {MONTHS[self.month]}."]
        sentences += [f"It moves {move.count} {move.unit} later." for move in self.moves[:-1]]
        last = self.moves[-1]
        sentences.append(f"It ends {last.count} {last.unit} later. On which day of the month does it end?")
        return " ".join(sentences)

    def solve(self, reader: Reader) -> tuple[str, ...]:
        """Work the story out as this reader understands it."""
        lines: list[str] = []
        day, month = self.day, self.month
        for move in self.moves:
            days = move.count
            if move.unit == "weeks":
                length = 5 if reader.misreads("week", self.noun) else 7
                days = reader.compute(move.count, "*", length)
                lines.append(operation(move.count, "*", length, days))
            later = reader.compute(day, "+", days)
            lines.append(operation(day, "+", days, later))
            day = later
            while day > (length := _believed_length(month, reader)):
                left = reader.compute(day, "-", length)
                month = (month + 1) % 12
                lines.append(f"{operation(day, '-', length, left)} {MONTHS[month]}")
                day = left
        return (*lines, answer_line(day))


def _believed_length(month: int, reader: Reader) -> int:
    length = LENGTHS[month]
    return _MISTAKEN[length] if reader.misreads("month", MONTHS[month]) else length


def make_story(level: Level, rng: random.Random) -> Story:
    """Draw a story of this level: one to three moves that cross at least one end of a month."""
    while True:
        month = rng.randrange(12)
        moves = tuple(_make_move(rng) for _ in range(_MOVES[level]))
        day = rng.randint(1, 28)
        if day + sum(move.days for move in moves) > LENGTHS[month]:
            return Story(level=level, noun=rng.choice(NOUNS), day=day, month=month, moves=moves)


def _make_move(rng: random.Random) -> Move:
    if rng.random() < 0.5:
        return Move(unit="weeks", count=rng.randint(2, 7))
    return Move(unit="days", count=rng.randint(8, 45))
