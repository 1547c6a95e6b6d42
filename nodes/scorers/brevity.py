"""Brevity: the shorter, the better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from nodes.base import CallPlan, Candidate, Context, Estimator, Note, Score, Shape, State
from nodes.scorers.base import Scored, Scorer
from nodes.scorers.registry import scorer

__all__ = ["Brevity"]


@scorer("brevity")
class Brevity(Scorer):
    """Score a candidate by the length of the shortest one over its own, to a power.

    The shortest candidate gets 1, one of twice its length 0.5 (with `power: 1`). Length is counted in tokens where
    every candidate's are known, which takes in the thinking of reasoning models, else in characters. An empty
    candidate has no score.

    When to use it: as the weight of a vote, or with `keep: 1` as "the shortest chain wins"; with reasoning models,
        whose right answers tend to be shorter. Not where a full answer is wanted.
    Calls: 0.
    Paper: Think Deep, Think Fast: Investigating Efficiency of Verifier-free Inference-time-scaling Methods (arXiv
        2504.14047); Don't Overthink it. Preferring Shorter Thinking Chains for Improved LLM Reasoning.
    Symbols: `power` is the exponent; 0 makes all candidates equal.
    Example:
        ```yaml
        name: shorter-votes-weigh-more
        layers:
          - generate: {model: fast, samples: 8, temperature: 0.8}
          - score: {scorer: brevity}
          - vote: {weights: score, ties: shortest}
        ```
    """

    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)

    power: float = Field(default=1.0, ge=0, le=8, description="Exponent of the ratio of lengths.")

    async def score(self, state: State, candidates: Sequence[Candidate], context: Context) -> Scored:
        """Measure each candidate."""
        full = [candidate for candidate in candidates if candidate.text.strip()]
        by_tokens = all(candidate.completion_tokens > 0 for candidate in full)
        lengths = {c.id: c.completion_tokens if by_tokens else len(c.text.strip()) for c in full}
        shortest = min(lengths.values(), default=1)
        scores = tuple(
            Score((shortest / lengths[c.id]) ** self.power, "brevity") if c.id in lengths else None for c in candidates
        )
        empty = [candidate.id for candidate in candidates if candidate.id not in lengths]
        return Scored(scores, [Note(context.node, "unparsed", f"no text in {', '.join(empty)}")] if empty else [])

    def plan(self, shape: Shape, estimator: Estimator) -> tuple[CallPlan, ...]:
        """Foretell no call."""
        return ()
