"""X-MBR: minimum Bayes risk with references in another language."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from nodes.base import Context, Estimator, NodePlan, Range, Shape, State, exactly
from nodes.bayes_risk import BayesRisk, chosen
from nodes.calls import failure_notes, needed
from nodes.planning import kept
from nodes.registry import technique
from nodes.settings import ModelName
from nodes.shown import quoted
from nodes.similarity import Metric
from providers.base import Sampling

__all__ = ["XMBR", "is_english"]

_ENGLISH = frozenset(
    (
        "a", "an", "and", "are", "as", "at", "be", "by", "can", "do", "does", "for", "from", "had", "has", "have", "he",
        "her", "his", "how", "i", "if", "in", "is", "it", "its", "many", "more", "most", "much", "not", "of", "on",
        "or", "she", "should", "than", "that", "the", "then", "there", "these", "they", "this", "to", "was", "what",
        "when", "where", "which", "who", "why", "will", "with", "would", "you", "your",
    )
)  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+")


@technique("x_mbr")
class XMBR(BayesRisk):
    """Choose as `mbr` does, against the other candidates and extra responses in another language.

    `extra` further samples of a model are asked for in another language: English for a question that is not in English,
    Chinese for an English one, or what `language` says. They are references only and are never handed on. By default a
    judge compares (texts in different languages have few words in common); `answer` does without calls where answers
    are numbers or letters. Extra samples that fail are noted and left out; with none, this is `mbr`.

    A question counts as English where at least a fifth of its words are among the commonest English ones.

    When to use it: with several candidates in a language that the models know less well than another. The embedded
        models know no other language, and can play neither part.
    Calls: M + n·(n - 1 + M) with `utility: judge`, else M.
    Paper: When Life Gives You Samples: The Benefits of Scaling up Inference Compute for Multilingual LLMs (arXiv
        2506.20544), X-MBR, with M = 3.
    Symbols: n is the number of candidates that come in, M is `extra`; `expected_utility` is the greatest mean.
    Example:
        ```yaml
        name: cross-lingual-choice
        layers:
          - hedged_generate: {model: fast, samples: 4, temperature: 0.8}
          - x_mbr: {model: fast, judge: strong, extra: 3}
        ```
    """

    needs = frozenset({"candidates"})
    gives = frozenset({"scores"})
    measures = frozenset({"expected_utility"})

    utility: Literal["answer", Metric, "judge"] = Field(
        default="judge", description="How a candidate is compared with a reference."
    )
    model: ModelName = Field(description="The model that responds in the other language.")
    extra: int = Field(default=3, ge=1, le=32, description="Responses in the other language.")
    extra_temperature: float | None = Field(
        default=0.8, ge=0, allow_inf_nan=False, description="Sampling temperature of the extra responses."
    )
    language: str = Field(default="auto", min_length=1, description="The other language, or `auto`.")
    keep: int | None = Field(default=1, ge=1, description="How many of the best are handed on; null for all.")

    def models(self) -> tuple[str, ...]:
        """Name the model of the extra responses and the judge."""
        return tuple(dict.fromkeys((self.model, *super().models())))

    async def run(self, state: State, context: Context) -> State:
        """Draw the extra responses and compare; raises `InsufficientCandidates` where there are no candidates."""
        candidates = needed(state, context.node)
        asked = await context.ask(
            self.model,
            "x_mbr_generate",
            {"question": quoted(state.question), "language": self._language(state.question)},
            n=self.extra,
            sampling=self._drawn(),
        )
        notes = failure_notes(context.node, asked.failures, f"response in another language with {self.model}")
        extras = [sample.completion.text for sample in asked.samples]
        utilities = await self.compare(state, candidates, [*(c.text for c in candidates), *extras], context)
        utilities = utilities._replace(notes=[*notes, *utilities.notes])
        return chosen(state, candidates, utilities, self.keep, context.node)

    def _language(self, question: str) -> str:
        if self.language != "auto":
            return self.language
        return "Chinese" if is_english(question) else "English"

    def _drawn(self) -> Sampling:
        return Sampling(temperature=self.extra_temperature, top_p=self.top_p, max_tokens=self.max_tokens)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell the extra responses, and a comparison for each candidate and each reference but itself."""
        extras = estimator.call(
            self.model,
            "x_mbr_generate",
            {"question": "", "language": "Chinese" if self.language == "auto" else self.language},
            inserted=shape.question,
            calls=exactly(self.extra),
            n=self.extra,
            sampling=self._drawn(),
        )
        if self.judge is None:
            return NodePlan((extras,), kept(shape, self.keep))
        own = Range(*(count * max(0, count - 1) for count in shape.candidates))
        cross = shape.candidates.times(exactly(self.extra))
        calls = [extras, self.foretell_comparisons(shape, estimator, extras.completion_tokens, cross)]
        if own.high:
            calls.append(self.foretell_comparisons(shape, estimator, shape.candidate_tokens, own))
        return NodePlan(tuple(calls), kept(shape, self.keep))


def is_english(text: str) -> bool:
    """Say whether a text looks like English: a fifth of its words are common English ones."""
    words = _WORD.findall(text.lower())
    return sum(word in _ENGLISH for word in words) * 5 >= len(words) > 0
