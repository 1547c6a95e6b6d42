"""Scorers whose score is one number that a model gives to text (`Context.score`): one call a candidate, no reply."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from nodes.base import CallPlan, Candidate, Context, Estimator, Measured, Note, Score, Shape, State
from nodes.calls import failure_notes, together
from nodes.scorers.base import Scored, Scorer
from nodes.settings import ModelName

if TYPE_CHECKING:
    from providers.scoring import ScoreKind

__all__ = ["Measurement", "MeasuringScorer", "NamedModelScorer", "failed_measurement"]


class Measurement(NamedTuple):
    """The text of which a model gives a number."""

    kind: ScoreKind
    template: str
    variables: Mapping[str, object]
    reply: str | None = None
    """The assistant's turn behind the prompt, where there is one."""


class NamedModelScorer(Scorer):
    """A scorer that asks one model and draws no tokens of it."""

    model: ModelName = Field(description="Alias of `models.yaml` or `provider/name`.")

    def models(self) -> tuple[str, ...]:
        """Name the model."""
        return (self.model,)

    def given(self, value: float) -> Score:
        """Return a score with its source."""
        from nodes.scorers.registry import scorer_name

        return Score(value, f"{scorer_name(type(self))} {self.model}")

    async def measured(self, context: Context, asked: Measurement) -> Measured:
        """Ask for the number of one text."""
        return await context.score(self.model, asked.kind, asked.template, asked.variables, reply=asked.reply)


class MeasuringScorer(NamedModelScorer):
    """A scorer with one number of one model for each candidate."""

    @abstractmethod
    def measurement(self, question: str, candidate: str) -> Measurement:
        """Return what is measured for a candidate; both texts empty for the planner."""

    async def score(self, state: State, candidates: Sequence[Candidate], context: Context) -> Scored:
        """Measure all candidates at once; one whose call failed has no score and is noted."""
        found = await together(
            self.measured(context, self.measurement(state.question, candidate.text)) for candidate in candidates
        )
        notes = [
            note
            for candidate, one in zip(candidates, found, strict=True)
            for note in failed_measurement(context.node, one, f"score of {candidate.id}")
        ]
        return Scored(tuple(None if one.value is None else self.given(one.value) for one in found), notes)

    def plan(self, shape: Shape, estimator: Estimator) -> tuple[CallPlan, ...]:
        """Foretell one call per candidate."""
        asked = self.measurement("", "")
        inserted = shape.question.plus(shape.candidate_tokens)
        return (
            estimator.score(self.model, asked.template, asked.variables, inserted=inserted, calls=shape.candidates),
        )


def failed_measurement(node: str, found: Measured, what: str) -> list[Note]:
    """Note a measurement that failed."""
    return failure_notes(node, [found.failure], what) if found.failure is not None else []
