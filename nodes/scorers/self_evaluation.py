"""Self-evaluation: how surely a model would not do better if it started over."""

from __future__ import annotations

from typing import ClassVar

from nodes.measuring import Measurement, MeasuringScorer
from nodes.scorers.registry import scorer
from nodes.shown import quoted

__all__ = ["SelfEvaluation"]


@scorer("self_evaluation")
class SelfEvaluation(MeasuringScorer):
    """Score a candidate by the probability that its own model would not do better if it started over.

    The paper trains a model to answer "Would you do better if you started over?" with one token and takes p(no), also
    in the middle of a response. Here the question is put the other way round, whether the response is as good as the
    model would write if it started over, and the score is p(yes) / (p(yes) + p(no)) of the next token, so that a higher
    score is better as everywhere. Without that training the figures of the paper do not carry over. The embedded models
    were not trained for the question either; their judge is asked whether all is right so far instead.

    When to use it: to choose, to stop drawing and to prune unfinished responses without another model than the one that
        answers; `adaptive_best_of_n` does all three with it.
    Calls: n.
    Paper: Adaptive Inference-Time Compute: LLMs Can Predict if They Can Do Better, Even Mid-Generation (arXiv
        2410.02725).
    Symbols: n is the number of candidates.
    Example:
        ```yaml
        name: best-by-self-evaluation
        layers:
          - generate: {model: fast, samples: 8, temperature: 0.8}
          - score: {scorer: {use: self_evaluation, model: fast}, keep: 1}
        ```
    """

    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)

    def measurement(self, question: str, candidate: str) -> Measurement:
        """Return the question whether a fresh start would be no better."""
        variables = {"question": quoted(question), "partial": quoted(candidate)}
        return Measurement("yes", "self_evaluation", variables)
