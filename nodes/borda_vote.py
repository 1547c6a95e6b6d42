"""Borda vote: votes weighed by their rank among all candidates."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from nodes.ballots import Read
from nodes.base import Note
from nodes.calls import latest_score
from nodes.election import Election, Weighed
from nodes.registry import technique

__all__ = ["BordaVote", "mean_ranks"]


@technique("borda_vote")
class BordaVote(Election):
    """Weigh each vote by the candidate's rank, and choose the answer with the greatest weight.

    All candidates are put in order by their latest score, the best first; the one of rank r of N gives its answer
    (N - r + 1)^p votes. Equal scores share the mean of their ranks, so that the order of the candidates cannot matter;
    a candidate without a score comes after all that have one, and one without a readable answer comes last and does not
    vote, but counts in N. With p = 0 every vote weighs 1, with a large p the best candidate decides alone. Only the
    order of the scores counts: scores of any scale may come in, negative ones too. Where no candidate has a score, all
    ranks are equal and the note says that this is a plain vote.

    A further copy of a candidate never lowers the weight of its answer. It may lower its share where p > 0, since every
    candidate that ranks above the copy moves up in weight as well; a copy of the best candidate never does.

    When to use it: behind a `score` whose values cannot be compared as weights, such as self-certainty; the power p is
        between a majority and a best-of-n.
    Calls: 0.
    Paper: Scalable Best-of-N Selection for Large Language Models via Self-Certainty (arXiv 2502.18581), where the score
        is self-certainty.
    Symbols: N is the number of candidates, r a rank from 1 for the best, `p` the power; `agreement` = weight of the
        winner / all weight; `answers` = candidates that voted; `distinct_answers` = answers that got a vote.
    Example:
        ```yaml
        name: borda-self-certainty
        layers:
          - generate: {model: fast, samples: 8, temperature: 0.8, top_logprobs: 5}
          - score: {scorer: self_certainty}
          - borda_vote: {p: 0.5}
        ```
    """

    p: float = Field(default=0.5, ge=0, le=8, description="Power of the rank; 0 is majority voting.")

    def weigh(self, read: Read, node: str) -> Weighed:
        """Weigh each voter by its rank among all candidates."""
        keys = [
            (candidate.answer is not None, (score := latest_score(candidate)) is not None, score or 0.0)
            for candidate in read.candidates
        ]
        count = len(keys)
        weights = {
            candidate.id: (count - rank + 1) ** self.p
            for candidate, rank in zip(read.candidates, mean_ranks(keys), strict=True)
        }
        if any(latest_score(voter) is not None for voter in read.voters):
            return Weighed(weights)
        return Weighed(weights, (Note(node, "fallback", "no voter has a score; all votes weigh the same"),))


def mean_ranks(keys: Sequence[tuple[bool, bool, float]]) -> list[float]:
    """Return the rank of each key, 1 for the greatest; equal keys share the mean of their ranks."""
    ordered = sorted(keys, reverse=True)
    first = {key: place for place, key in reversed(list(enumerate(ordered, 1)))}
    last = {key: place for place, key in enumerate(ordered, 1)}
    return [(first[key] + last[key]) / 2 for key in keys]
