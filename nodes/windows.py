"""Drawing in windows: some samples at a time, until what came so far is enough or the cap is reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from typing import NamedTuple

from pydantic import Field

from nodes.ballots import read_answers
from nodes.base import AnswerKind, CallPlan, Candidate, Context, Estimator, Note, Range, Shape, State
from nodes.calls import nothing_left
from nodes.drawing import Drawing
from providers.errors import ProviderError

__all__ = ["Enough", "Windowed", "Windows", "windows_of"]

Enough = Callable[[Sequence[Candidate], int], bool]
"""Tells from all candidates so far, and the number of samples that are left, that no further window is wanted."""


class Windows(NamedTuple):
    """What was drawn, window by window."""

    candidates: tuple[Candidate, ...]
    """With their answers; one at least."""
    drawn: int
    """Samples that were asked for, those that failed included."""
    notes: list[Note]


class Windowed(Drawing):
    """A technique that draws samples in windows, at most `samples` in all."""

    samples: int = Field(default=16, ge=1, description="The cap: most samples that are drawn.")
    window: int = Field(default=2, ge=1, description="Samples that are drawn at a time, before it is asked again.")
    kind: AnswerKind | None = Field(default=None, description="Kind of answer to extract, if not that of the task.")

    async def draw_until(self, context: Context, state: State, enough: Enough) -> Windows:
        """Draw windows until it is enough; raises `InsufficientCandidates` where every call up to the cap failed."""
        candidates: tuple[Candidate, ...] = ()
        drawn = 0
        notes: list[Note] = []
        failures: list[ProviderError] = []
        while drawn < self.samples and not (drawn and enough(candidates, self.samples - drawn)):
            size = min(self.window, self.samples - drawn)
            found = await self.draw(context, state, size, number=len(candidates) + 1)
            read = read_answers(found.candidates, self.kind or context.answer_kind, context.node)
            candidates = (*candidates, *read.candidates)
            drawn += size
            notes += [*found.notes, *read.notes]
            failures += found.failures
        if not candidates:
            raise nothing_left(context.node, failures)
        return Windows(candidates, drawn, notes)

    def foretell_windows(self, shape: Shape, estimator: Estimator, fewest: int) -> CallPlan:
        """Plan between `fewest` samples and the cap."""
        low = min(self.samples, fewest)
        likely = low + (self.samples - low) * 0.4
        return windows_of(self, shape, estimator, Range(low, likely, self.samples), self.window)


def windows_of(technique: Drawing, shape: Shape, estimator: Estimator, calls: Range, window: int) -> CallPlan:
    """Plan `calls` samples in requests of `window` each, the last of which may be smaller."""
    plan = technique.foretell_draws(shape, estimator, calls, window)
    whole = Range(*(ceil(count / window) * window for count in calls))
    return replace(plan, requests=technique.foretell_draws(shape, estimator, whole, window).requests)
