"""Drawing: what techniques share that sample responses to the question themselves, a few at a time.

They use the template `generate` with the question as it is, so that their samples are those that a plain `generate` of
the same model and sampling draws: sample 3 is sample 3, whoever asks, and none is paid twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import Field

from nodes.base import CallPlan, Candidate, Context, Estimator, Note, Range, Shape, State
from nodes.calls import candidate_of, failure_notes
from nodes.settings import OneModel
from providers.errors import ProviderError

__all__ = ["Drawing", "Drawn", "generate_variables"]


class Drawn(NamedTuple):
    """New candidates of one draw, with notes of the calls that failed, and the errors themselves."""

    candidates: tuple[Candidate, ...]
    notes: list[Note]
    failures: tuple[ProviderError, ...]


class Drawing(OneModel):
    """A technique that draws samples of one model, in as many steps as it likes."""

    draws_question = "later"

    temperature: float | None = Field(default=0.8, ge=0, allow_inf_nan=False, description="Sampling temperature.")

    async def draw(self, context: Context, state: State, n: int, *, number: int = 1, first: int | None = None) -> Drawn:
        """Draw the next n samples; their ids are counted from `number`. None may come: see `failures`."""
        asked = await context.ask(
            self.model,
            "generate",
            generate_variables(state.question),
            n=n,
            sampling=self.sampling(),
            first=first,
            system=self.system,
        )
        made = tuple(candidate_of(sample, context.node, number + i) for i, sample in enumerate(asked.samples))
        return Drawn(made, failure_notes(context.node, asked.failures, f"generate with {self.model}"), asked.failures)

    def foretell_draws(self, shape: Shape, estimator: Estimator, calls: Range, n: int) -> CallPlan:
        """Plan `calls` samples of the question, n in each request."""
        return estimator.call(
            self.model,
            "generate",
            generate_variables(""),
            inserted=shape.question,
            calls=calls,
            n=n,
            sampling=self.sampling(),
            system=self.system,
        )


def generate_variables(question: str) -> Mapping[str, object]:
    """Return what the template `generate` shows where there is nothing but a question."""
    return {"question": question, "examples": (), "tests": ()}
