"""Diverse generate: each sample asked for with another prefix, so that samples begin differently."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from nodes.base import Context, State
from nodes.registry import technique
from nodes.scheduled_generate import Temperature
from nodes.variants import Variant, Varying

__all__ = ["DiverseGenerate", "prefix_diversity"]

Prefix = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]

_PREFIXES = (
    "Work forward from what is given, one step at a time.",
    "Work backward from what is asked to what is given.",
    "Name the unknowns, write down what relates them, and solve for them.",
    "Set out what is known in a list or a table before you work anything out.",
    "Estimate the result first; then work it out exactly and compare.",
    "Solve a smaller case of the same kind first, then this one.",
    "Answer directly, without a long explanation.",
    "Look for the mistake that is easiest to make here, and solve it without making it.",
)
_WORD = re.compile(r"\w+|[^\w\s]")


@technique("diverse_generate")
class DiverseGenerate(Varying):
    """Ask for each sample with another prefix, so that the samples do not all begin, and err, the same way.

    Sample i takes the i-th prefix, from the beginning again where they end, as a line in front of the question or as
    the system message; with `plain_first` the first sample takes none. With `temperatures` sample i also takes the i-th
    temperature. `prefix_diversity` tells how well it worked: the number of different beginnings (the first
    `fragment_words` words, without regard to case) over the number of samples. The paper trains a prefix for each of
    several copies of a prover; the written ones here are the untrained stand-in, so its figures do not carry over.

    When to use it: where plain samples repeat one another, in front of a check or a vote. The embedded models know one
        prompt and no prefix: leave `prefixes` empty there and let several models and `temperatures` bring the variety.
    Calls: m·k, in at most m·k requests (one for each different prefix and temperature).
    Paper: EconProver: Towards More Economical Test-Time Scaling for Automated Theorem Proving, its diverse parallel
        scaling and its measure prefix diversity coverage.
    Symbols: m is the number of `model`s, k is `samples`; `prefix_diversity` = different beginnings / samples.
    Example:
        ```yaml
        name: several-ways
        layers:
          - diverse_generate: {model: fast, samples: 6, temperature: 0.8}
          - vote
        ```
    """

    measures = frozenset({"prefix_diversity"})

    prefixes: tuple[Prefix, ...] = Field(default=_PREFIXES, description="Prefixes in turn; none for plain samples.")
    place: Literal["leading", "system"] = Field(
        default="leading", description="A line in front of the question, or the system message."
    )
    plain_first: bool = Field(default=True, description="Ask for the first sample of each model without a prefix.")
    temperatures: tuple[Temperature, ...] = Field(default=(), description="Temperatures in turn, instead of one.")
    fragment_words: int = Field(default=8, ge=1, description="Words of a beginning, for the measure.")

    async def run(self, state: State, context: Context) -> State:
        """Ask with all prefixes at once; raises `InsufficientCandidates` where every call failed."""
        result = await super().run(state, context)
        texts = [candidate.text for candidate in result.candidates]
        return result.measured(prefix_diversity=prefix_diversity(texts, self.fragment_words))

    def variants(self) -> Sequence[Variant]:
        """Name the prefix and the temperature of every sample."""
        return [self._variant(model, place) for model in self.model_list for place in range(self.samples)]

    def _variant(self, model: str, place: int) -> Variant:
        sampling = self.sampling()
        if self.temperatures:
            sampling = replace(sampling, temperature=self.temperatures[place % len(self.temperatures)])
        turn = place - self.plain_first
        prefix = self.prefixes[turn % len(self.prefixes)] if self.prefixes and turn >= 0 else ""
        if self.place == "leading" or not prefix:
            return Variant(model, sampling, prefix, self.system)
        return Variant(model, sampling, system=f"{self.system}\n\n{prefix}" if self.system else prefix)


def prefix_diversity(texts: Iterable[str], words: int) -> float:
    """Return the number of different beginnings over the number of texts, in 0..1; of no texts, 0."""
    beginnings = [tuple(_WORD.findall(text.lower())[:words]) for text in texts]
    return len(set(beginnings)) / len(beginnings) if beginnings else 0.0
