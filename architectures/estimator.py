"""The planner's `Estimator`: weighs prompts by rendering them without texts, bounds replies by the models' limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from nodes.base import CallPlan, Range, exactly
from nodes.prompting import render
from providers.base import Message, Sampling
from providers.scoring import SCORED

if TYPE_CHECKING:
    from providers.book import ModelBook
    from providers.embedded.tokenizer import ChatTokenizer
    from providers.models import ModelSpec

__all__ = ["LIKELY_COMPACT", "LIKELY_TOKENS", "BookEstimator", "text_tokens"]

LIKELY_TOKENS: Final[Mapping[str, int]] = {
    "critique": 400,
    "fuse": 400,
    "generate": 300,
    "judge": 30,
    "rank": 60,
    "rank_pair": 20,
    "refine": 300,
    "scorer": 60,
    "unit_test_evaluate": 150,
    "unit_tests": 200,
    "verify_reason": 300,
    "verify_verdict": 10,
}
"""Guesses of the tokens of a reply by template, for lack of a measurement; they set `likely`, never a bound."""

LIKELY_COMPACT: Final[Mapping[str, int]] = {
    "critique": 40,
    "fuse": 40,
    "generate": 35,
    "judge": 5,
    "rank": 35,
    "rank_pair": 35,
    "refine": 40,
    "unit_test_evaluate": 30,
    "unit_tests": 40,
    "verify_reason": 25,
    "verify_verdict": 4,
}
"""The same with compact prompts: what the embedded models write on the arithmetic task, to the nearest 5 from 5 on, by
`python benchmarks/reply_tokens.py`."""

_LIKELY_OTHER: Final = 200
_LIKELY_OTHER_COMPACT: Final = 40
_FRAME: Final = Range(0, 4, 16)
"""Tokens that a chat format puts around one message."""
_SEAM: Final = 2
"""Tokens by which a text may count differently inside a prompt than alone, at each end."""


class BookEstimator:
    """Foretells calls from templates and a book of models; counts exactly where a tokenizer ships."""

    def __init__(self, book: ModelBook) -> None:
        self._book = book
        self._weighed: dict[tuple[str, tuple[Message, ...]], Range] = {}

    def call(
        self,
        model: str,
        template: str,
        variables: Mapping[str, object],
        *,
        inserted: Range,
        calls: Range,
        n: int = 1,
        sampling: Sampling | None = None,
        system: str | None = None,
    ) -> CallPlan:
        """Plan `calls` samples of a prompt, `n` for each distinct prompt; see `nodes.base.Estimator.call`."""
        messages = render(self._book.resolve(model).style, template, variables, system=system)
        places = sum(_texts(value) for value in variables.values())
        return self.written(model, template, messages, places, inserted=inserted, calls=calls, n=n, sampling=sampling)

    def written(
        self,
        model: str,
        template: str,
        messages: tuple[Message, ...],
        places: int,
        *,
        inserted: Range,
        calls: Range,
        n: int = 1,
        sampling: Sampling | None = None,
    ) -> CallPlan:
        """Plan calls of a prompt that is written already, but for texts of `inserted` tokens in so many places."""
        spec = self._book.resolve(model)
        seams = _SEAM * places
        prompt = self._prompt(spec, messages).plus(inserted)
        together = n / math.ceil(n / spec.limits.max_n) if spec.capabilities.n else 1
        return CallPlan(
            model=model,
            template=template,
            calls=calls,
            requests=Range(*(count / together for count in calls)),
            prompt_tokens=Range(max(1, prompt.low - seams), prompt.likely, prompt.high + seams),
            completion_tokens=self.completion(model, sampling, template),
        )

    def score(
        self, model: str, template: str, variables: Mapping[str, object], *, inserted: Range, calls: Range
    ) -> CallPlan:
        """Plan scores of given text; see `nodes.base.Estimator.score`."""
        planned = self.call(model, template, variables, inserted=inserted, calls=calls, sampling=SCORED)
        return replace(planned, completion_tokens=Range(0, 0, 1))

    def embed(self, model: str, *, inserted: Range, calls: Range) -> CallPlan:
        """Plan embeddings, all in as many requests as there are texts at most; see `nodes.base.Estimator.embed`."""
        return CallPlan(
            model=model,
            template="embed",
            calls=calls,
            requests=Range(min(1, calls.low), min(1, calls.likely), calls.high),
            prompt_tokens=Range(max(1, inserted.low), max(1, inserted.likely), inserted.high + _FRAME.high),
            completion_tokens=exactly(0),
        )

    def completion(self, model: str, sampling: Sampling | None, template: str) -> Range:
        """Bound one reply by the node's `max_tokens` or the model's own limits; infinite where none is known."""
        spec = self._book.resolve(model)
        asked = sampling.max_tokens if sampling else None
        limits = [asked or spec.defaults.max_tokens, spec.max_output, spec.context]
        high = min((float(limit) for limit in limits if limit), default=math.inf)
        if spec.style == "compact":
            likely = LIKELY_COMPACT.get(template, _LIKELY_OTHER_COMPACT)
        else:
            likely = LIKELY_TOKENS.get(template, _LIKELY_OTHER)
        return Range(1, min(high, likely), high)

    def _prompt(self, spec: ModelSpec, messages: tuple[Message, ...]) -> Range:
        key = (spec.name, messages)
        if key not in self._weighed:
            tokenizer = _tokenizer(spec)
            if tokenizer:
                self._weighed[key] = exactly(len(tokenizer.encode_chat(messages)))
            else:
                texts = [_from_bytes(message.content) for message in messages]
                self._weighed[key] = _sum([text.plus(_FRAME) for text in texts])
        return self._weighed[key]


def text_tokens(texts: Sequence[str], specs: Sequence[ModelSpec]) -> Range:
    """Count the tokens of one of several texts for any of several models: least, mean, most.

    Exact where a tokenizer ships (the embedded models). Elsewhere UTF-8 bytes bound it: at least one token for 8
    bytes, likely one for 4, at most one for each.
    """
    counts = [_count(text, spec) for text in texts for spec in specs] or [_from_bytes(text) for text in texts]
    return Range(
        min(count.low for count in counts),
        sum(count.likely for count in counts) / len(counts),
        max(count.high for count in counts),
    )


def _count(text: str, spec: ModelSpec) -> Range:
    tokenizer = _tokenizer(spec)
    if tokenizer is None:
        return _from_bytes(text)
    empty = len(tokenizer.encode_chat((Message("user", ""),)))
    return exactly(len(tokenizer.encode_chat((Message("user", text),))) - empty)


def _texts(value: object) -> int:
    """Count the texts behind a variable; an entry of a list may be a candidate with its critique."""
    return 2 * len(value) if isinstance(value, list | tuple) else 1


def _from_bytes(text: str) -> Range:
    size = len(text.encode())
    return Range(math.floor(size / 8), size / 4, size)


def _sum(ranges: Sequence[Range]) -> Range:
    total = exactly(0)
    for one in ranges:
        total = total.plus(one)
    return total


def _tokenizer(spec: ModelSpec) -> ChatTokenizer | None:
    return _embedded_tokenizer(spec.model) if spec.transport == "embedded" else None


@lru_cache(maxsize=8)
def _embedded_tokenizer(model: str) -> ChatTokenizer:
    from providers.embedded.model import model_folder
    from providers.embedded.tokenizer import ChatTokenizer

    return ChatTokenizer(model_folder(model))
