"""Mean log probability: how likely the model found its own tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from nodes.base import CallPlan, Candidate, Context, Estimator, Note, Score, Shape, State
from nodes.scorers.base import Scored, Scorer
from nodes.scorers.registry import scorer

__all__ = ["MeanLogprob"]


@scorer("mean_logprob")
class MeanLogprob(Scorer):
    """Score a candidate by the mean natural-log probability of its tokens, which is at most 0.

    The candidates must have been generated with `top_logprobs: 0` or more; one without log probabilities has no score.

    When to use it: as a fallback where no judge is at hand; fluent errors are likely too, so it says little of truth.
    Calls: 0.
    Paper: Scalable Best-of-N Selection for Large Language Models via Self-Certainty (arXiv 2502.18581), a baseline.
    Symbols: none.
    Example:
        ```yaml
        name: likeliest-of-n
        layers:
          - generate: {model: fast, samples: 8, temperature: 0.8, top_logprobs: 0}
          - score: {scorer: mean_logprob, keep: 1}
        ```
    """

    worst: ClassVar[float] = -1e6

    def reads_logprobs(self) -> bool:
        """It reads nothing else."""
        return True

    async def score(self, state: State, candidates: Sequence[Candidate], context: Context) -> Scored:
        """Read the log probabilities of each candidate."""
        scores = tuple(
            None if candidate.mean_logprob is None else Score(candidate.mean_logprob, "mean_logprob")
            for candidate in candidates
        )
        silent = [c.id for c, score in zip(candidates, scores, strict=True) if score is None]
        notes = [Note(context.node, "unparsed", f"no log probabilities in {', '.join(silent)}")] if silent else []
        return Scored(scores, notes)

    def plan(self, shape: Shape, estimator: Estimator) -> tuple[CallPlan, ...]:
        """Foretell no call."""
        return ()
