"""Scorers that take the answer out of a text and compare it with gold: numbers, letters, texts, mathematics."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from evals.task import Asking, Item, Score, ScoreStatus
from nodes.answers import equivalent, extract
from nodes.base import AnswerKind
from nodes.symbolic import same_expression

__all__ = ["ComparedKind", "ExtractedScorer"]

ComparedKind = Literal["auto", "choice", "exact", "math", "numeric", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractedScorer:
    """Right where the extracted answer equals the gold answer.

    `numeric` compares exact fractions, `choice` letters, `exact` the stripped text, `text` the text without regard to
    case and spacing, `math` by normal form and then math-verify, in a thread and with a time limit. `auto` compares
    what the reply states as its answer (the whole reply where it states none) as a number or as text.
    """

    kind: ComparedKind
    timeout_s: float = 5.0
    """For one comparison by math-verify."""

    @property
    def name(self) -> str:
        """The kind of answer; `stated` for `auto`."""
        return "stated" if self.kind == "auto" else self.kind

    @property
    def answer_kind(self) -> AnswerKind:
        """The kind of answer."""
        return self.kind

    def models(self) -> tuple[str, ...]:
        """No model is asked."""
        return ()

    async def score(self, item: Item, text: str, asking: Asking | None = None) -> Score:
        """Extract and compare."""
        answer = extract(text, self.kind)
        if answer is None and self.kind == "auto":
            answer = extract(text, "text")
        if answer is None:
            return self._zero(None, "no answer was found", "no_answer")
        same = await self._same(item.gold, answer)
        if same is None:
            reason = f"whether {_short(answer)} equals {_short(item.gold)} was not decided in {self.timeout_s:g} s"
            return self._zero(answer, reason, "undecided")
        reason = f"{_short(answer)} {'equals' if same else 'is not'} {_short(item.gold)}"
        return Score(value=float(same), correct=same, answer=answer, reason=reason, source=self.name)

    def _zero(self, answer: str | None, reason: str, status: ScoreStatus) -> Score:
        return Score(value=0.0, correct=False, answer=answer, reason=reason, source=self.name, status=status)

    async def _same(self, gold: str, answer: str) -> bool | None:
        if self.kind != "math":
            return equivalent(answer, gold, self.kind)
        if answer == gold:
            return True
        return await asyncio.to_thread(same_expression, gold, answer, self.timeout_s)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
