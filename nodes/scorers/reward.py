"""Reward: the number that a reward model gives to question and response."""

from __future__ import annotations

from typing import ClassVar

from nodes.drawing import generate_variables
from nodes.measuring import Measurement, MeasuringScorer
from nodes.scorers.registry import scorer

__all__ = ["Reward"]


@scorer("reward")
class Reward(MeasuringScorer):
    """Score a candidate by a reward model, which reads the question as the user's turn and the candidate as the reply.

    The number is the model's own, on a scale of its own. `panel` brings it to 0..1 by the logistic function: score by
    a panel of one for a `vote` with weights, which gives a negative number no weight. The endpoint has to be one that
    pools (vLLM with a reward model, `/pooling`). The embedded models cannot play this role; their judge's
    `verdict_probability` stands in for it.

    When to use it: for best-of-n where a reward model for the kind of task is at hand; it reads each candidate once and
        writes nothing, so it is the cheapest of the scorers that ask a model.
    Calls: n.
    Paper: Scaling LLM Test-Time Compute Optimally can be More Effective than Scaling Model Parameters (arXiv
        2408.03314), best-of-n by a verifier; Training Verifiers to Solve Math Word Problems (arXiv 2110.14168).
    Symbols: n is the number of candidates.
    Example:
        ```yaml
        name: best-of-n-reward
        layers:
          - generate: {model: fast, samples: 8, temperature: 0.8}
          - score: {scorer: {use: reward, model: strong}, keep: 1}
        ```
    """

    worst: ClassVar[float] = -1e6

    def measurement(self, question: str, candidate: str) -> Measurement:
        """Return the conversation that is scored, neither text changed."""
        return Measurement("reward", "generate", generate_variables(question), candidate)
