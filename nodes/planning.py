"""Arithmetic of shapes that the plans of several techniques share."""

from __future__ import annotations

from collections.abc import Sequence

from nodes.base import ZERO, Range, Shape, exactly
from nodes.shown import Shown, blanks

__all__ = ["ENTRY_TOKENS", "fresh", "kept", "listing", "spread", "used"]

ENTRY_TOKENS = 40
"""An upper bound of the tokens that a template sets around one candidate, beyond the candidate itself."""


def used(shape: Shape, *, critiques: bool) -> Range:
    """Return the tokens of one candidate in a prompt, with its critique where that is shown."""
    return shape.candidate_tokens.plus(shape.critique_tokens) if critiques else shape.candidate_tokens


def listing(shape: Shape, *, critiques: bool = True) -> tuple[list[Shown], Range]:
    """Return blank candidates for a prompt that shows all of them, and the tokens of the texts that will stand there.

    The template is weighed with the likely number of candidates; what it sets around those that may be missing or
    come on top widens the range.
    """
    likely = max(1, round(shape.candidates.likely))
    texts = shape.question.plus(shape.candidates.times(used(shape, critiques=critiques)))
    missing = max(0.0, likely - shape.candidates.low) * ENTRY_TOKENS
    extra = max(0.0, shape.candidates.high - likely) * ENTRY_TOKENS
    inserted = Range(max(0.0, texts.low - missing), texts.likely, texts.high + extra)
    return blanks(likely, critiques=critiques and shape.critique_tokens.high > 0), inserted


def spread(ranges: Sequence[Range]) -> Range:
    """Return the range of a text that may come from any of several sources, equally often."""
    return Range(
        min(r.low for r in ranges),
        sum(r.likely for r in ranges) / len(ranges),
        max(r.high for r in ranges),
    )


def fresh(shape: Shape, candidates: Range, tokens: Range) -> Shape:
    """Return the shape after new candidates took the place of the old: no critiques, no verdicts."""
    return shape._replace(candidates=candidates, candidate_tokens=tokens, critique_tokens=ZERO, verdicts=False)


def kept(shape: Shape, keep: int | None) -> Shape:
    """Return the shape after all but the first `keep` candidates were dropped; None drops nothing."""
    return shape if keep is None else shape._replace(candidates=shape.candidates.at_most(exactly(keep).high))
