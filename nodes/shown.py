"""Candidates as they are shown in prompts: numbered, and quoted so that they cannot pose as the prompt's own format.

A candidate is data. Prompts set candidates apart by numbers in brackets at the start of a line (`[2]`) and, in the
default style, by tags (`<candidate number="2">`); a candidate that writes either would look like the next one. `quoted`
puts a space behind the opening bracket of such marks and leaves every other character as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from nodes.base import Candidate

__all__ = ["Shown", "blanks", "quoted", "shown"]

TAGS = ("candidate", "critique", "example", "question", "reasoning", "test", "tests")
"""The tags of the default prompts."""

_NUMBER = re.compile(r"^([^\S\n]*(?:[*_#>`-]+[^\S\n]*)?)\[(?=[^\S\n]*\d+[^\S\n]*\])", re.MULTILINE)
_TAG = re.compile(r"<(?=\s*+/?\s*+(?:" + "|".join(TAGS) + r")\b)", re.IGNORECASE)


class Shown(NamedTuple):
    """A candidate as a template sees it."""

    n: int
    """Its number in the prompt, from 1."""
    text: str
    critique: str | None


def quoted(text: str) -> str:
    """Return a text, stripped, in which nothing looks like a numbered mark or a tag of the prompts."""
    text = text.strip()
    if "[" in text:
        text = _NUMBER.sub(r"\1[ ", text)
    return _TAG.sub("< ", text) if "<" in text else text


def shown(candidates: Iterable[Candidate], *, critiques: bool = True) -> list[Shown]:
    """Number candidates from 1 and quote them; their own critiques go with them unless they are not wanted."""
    return [
        Shown(number, quoted(candidate.text), quoted(candidate.critique) if critiques and candidate.critique else None)
        for number, candidate in enumerate(candidates, 1)
    ]


def blanks(count: int, *, critiques: bool = False) -> list[Shown]:
    """Return as many candidates without text, for a planner to weigh the prompt around them."""
    return [Shown(number, "", "-" if critiques else None) for number in range(1, count + 1)]
