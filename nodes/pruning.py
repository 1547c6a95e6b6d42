"""Pruning: responses that are begun, judged as they stand, and written on where they are worth it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Self

from pydantic import Field, model_validator

from nodes.base import CallPlan, Candidate, Capability, Context, Estimator, Range, Shape, State
from nodes.calls import failure_notes, together
from nodes.drawing import Drawing, Drawn, generate_variables
from nodes.windows import windows_of
from providers.base import Asked

__all__ = ["Pruning", "annealed"]


class _Sorted(NamedTuple):
    whole: tuple[Candidate, ...]
    going_on: tuple[Candidate, ...]
    dropped: tuple[Candidate, ...]


class Pruning(Drawing):
    """A technique that begins responses, the first of them greedily if wanted, and may drop the worst unfinished."""

    anneal: bool = Field(default=False, description="Sample k at temperature 1 - 2^-(k - 1), the first one greedy.")
    prune_after: int | None = Field(default=None, ge=1, description="Tokens after which responses are pruned.")
    prune_keep: float = Field(default=0.5, gt=0, le=1, description="The share of a batch that is written to its end.")

    @model_validator(mode="after")
    def _room_to_write_on(self) -> Self:
        if self.prune_after is not None and self.max_tokens is not None and self.prune_after >= self.max_tokens:
            raise ValueError(f"prune_after ({self.prune_after}) must be below max_tokens ({self.max_tokens})")
        return self

    def required(self) -> frozenset[Capability]:
        """What writing on behind a draft needs."""
        return frozenset() if self.prune_after is None else frozenset({"prefix_continuation"})

    def kept_of(self, begun: int) -> int:
        """Return how many of a batch may be written to their end; one at least."""
        return math.ceil(begun * self.prune_keep - 1e-9)

    async def begin(self, context: Context, state: State, n: int, before: int) -> Drawn:
        """Draw n whole responses, or drafts of them with `prune_after`; `before` is how many were begun before."""
        if not self.anneal:
            return await self._drafting().draw(context, state, n, number=before + 1)
        drawn = await together(
            self._drafting(number).draw(context, state, 1, number=number)
            for number in range(before + 1, before + n + 1)
        )
        return Drawn(
            tuple(one for batch in drawn for one in batch.candidates),
            [note for batch in drawn for note in batch.notes],
            tuple(failure for batch in drawn for failure in batch.failures),
        )

    def sorted_out(self, drafts: Sequence[Candidate], scores: Sequence[float]) -> _Sorted:
        """Tell drafts that are whole, those among the best that are written on, and those that are dropped."""
        order = sorted(range(len(drafts)), key=lambda place: (-scores[place], place))
        best = frozenset(order[: self.kept_of(len(drafts))])
        # A text that ended by itself costs nothing more, so it stays.
        is_open = [draft.finish_reason == "length" for draft in drafts]
        return _Sorted(
            tuple(draft for draft, still in zip(drafts, is_open, strict=True) if not still),
            tuple(draft for place, draft in enumerate(drafts) if is_open[place] and place in best),
            tuple(draft for place, draft in enumerate(drafts) if is_open[place] and place not in best),
        )

    async def finish(self, context: Context, state: State, drafts: Sequence[Candidate]) -> Drawn:
        """Write drafts to their end, all at once; one whose call fails is not among the candidates."""
        asked = await together(self._write_on(context, state, draft) for draft in drafts)
        notes = [
            note
            for draft, batch in zip(drafts, asked, strict=True)
            for note in failure_notes(context.node, batch.failures, f"the rest of {draft.id}")
        ]
        return Drawn(
            tuple(_whole(draft, batch) for draft, batch in zip(drafts, asked, strict=True) if batch.samples),
            notes,
            tuple(failure for batch in asked for failure in batch.failures),
        )

    async def _write_on(self, context: Context, state: State, draft: Candidate) -> Asked:
        number = int(draft.id.rpartition(":")[2])
        return await context.ask(
            self.model,
            "generate",
            generate_variables(state.question),
            sampling=self._finishing(number).sampling(),
            system=self.system,
            prefix=draft.text,
        )

    def foretell_begun(self, shape: Shape, estimator: Estimator, calls: Range, batch: int) -> CallPlan:
        """Plan the responses, or drafts of them."""
        return windows_of(self._drafting(), shape, estimator, calls, 1 if self.anneal else batch)

    def foretell_rest(self, shape: Shape, estimator: Estimator, drafts: Range, calls: Range) -> CallPlan:
        """Plan what is written behind drafts."""
        behind = shape._replace(question=shape.question.plus(drafts))
        return self._finishing().foretell_draws(behind, estimator, calls, 1)

    def _drafting(self, number: int | None = None) -> Self:
        """Return the settings for drafts, at the temperature of sample `number` where that depends on it."""
        settings = self if self.prune_after is None else self.model_copy(update={"max_tokens": self.prune_after})
        return settings._at(number)

    def _finishing(self, number: int | None = None) -> Self:
        left = None if self.max_tokens is None else self.max_tokens - (self.prune_after or 0)
        return self.model_copy(update={"max_tokens": left})._at(number)

    def _at(self, number: int | None) -> Self:
        if not self.anneal or number is None:
            return self
        return self.model_copy(update={"temperature": annealed(number)})


def annealed(number: int) -> float:
    """Return the temperature of sample `number`, counted from 1: 1 - 2^-(number - 1), 0 for the first."""
    return 1 - 0.5 ** (number - 1)


def _whole(draft: Candidate, rest: Asked) -> Candidate:
    completion = rest.samples[0].completion
    return replace(
        draft,
        text=draft.text + completion.text,
        completion_tokens=draft.completion_tokens + completion.usage.completion_tokens,
        finish_reason=completion.finish_reason,
    )
