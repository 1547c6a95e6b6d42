"""Cross-encoder: how well a response fits a question, by a model that reads both at once."""

from __future__ import annotations

from typing import ClassVar

from nodes.drawing import generate_variables
from nodes.measuring import Measurement, MeasuringScorer
from nodes.scorers.registry import scorer

__all__ = ["CrossEncoder"]


@scorer("cross_encoder")
class CrossEncoder(MeasuringScorer):
    """Score a candidate by a cross-encoder, which reads question and candidate as a pair and gives one number.

    Small encoders of this kind are trained to tell whether a text answers a question; the number is the model's own.
    The endpoint has to have `/v1/score` (vLLM with a sequence classifier). The embedded models cannot play this role.

    When to use it: for short factual answers, or where a small trained judge is to stand in for a large one; what a
        relevance model has not learnt, such as arithmetic, it does not see.
    Calls: n.
    Paper: LLM-Blender: Ensembling Large Language Models with Pairwise Ranking and Generative Fusion (arXiv
        2306.02561), whose rankers of single candidates (MLM-Scoring, SimCLS, SummaReranker) are of this kind.
    Symbols: n is the number of candidates.
    Example:
        ```yaml
        name: best-fit-of-n
        layers:
          - generate: {model: fast, samples: 8, temperature: 0.8}
          - score: {scorer: {use: cross_encoder, model: strong}, keep: 1}
        ```
    """

    worst: ClassVar[float] = -1e6

    def measurement(self, question: str, candidate: str) -> Measurement:
        """Return the pair that is scored, neither text changed."""
        return Measurement("pair", "generate", generate_variables(question), candidate)
