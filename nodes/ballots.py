"""Ballots: candidates that give the same answer, counted; the shared part of every vote."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from nodes.answers import extract
from nodes.base import AnswerKind, Candidate, Note

__all__ = ["Ballot", "Read", "ballots", "leading", "read_answers", "share"]


class Ballot(NamedTuple):
    """An answer with those who give it."""

    answer: str
    voters: tuple[Candidate, ...]
    """The candidates that gave this answer, in their order."""
    weight: float


class Read(NamedTuple):
    """Candidates with their answers extracted, and a note of those that state none."""

    candidates: tuple[Candidate, ...]
    notes: list[Note]

    @property
    def voters(self) -> tuple[Candidate, ...]:
        """Those that state an answer."""
        return tuple(candidate for candidate in self.candidates if candidate.answer is not None)


def read_answers(candidates: Iterable[Candidate], kind: AnswerKind, node: str) -> Read:
    """Extract the answer of every candidate, in normal form; one without an answer is noted and has no vote."""
    read = tuple(replace(candidate, answer=extract(candidate.text, kind)) for candidate in candidates)
    silent = [candidate.id for candidate in read if candidate.answer is None]
    return Read(read, [Note(node, "unparsed", f"no answer in {', '.join(silent)}")] if silent else [])


def ballots(candidates: Iterable[Candidate], weights: Mapping[str, float] | None = None) -> list[Ballot]:
    """Count candidates by their answer, in order of first appearance; those without an answer do not count.

    `weights` gives the weight of each voter by its id (at least 0); None lets each weigh 1.
    """
    by_answer: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.answer is not None:
            by_answer.setdefault(candidate.answer, []).append(candidate)
    return [
        Ballot(answer, tuple(voters), math.fsum(1.0 if weights is None else weights[v.id] for v in voters))
        for answer, voters in by_answer.items()
    ]


def leading(counted: Sequence[Ballot]) -> Ballot:
    """Return the ballot with the greatest weight, the first of equals; raises `ValueError` for none."""
    return max(counted, key=lambda ballot: ballot.weight)


def share(ballot: Ballot, counted: Sequence[Ballot]) -> float:
    """Return a ballot's share of all weight, in 0..1; where nothing weighs anything, 0."""
    total = math.fsum(one.weight for one in counted)
    return ballot.weight / total if total else 0.0
