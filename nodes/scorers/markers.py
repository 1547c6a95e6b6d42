"""Markers: words by which a reply shows doubt, second thoughts or a line of argument, and its length."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from statistics import median
from typing import ClassVar

from pydantic import Field

from nodes.base import CallPlan, Candidate, Context, Estimator, Note, Score, Shape, State
from nodes.scorers.base import Scored, Scorer
from nodes.scorers.registry import scorer

__all__ = ["Markers"]

_HEDGING = (
    "apparently", "could be", "hopefully", "i believe", "i guess", "i think", "i'm not sure", "likely", "maybe",
    "might", "not certain", "not sure", "perhaps", "possibly", "presumably", "probably", "seems", "uncertain",
    "unclear",
)  # fmt: skip
_THINKING = (
    "actually", "alternatively", "but wait", "double check", "double-check", "hmm", "hold on", "let me check",
    "let me re", "let me recalculate", "let me recheck", "let me recompute", "let me reconsider", "let me redo",
    "let me reexamine", "let me reread", "let me rethink", "let me review", "let me see", "let me think",
    "on second thought", "oops", "rethink", "wait", "what if",
)  # fmt: skip
_DISCOURSE = (
    "accordingly", "as a result", "because", "consequently", "finally", "first", "for example", "for instance",
    "furthermore", "hence", "in conclusion", "in summary", "moreover", "next", "second", "since", "so that",
    "then", "therefore", "third", "thus",
)  # fmt: skip
_WORD = re.compile(r"\w+")


@scorer("markers")
class Markers(Scorer):
    """Score a candidate by its words of doubt, of second thoughts and of argument, and by its length.

    With h, t and d the marks of hedging ("perhaps"), thinking ("wait") and discourse ("therefore") per 100 words, and l
    the natural logarithm of the length over the median length of all candidates, both in words, the score is
    1/(1 + e^-z), z = `discourse`·d - `hedging`·h - `thinking`·t - `length`·l: between 0 and 1, 0.5 for a reply of
    median length without any mark. The paper finds that right answers of reasoning models are shorter, with fewer
    hedging and thinking and more discourse marks; its lists are not given, so the English lists and the
    weights here are ours, and a search can vary the weights. An empty candidate has no score.

    When to use it: as the weight of a vote over replies of reasoning models in English. Terse solutions hold none of
        these words, and the score is one of length then.
    Calls: 0.
    Paper: Think Deep, Think Fast: Investigating Efficiency of Verifier-free Inference-time-scaling Methods (arXiv
        2504.14047).
    Symbols: h, t, d are marks per 100 words, l is the logarithm of the relative length.
    Example:
        ```yaml
        name: length-marker-vote
        layers:
          - generate: {model: fast, samples: 8, temperature: 0.8}
          - score: {scorer: markers}
          - vote: {weights: score}
        ```
    """

    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)

    hedging: float = Field(default=0.5, ge=0, le=10, description="What a hedging mark per 100 words takes away.")
    thinking: float = Field(default=0.5, ge=0, le=10, description="What a thinking mark per 100 words takes away.")
    discourse: float = Field(default=0.25, ge=0, le=10, description="What a discourse mark per 100 words adds.")
    length: float = Field(default=1.0, ge=0, le=10, description="What e times the median length takes away.")

    async def score(self, state: State, candidates: Sequence[Candidate], context: Context) -> Scored:
        """Count the marks of each candidate."""
        words = {candidate.id: len(_WORD.findall(candidate.text)) for candidate in candidates}
        middle = median([count for count in words.values() if count] or [1])
        scores = tuple(
            Score(_logistic(self._sum(c.text, words[c.id], middle)), "markers") if words[c.id] else None
            for c in candidates
        )
        empty = [candidate.id for candidate in candidates if not words[candidate.id]]
        return Scored(scores, [Note(context.node, "unparsed", f"no words in {', '.join(empty)}")] if empty else [])

    def _sum(self, text: str, words: int, middle: float) -> float:
        text = text.lower().replace("’", "'")
        per_hundred = 100 / words
        return (
            self.discourse * per_hundred * len(_pattern(_DISCOURSE).findall(text))
            - self.hedging * per_hundred * len(_pattern(_HEDGING).findall(text))
            - self.thinking * per_hundred * len(_pattern(_THINKING).findall(text))
            - self.length * math.log(words / middle)
        )

    def plan(self, shape: Shape, estimator: Estimator) -> tuple[CallPlan, ...]:
        """Foretell no call."""
        return ()


@lru_cache(maxsize=8)
def _pattern(marks: Iterable[str]) -> re.Pattern[str]:
    # The longest come first, so that "but wait" is one mark and not also "wait".
    ordered = sorted(marks, key=lambda mark: (-len(mark), mark))
    return re.compile(r"\b(?:" + "|".join(map(re.escape, ordered)) + r")\b")


def _logistic(z: float) -> float:
    z = min(30.0, max(-30.0, z))
    return 1 / (1 + math.exp(-z))
