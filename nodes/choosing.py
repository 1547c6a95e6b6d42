"""What a filter hands on where no candidate passes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from db.errors import InsufficientCandidates
from nodes.base import Candidate, Note, Range
from nodes.calls import latest_score

__all__ = ["OnNone", "best", "passing", "surviving"]

OnNone = Literal["all", "best", "fail"]


def best(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the highest latest score, the first of equals; without scores, the first."""
    return max(candidates, key=lambda c: float("-inf") if (score := latest_score(c)) is None else score)


def passing(
    candidates: Sequence[Candidate],
    passed: Sequence[bool],
    *,
    on_none: OnNone,
    node: str,
    what: str,
    notes: Sequence[Note],
) -> tuple[tuple[Candidate, ...], list[Note]]:
    """Return the candidates that passed and, where none did, what `on_none` says, with the notes and one more.

    Raises `InsufficientCandidates` where none passed and `on_none` is `fail`; it names the last call that failed.
    """
    survivors = tuple(c for c, is_through in zip(candidates, passed, strict=True) if is_through)
    if survivors:
        return survivors, list(notes)
    if on_none == "fail":
        failed = [note.detail for note in notes if note.kind == "call_failed"]
        last = f" ({len(failed)} calls failed, the last: {failed[-1]})" if failed else ""
        raise InsufficientCandidates(
            f"Node {node!r} has nothing left to hand on: none of {len(candidates)} candidates {what}{last}."
        )
    survivors = tuple(candidates) if on_none == "all" else (best(candidates),)
    handed = "all are" if on_none == "all" else f"{survivors[0].id} is"
    return survivors, [*notes, Note(node, "fallback", f"no candidate {what}; {handed} handed on")]


def surviving(candidates: Range) -> Range:
    """Return how many candidates pass a filter: at least one, at most all, half as a guess."""
    return Range(min(1, candidates.low), max(min(1, candidates.likely), candidates.likely / 2), candidates.high)
