"""Readers of replies that ask for work: plans in ReWOO's form and lines of tool calls.

Tolerant of form, strict in meaning: what cannot be read without guessing is named in `problems` and left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

__all__ = [
    "EARLIER",
    "EVIDENCE",
    "LONGEST_INPUT",
    "PlanStep",
    "ReadPlan",
    "ToolCall",
    "circling",
    "clipped",
    "levels",
    "read_calls",
    "read_plan",
    "references",
    "substituted",
]

LONGEST_INPUT: Final = 2000
"""Bytes of one input, as it was written."""

_MOST_PROBLEMS: Final = 5

EVIDENCE: Final = re.compile(r"#E(\d{1,3})\b")
"""A reference to an evidence of a plan."""
EARLIER: Final = re.compile(r"#(\d{1,3})\b")
"""A reference to an earlier sub-question."""

_STEP = re.compile(r"#E(\d{1,3})[*_`]*[ \t]*[=:](?!=)[ \t]*")
_HEAD = re.compile(r"[*_`]*([A-Za-z][A-Za-z0-9_ -]{0,40}?)[*_`]*[ \t]*\[")
_PLAN = re.compile(r"^[^\w\n]*(?:\d{1,2}[.)][^\w\n]*)?plan\b[^:\n]{0,12}:[ \t]*", re.IGNORECASE | re.MULTILINE)
_CALL = re.compile(
    r"^[ \t]*(?:[-•*][ \t]+|\d{1,2}[.)][ \t]+)?[*_`]*call[*_`]*[ \t]*:[*_` \t]*", re.IGNORECASE | re.MULTILINE
)


class ToolCall(NamedTuple):
    """A tool by the name that was written, and what goes into it."""

    tool: str
    text: str

    def __str__(self) -> str:
        return f"{self.tool}[{self.text}]"


class PlanStep(NamedTuple):
    """One line `#E1 = Tool[input]` of a plan, and the words that lead to it."""

    number: int
    why: str
    call: ToolCall


class ReadPlan(NamedTuple):
    """What a reply plans, and what of it could not be read."""

    steps: tuple[PlanStep, ...]
    problems: tuple[str, ...]


def clipped(text: str, most: int, *, end: bool = False) -> str:
    """Cut a text to so many bytes of UTF-8, with a mark where something is gone; with `end` its end is kept."""
    data = text.strip().encode("utf-8", "replace")
    if len(data) <= most:
        return data.decode()
    room = most - len("…".encode())
    if end:
        return "…" + data[len(data) - room :].decode(errors="ignore")
    return data[:room].decode(errors="ignore") + "…"


def read_plan(text: str, most: int) -> ReadPlan:
    """Read at most so many steps of a plan; each number counts once, the first time."""
    marks = list(_STEP.finditer(text))
    steps: dict[int, PlanStep] = {}
    problems: list[str] = []
    before = text[: marks[0].start()] if marks else ""
    for mark, following in zip_longest(marks, marks[1:]):
        body = text[mark.end() : following.start() if following else len(text)]
        call, rest = _bracketed(body)
        number = int(mark[1])
        if call is None:
            problems.append(f"#E{number} names no tool with an input in brackets")
        elif number in steps:
            problems.append(f"#E{number} is planned twice; the first stands")
        elif len(steps) == most:
            problems.append(f"#E{number} is one too many (at most {most})")
        else:
            steps[number] = PlanStep(number, _words(before), call)
        before = body[rest:]
    return ReadPlan(tuple(steps.values()), _few(problems))


def read_calls(text: str, most: int) -> ReadPlan:
    """Read at most so many different lines `Call: tool[input]`; their numbers are those of their order."""
    marks = list(_CALL.finditer(text))
    found: dict[ToolCall, None] = {}
    problems: list[str] = []
    for mark, following in zip_longest(marks, marks[1:]):
        call, _ = _bracketed(text[mark.end() : following.start() if following else len(text)])
        if call is None:
            problems.append("a call names no tool with an input in brackets")
        elif call not in found and len(found) == most:
            problems.append(f"{clipped(str(call), 80)} is one too many (at most {most})")
        else:
            found[call] = None
    return ReadPlan(tuple(PlanStep(n, "", call) for n, call in enumerate(found, 1)), _few(problems))


def references(text: str, mark: re.Pattern[str] = EVIDENCE) -> tuple[int, ...]:
    """Number what a text refers to (`#E2`), each once, in its order."""
    return tuple(dict.fromkeys(int(number) for number in mark.findall(text)))


def substituted(text: str, known: Mapping[int, str], most: int) -> str:
    """Put the evidence that is known in the place of references, and cut what comes of it to so many bytes."""
    return clipped(EVIDENCE.sub(lambda match: known.get(int(match[1]), match[0]), text), most)


def levels(needs: Mapping[int, Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Sort numbers into levels, each of which needs only those before it; what stands in a circle is in none.

    A need for a number that is not there holds nothing up.

    >>> levels({1: (), 2: (1,), 3: (), 4: (2, 3), 5: (6,), 6: (5,)})
    ((1, 3), (2,), (4,))
    """
    left = {number: {need for need in wanted if need in needs} for number, wanted in needs.items()}
    found: list[tuple[int, ...]] = []
    while ready := tuple(number for number, wanted in left.items() if not wanted):
        found.append(ready)
        left = {number: wanted - set(ready) for number, wanted in left.items() if number not in ready}
    return tuple(found)


def circling(needs: Mapping[int, Sequence[int]]) -> frozenset[int]:
    """Return the numbers that need themselves, straight or by way of others.

    >>> sorted(circling({1: (2,), 2: (1,), 3: (1,), 4: (4,)}))
    [1, 2, 4]
    """

    def reached(number: int) -> set[int]:
        found: set[int] = set()
        ahead = list(needs[number])
        while ahead:
            if (one := ahead.pop()) not in found:
                found.add(one)
                ahead += needs.get(one, ())
        return found

    return frozenset(number for number in needs if number in reached(number))


def _bracketed(text: str) -> tuple[ToolCall | None, int]:
    """Read `Tool[input]` at the start of a text, and where it ends; brackets in the input may be nested."""
    head = _HEAD.match(text)
    if head is None:
        return None, 0
    depth, place = 1, head.end()
    while place < len(text) and depth:
        depth += {"[": 1, "]": -1}.get(text[place], 0)
        place += 1
    # A bracket that the input leaves open: the last one of the line closes the call.
    line_end = text.find("\n", head.end())
    last = text.rfind("]", head.end(), line_end if line_end >= 0 else len(text))
    end = place - 1 if not depth else last
    written = text[head.end() : end].strip() if end >= head.end() else ""
    if not written:
        return None, 0
    return ToolCall(head[1].strip(), clipped(written, LONGEST_INPUT)), end + 1


def _few(problems: list[str]) -> tuple[str, ...]:
    """Keep the first problems of a reply that may have thousands, and count the others."""
    more = len(problems) - _MOST_PROBLEMS
    return (*problems[:_MOST_PROBLEMS], f"{more} more steps cannot be taken") if more > 0 else tuple(problems)


def _words(text: str) -> str:
    """Return what a plan says before a step: what stands behind the last `Plan:`, on one line."""
    parts = _PLAN.split(text)
    return " ".join(clipped(parts[-1], LONGEST_INPUT).split()).strip("*_` ")
