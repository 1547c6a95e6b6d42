"""Settling a vote: the answer of those that were drawn, and the candidate that stands for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from nodes.ballots import ballots, share
from nodes.base import Candidate, Note

__all__ = ["Settled", "Ties", "length", "settle", "votes_of"]

Ties = Literal["first", "shortest"]


class Settled(NamedTuple):
    """What a vote came to."""

    candidate: Candidate
    """The one that stands for the winning answer, with its share of all weight as its score."""
    agreement: float
    """The winner's share of all weight, 0..1; 0 where no candidate states an answer."""
    answers: int
    """Candidates that voted."""
    notes: tuple[Note, ...]


def votes_of(candidates: Sequence[Candidate]) -> tuple[int, ...]:
    """Count the votes of each answer, most first; the candidates carry their answers."""
    return tuple(sorted((len(ballot.voters) for ballot in ballots(candidates)), reverse=True))


def settle(
    candidates: Sequence[Candidate],
    node: str,
    *,
    ties: Ties = "first",
    weights: Mapping[str, float] | None = None,
) -> Settled:
    """Vote among candidates that carry their answers, one at least.

    `weights` are those of the candidates by id; where no voter weighs anything all weigh the same. A tie goes to the
    answer that came first or, with `shortest`, to the one with the shortest candidate, which then stands for it; with
    weights the heaviest of the winner's candidates stands for it. Where none states an answer, the first candidate is
    taken (with weights the heaviest, with `shortest` the shortest), noted as a fallback.
    """
    voters = [candidate for candidate in candidates if candidate.answer is not None]
    if weights is not None and not any(weights[one.id] for one in voters or candidates):
        weights = None
    counted = ballots(candidates, weights)

    def rank(candidate: Candidate) -> tuple[float, float]:
        heavy = 0.0 if weights is None else -weights[candidate.id]
        return (heavy, length(candidate) if ties == "shortest" else 0.0)

    if not counted:
        chosen = min(candidates, key=rank)
        note = Note(node, "fallback", f"no candidate has an answer; {chosen.id} is handed on")
        return Settled(chosen.scored(node, 0.0), 0.0, 0, (note,))
    # `min` keeps the first of equals, and ballots and voters stand in the order of the candidates. Sums of the same
    # weights in another order may differ in their last bits, which is a tie all the same.
    heaviest = max(ballot.weight for ballot in counted)
    level = [ballot for ballot in counted if math.isclose(ballot.weight, heaviest, rel_tol=1e-12)]
    winner = min(level, key=lambda ballot: min(length(v) for v in ballot.voters) if ties == "shortest" else 0.0)
    agreement = share(winner, counted)
    chosen = min(winner.voters, key=rank)
    return Settled(chosen.scored(node, agreement), agreement, sum(len(b.voters) for b in counted), ())


def length(candidate: Candidate) -> float:
    """Return how long a candidate is: its tokens where they are known, else its characters."""
    return candidate.completion_tokens or len(candidate.text)
