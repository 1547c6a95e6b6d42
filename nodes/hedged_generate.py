"""Hedged generate: stochastic samples and one greedy sample of each model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nodes.registry import technique
from nodes.variants import Variant, Varying

__all__ = ["HedgedGenerate"]


@technique("hedged_generate")
class HedgedGenerate(Varying):
    """Draw stochastic samples of each model, and one greedy sample as a hedge.

    The greedy sample (temperature 0) comes first, so that what falls back on the first candidate, or breaks a tie by
    order, falls back on it: a high temperature pays for variety with quality, above all in languages that a
    model knows less well, and the greedy sample bounds that loss. The stochastic samples are those that a `generate` of
    the same settings draws. The paper cuts off improbable tokens by min-p as well; no call of this system carries
    min-p, but a model's `extra_body` in `models.yaml` can (`extra_body: {min_p: 0.1}`), where its server knows it.

    When to use it: in place of `generate` in front of a choice (`mbr`, `rank`, `judge`) on open or multilingual tasks,
        with a temperature from 0.7 to 0.9 and few samples. In front of a vote it changes little.
    Calls: m·(k + 1), in 2·m requests.
    Paper: When Life Gives You Samples: The Benefits of Scaling up Inference Compute for Multilingual LLMs (arXiv
        2506.20544), hedged sampling.
    Symbols: m is the number of different `model`s, k is `samples`, the stochastic ones of each.
    Example:
        ```yaml
        name: hedged-choice
        layers:
          - hedged_generate: {model: fast, samples: 4, temperature: 0.8}
          - rank: {model: strong, keep: 1}
        ```
    """

    def variants(self) -> Sequence[Variant]:
        """Name the greedy samples, one of each model, and then the stochastic ones."""
        drawn = self.sampling()
        greedy = replace(drawn, temperature=0.0, top_p=None)
        return [
            *(Variant(model, greedy, system=self.system) for model in self.models()),
            *(Variant(model, drawn, system=self.system) for model in self.models() for _ in range(self.samples)),
        ]
