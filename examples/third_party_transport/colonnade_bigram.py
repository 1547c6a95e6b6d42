"""A transport from outside: a language model of word pairs, small enough to read and real enough to sample from.

Each word is drawn from those that followed the word before it in the training text. Two models are served: `proverbs`
and `numbers`. What a transport owes to the gateway is said in `providers.base.Transport`; retries, cache, budget and
limits are not among it.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from providers.base import Completion, FinishReason, Message, Reply, Sampling, Usage, WireRequest
from providers.errors import BadRequest
from providers.models import ModelSpec

__all__ = ["BigramTransport"]

_TEXTS: Mapping[str, str] = {
    "proverbs": "a stitch in time saves nine . a bird in the hand is worth two in the bush . the early bird catches "
    "the worm . all is well that ends well . the end is well worth the time . time and tide wait for nobody .",
    "numbers": "one and one is two . two and one is three . two and two is four . three and one is four .",
}
_LONGEST = 40

Pairs = Mapping[str, Counter[str]]


class BigramTransport:
    """One model; the gateway makes one transport per model and closes it when it closes."""

    def __init__(self, spec: ModelSpec, api_key: str | None) -> None:
        # A transport that needs the key keeps it to itself: no message and no repr may hold it.
        self._served = {spec.model} & set(_TEXTS)
        self._pairs = {name: _learned(_TEXTS[name]) for name in self._served}

    async def complete(self, request: WireRequest) -> Reply:
        """Write one completion for each index, always the same one for the same seed."""
        pairs = self._pairs.get(request.model)
        if pairs is None:
            raise BadRequest(f"There is no bigram model '{request.model}'; there are {', '.join(sorted(_TEXTS))}.")
        completions = []
        for place, seed in enumerate(request.seeds):
            # A transport that computes lets others run in between, which is also where a cancellation reaches it.
            await asyncio.sleep(0)
            text, tokens, reason = _written(pairs, request.sampling, random.Random(seed))
            prompt = self.count_tokens(request.messages) if place == 0 else 0
            completions.append(Completion(text=text, finish_reason=reason, usage=Usage(prompt, tokens)))
        return Reply(completions=tuple(completions), served_model=request.model)

    async def list_models(self) -> tuple[str, ...]:
        """Name the model that is served here."""
        return tuple(self._served)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Count words, which are this model's tokens, and one for each message."""
        return sum(1 + len(message.content.split()) for message in messages)

    async def aclose(self) -> None:
        """Hold nothing that has to be given back."""


def _learned(text: str) -> Pairs:
    words = text.split()
    pairs: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for before, after in zip([".", *words], words, strict=False):
        pairs[before][after] += 1
    return pairs


def _written(pairs: Pairs, sampling: Sampling, chance: random.Random) -> tuple[str, int, FinishReason]:
    limit = min(sampling.max_tokens or _LONGEST, _LONGEST)
    words: list[str] = []
    while len(words) < limit and (not words or words[-1] != "."):
        following = pairs[words[-1] if words else "."]
        words.append(_drawn(following, sampling.temperature, chance))
    text = " ".join(words)
    stops = [text.index(stop) for stop in sampling.stop if stop in text]
    if stops:
        text = text[: min(stops)]
        return text, len(text.split()), "stop"
    return text, len(words), "stop" if words[-1] == "." else "length"


def _drawn(following: Counter[str], temperature: float | None, chance: random.Random) -> str:
    if temperature == 0:
        return min(following, key=lambda word: (-following[word], word))
    words = sorted(following)
    # Counts are probabilities up to a factor, and a temperature is a power of them.
    return chance.choices(words, [following[word] ** (1 / (temperature or 1.0)) for word in words])[0]
