"""The regex scorer: the reply is right where a pattern matches it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from db.errors import ConfigError
from evals.task import Asking, Item, Score
from nodes.base import AnswerKind

__all__ = ["RegexScorer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegexScorer:
    """Right where the pattern is found in the text.

    With a group in the pattern, what the last match's first group holds must equal the gold answer. Without a pattern
    each item's gold answer is its pattern.
    """

    pattern: str | None = None

    def __post_init__(self) -> None:
        """Refuse a pattern that cannot be compiled."""
        if self.pattern is not None:
            _compiled(self.pattern, "The option pattern")

    @property
    def name(self) -> str:
        """The scorer and its pattern."""
        return "regex" if self.pattern is None else f"regex:{self.pattern}"

    @property
    def answer_kind(self) -> AnswerKind:
        """Nodes that need an answer take the whole text."""
        return "exact"

    def models(self) -> tuple[str, ...]:
        """No model is asked."""
        return ()

    async def score(self, item: Item, text: str, asking: Asking | None = None) -> Score:
        """Search the text; raises `ConfigError` where an item's gold answer is no pattern."""
        pattern = _compiled(item.gold if self.pattern is None else self.pattern, f"The gold answer of item {item.id!r}")
        matches = list(pattern.finditer(text))
        if not matches:
            return Score(
                value=0.0,
                correct=False,
                answer=None,
                reason="the pattern was not found",
                source="regex",
                status="no_answer",
            )
        grouped = self.pattern is not None and pattern.groups > 0
        answer = (matches[-1][1] or "").strip() if grouped else matches[-1][0]
        correct = answer == item.gold.strip() if grouped else True
        reason = f"the pattern found {answer[:60]!r}" + ("" if correct else f", not {item.gold[:60]!r}")
        return Score(value=float(correct), correct=correct, answer=answer, reason=reason, source="regex")


def _compiled(pattern: str, place: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.MULTILINE)
    except re.error as error:
        raise ConfigError(f"{place} is no regular expression: {error} in {pattern!r}.") from error
