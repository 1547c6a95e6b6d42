"""Word problems of several steps: a heap of things that grows, shrinks, breaks and is compared."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from evals.problems.base import Level, Operator, Reader, answer_line, operation

__all__ = ["ITEMS", "NAMES", "WORDS", "Event", "Kind", "Story", "make_story"]

Kind = Literal["gain", "loss", "packs", "share", "times", "stranger", "compare"]

NAMES = ("Mia", "Tom", "Ann", "Ben", "Eva", "Leo", "Ida", "Max", "Zoe", "Sam")
ITEMS = ("coins", "pens", "cards", "eggs", "nuts", "beads", "shells", "stamps", "plums", "nails")
WORDS: dict[Kind, tuple[str, ...]] = {
    "gain": ("finds", "wins", "gets", "makes"),
    "loss": ("loses", "sells", "drops", "uses"),
    "packs": ("bags", "tins", "jars", "nets", "boxes", "trays", "tubs", "sacks", "cups", "rolls"),
    "share": ("breaks", "fades", "cracks", "rusts", "rots", "bends", "melts", "leaks", "chips", "tears"),
    "times": ("heap", "pile", "stack", "store", "hoard", "stock", "load", "lot", "batch", "pool"),
    "stranger": ("hats", "cats", "books", "keys", "toys", "dogs", "maps", "bikes", "rings", "lamps"),
    "compare": ("uncle", "aunt", "cousin", "friend", "brother", "sister", "boss", "maid", "guest", "king"),
}
"""The words a kind of event is told with; habits of the models are tied to them."""

_EVENTS: dict[Level, int] = {"easy": 2, "medium": 3, "hard": 4}
_LARGEST_TOTAL = 600


@dataclass(frozen=True, kw_only=True)
class Event:
    """One sentence of a story; what ``first`` and ``second`` count depends on the kind."""

    kind: Kind
    word: str
    first: int
    second: int = 0


@dataclass(frozen=True, kw_only=True)
class Story:
    """A word problem before it is put into words."""

    level: Level
    name: str
    other: str
    item: str
    start: int
    events: tuple[Event, ...]

    @property
    def canonical(self) -> str:
        """What makes it the same problem, whoever it is told of."""
        told = ";".join(f"{e.kind},{e.word},{e.first},{e.second}" for e in self.events)
        return f"arithmetic:{self.start};{told}"

    @property
    def question(self) -> str:
        """The story in words."""
        sentences = [f"{self.name} has {self.start} {self.item}."]
        sentences += [_SENTENCES[event.kind](self, event) for event in self.events]
        last = self.events[-1]
        owner = f"the {last.word}" if last.kind == "compare" else self.name
        return " ".join([*sentences, f"How many {self.item} has {owner} now?"])

    def solve(self, reader: Reader) -> tuple[str, ...]:
        """Work the story out as this reader understands it."""
        lines: list[str] = []
        total = self.start

        def computed(left: int, operator: Operator, right: int) -> int:
            value = reader.compute(left, operator, right)
            lines.append(operation(left, operator, right, value))
            return value

        for event in self.events:
            reading = _reading(event, reader)
            if reading is None:
                continue
            amount = event.first
            if reading.inner is not None:
                left, right = (event.first, event.second) if event.kind == "packs" else (total, event.first)
                amount = computed(left, reading.inner, right)
            total = computed(total, reading.operator, amount)
        return (*lines, answer_line(total))


class _Reading(NamedTuple):
    """What an event does to the total, and the operation that gives the amount, where it takes one."""

    operator: Operator
    inner: Operator | None = None


def _reading(event: Event, reader: Reader) -> _Reading | None:
    """Say what the event means to the reader; None where it means nothing."""
    wrong = event.kind not in ("gain", "loss") and reader.misreads(event.kind, event.word)
    match event.kind:
        case "gain":
            return _Reading("+")
        case "loss":
            return _Reading("-")
        case "packs":
            return _Reading("+", "+" if wrong else "*")
        case "share":
            return _Reading("-", None if wrong else "/")
        case "times":
            return _Reading("+" if wrong else "*")
        case "stranger":
            return _Reading("+") if wrong else None
        case "compare":
            return _Reading("+" if (event.second == 1) == wrong else "-")


def _compare_sentence(story: Story, event: Event) -> str:
    return f"That is {event.first} {'more' if event.second == 1 else 'fewer'} than the {event.word} has."


_SENTENCES: dict[Kind, Callable[[Story, Event], str]] = {
    "gain": lambda story, event: f"{story.name} {event.word} {event.first} more.",
    "loss": lambda story, event: f"{story.name} {event.word} {event.first}.",
    "packs": lambda story, event: f"{story.name} buys {event.first} {event.word} with {event.second} each.",
    "share": lambda story, event: f"One in {event.first} {event.word}.",
    "times": lambda story, event: f"The {event.word} grows to {event.first} times its size.",
    "stranger": lambda story, event: f"{story.other} has {event.first} {event.word}.",
    "compare": _compare_sentence,
}


def _apply(event: Event, total: int) -> int:
    match event.kind:
        case "gain":
            return total + event.first
        case "loss":
            return total - event.first
        case "packs":
            return total + event.first * event.second
        case "share":
            return total - total // event.first
        case "times":
            return total * event.first
        case "stranger":
            return total
        case "compare":
            return total - event.first if event.second == 1 else total + event.first


def _numbers(kind: Kind, total: int, level: Level, rng: random.Random) -> tuple[int, int] | None:
    """Draw the numbers of an event that fits this total, or say that none does."""
    match kind:
        case "gain":
            return rng.randint(3, 40), 0
        case "loss":
            return (rng.randint(3, min(40, total - 2)), 0) if total > 8 else None
        case "packs":
            large = level == "hard" and rng.random() < 0.5
            return rng.randint(2, 9), rng.randint(11, 19) if large else rng.randint(3, 9)
        case "share":
            divisors = [d for d in range(2, 10) if total % d == 0 and total > 2 * d]
            return (rng.choice(divisors), 0) if divisors else None
        case "times":
            return (rng.randint(2, 5), 0) if total <= 60 else None
        case "stranger":
            return rng.randint(3, 40), 0
        case "compare":
            return (rng.randint(3, min(40, total - 2)), rng.randint(0, 1)) if total > 8 else None


def make_story(level: Level, rng: random.Random) -> Story:
    """Draw a story of this level: two to four events, whole numbers, a total of at most 600."""
    name, other = rng.sample(NAMES, 2)
    start = total = rng.randint(6, 60)
    count = _EVENTS[level]
    kinds: list[Kind] = ["gain", "loss", "packs", "packs", "share", "share", "times", "stranger"]
    events: list[Event] = []
    while len(events) < count:
        last = len(events) == count - 1
        kind: Kind = "compare" if last and rng.random() < 0.4 else rng.choice(kinds)
        numbers = _numbers(kind, total, level, rng)
        if numbers is None or any(kind == event.kind for event in events):
            continue
        event = Event(kind=kind, word=rng.choice(WORDS[kind]), first=numbers[0], second=numbers[1])
        if _apply(event, total) > _LARGEST_TOTAL:
            continue
        events.append(event)
        total = _apply(event, total)
    return Story(level=level, name=name, other=other, item=rng.choice(ITEMS), start=start, events=tuple(events))
