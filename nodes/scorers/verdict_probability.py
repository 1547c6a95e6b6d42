"""Verdict probability: how surely a model says yes when it is asked whether a response is right."""

from __future__ import annotations

from typing import ClassVar

from nodes.measuring import Measurement, MeasuringScorer
from nodes.scorers.registry import scorer
from nodes.shown import quoted

__all__ = ["VerdictProbability"]


@scorer("verdict_probability")
class VerdictProbability(MeasuringScorer):
    """Score a candidate by p(yes) / (p(yes) + p(no)) of the next token, asked whether the candidate is right.

    The verdict comes at once, without reasoning before it, and the probability of its token is the score, finer than
    any mark: equal scores are rare. The model needs likeliest next tokens (`top_logprobs`) or scores of its own, as the
    embedded judge has; where neither yes nor no is among the likeliest tokens, the call fails and is noted.

    When to use it: in place of `judge` wherever probabilities can be had: one call that writes one token. `genrm`
        reasons before its verdicts and is dearer by far.
    Calls: n.
    Paper: Generative Verifiers: Reward Modeling as Next-Token Prediction (arXiv 2408.15240), the direct verifier
        without chains of thought.
    Symbols: n is the number of candidates.
    Example:
        ```yaml
        name: surest-of-n
        layers:
          - generate: {model: fast, samples: 8, temperature: 0.8}
          - score: {scorer: {use: verdict_probability, model: strong}, keep: 1}
        ```
    """

    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    is_probability: ClassVar[bool] = True

    def measurement(self, question: str, candidate: str) -> Measurement:
        """Return the question whether the candidate is right."""
        shown = quoted(candidate)
        variables = {"question": quoted(question), "candidate": shown, "partial": shown}
        return Measurement("yes", "verdict_probability", variables)
