"""Reasoning in segments: what is kept of it, and whether a segment states the answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from nodes.base import Note
from providers.base import Sample

__all__ = ["Chain", "states_answer"]

_STATED = re.compile(
    r"^[^\w\n]*(?:final[ \t]+)?answer[^\w\n:]*:[^\w\n]*\w|\\boxed\s*\{|^####[ \t]*\S|\"(?:final[_ ]?)?answer\"\s*:",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Chain:
    """The reasoning of one response so far."""

    latest: Sample
    """The last segment that was written."""
    summary: str | None = None
    """The last summary that was had; None before the first."""
    progress: str | None = None
    """What the next segment sees of those before it, the latest included; None where that has to be made."""
    segments: int = 0
    tokens: int = 0
    """Of all replies, summaries included."""
    peak: int = 0
    """The most tokens that one segment had before it and wrote."""
    notes: tuple[Note, ...] = ()

    @property
    def text(self) -> str:
        """The text of the last segment."""
        return self.latest.completion.text

    def grown(self, segment: Sample) -> Chain:
        """Return the chain with one more segment."""
        used = segment.completion.usage
        return replace(
            self,
            latest=segment,
            progress=None,
            segments=self.segments + 1,
            tokens=self.tokens + used.completion_tokens,
            peak=max(self.peak, used.prompt_tokens + used.completion_tokens),
        )


def states_answer(text: str) -> bool:
    """Tell whether a segment states an answer: in a line `Answer: …`, a box, `####`, or an `"answer"` in JSON.

    Narrower than `nodes.answers.extract`, which also finds "the answer is" in the middle of reasoning.
    """
    return _STATED.search(text) is not None
