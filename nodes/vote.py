"""Vote: self-consistency on the extracted answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from nodes.ballots import Read
from nodes.base import Note
from nodes.calls import latest_score
from nodes.election import Election, Weighed
from nodes.registry import technique

__all__ = ["Vote"]


@technique("vote")
class Vote(Election):
    """Choose the answer that most candidates give, and hand on one candidate that gives it.

    The answer is taken out of each candidate and brought to its normal form, as the task's kind of answer asks (or
    `kind`). A candidate without a readable answer does not vote and is noted. Where no candidate has one, the first
    candidate is handed on, noted as a fallback, with an agreement of 0. The winner carries its share of the votes as
    its score. The rule for ties decides between answers with equally many votes, and also which of the winner's
    candidates stands for it: the `first` in order, the `shortest`, or the one with the highest latest `score` (then the
    first).

    When to use it: where answers are short and comparable (numbers, choices); it costs no call, and is the yardstick
        that every dearer way of choosing has to beat. `agreement` says how sure the vote is, for a condition behind it.
    Calls: 0.
    Paper: Self-Consistency Improves Chain of Thought Reasoning in Language Models (arXiv 2203.11171).
    Symbols: `agreement` = votes of the winner / all votes; `answers` = candidates that voted; `distinct_answers` =
        answers that got a vote. With `weights: score` a vote weighs the candidate's latest score (at least 0), not 1.
    Example:
        ```yaml
        name: self-consistency
        layers:
          - generate: {model: fast, samples: 8, temperature: 0.8}
          - vote: {ties: shortest}
        ```
    """

    weights: Literal["none", "score"] = Field(default="none", description="What a vote weighs: 1, or the latest score.")

    def weigh(self, read: Read, node: str) -> Weighed:
        """Let each vote weigh 1, or the voter's latest score."""
        if self.weights == "none":
            return Weighed(None)
        weights = {voter.id: max(0.0, latest_score(voter) or 0.0) for voter in read.voters}
        if any(weights.values()):
            return Weighed(weights)
        return Weighed(None, (Note(node, "fallback", "no voter has a score above 0; all votes weigh the same"),))
