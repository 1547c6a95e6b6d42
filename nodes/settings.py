"""Settings that techniques share: the models they ask, how tokens are drawn, how many samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, StringConstraints

from nodes.base import CallPlan, Candidate, Context, Estimator, NodePlan, Note, Range, Shape, Technique, exactly
from nodes.calls import failure_notes, made, together
from nodes.planning import fresh, spread
from providers.base import Asked, Sampling

__all__ = ["Asking", "Made", "ModelName", "Models", "OneModel", "SeveralModels"]

ModelName = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


def _single(models: str | tuple[str, ...]) -> str | tuple[str, ...]:
    # A list of one is the same architecture as the bare name, so both get one canonical form and one hash.
    return models[0] if isinstance(models, tuple) and len(models) == 1 else models


Models = Annotated[
    ModelName | Annotated[tuple[ModelName, ...], Field(min_length=1)],
    AfterValidator(_single),
]


class Made(NamedTuple):
    """New candidates, and notes of the calls that failed."""

    candidates: tuple[Candidate, ...]
    notes: list[Note]


class Asking(Technique):
    """A technique that asks models; None leaves a choice to the model's defaults."""

    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False, description="Sampling temperature.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="Nucleus sampling: the mass that is kept.")
    max_tokens: int | None = Field(default=None, ge=1, description="Most tokens of one reply.")
    system: str | None = Field(default=None, description="A system message in place of the prompt's own.")

    def sampling(self) -> Sampling:
        """Return how tokens are drawn in every call of the node."""
        return Sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)


class OneModel(Asking):
    """A technique that asks one model."""

    model: ModelName = Field(description="Alias of `models.yaml` or `provider/name`.")

    def models(self) -> tuple[str, ...]:
        """Name the model."""
        return (self.model,)

    async def ask(
        self, context: Context, template: str, variables: Mapping[str, object], *, first: int | None = None
    ) -> Asked:
        """Ask for one sample with the node's settings."""
        return await context.ask(
            self.model, template, variables, sampling=self.sampling(), first=first, system=self.system
        )

    def foretell(
        self, estimator: Estimator, template: str, variables: Mapping[str, object], inserted: Range, calls: Range
    ) -> CallPlan:
        """Plan calls of one sample each with the node's settings."""
        return estimator.call(
            self.model,
            template,
            variables,
            inserted=inserted,
            calls=calls,
            sampling=self.sampling(),
            system=self.system,
        )


class SeveralModels(Asking):
    """A technique that asks one or several models for a number of samples each."""

    model: Models = Field(description="One model or a list; each is asked for all samples.")
    samples: int = Field(default=1, ge=1, description="Samples of each model.")

    @property
    def model_list(self) -> tuple[str, ...]:
        """The models in order; one that is listed twice is asked twice."""
        return (self.model,) if isinstance(self.model, str) else self.model

    def models(self) -> tuple[str, ...]:
        """Name the models, each once."""
        return tuple(dict.fromkeys(self.model_list))

    async def make(
        self, context: Context, template: str, variables: Mapping[str, object], parents: tuple[str, ...] = ()
    ) -> Made:
        """Ask all models at once for new candidates; raises `InsufficientCandidates` where every call failed."""
        asked = await together(
            context.ask(model, template, variables, n=self.samples, sampling=self.sampling(), system=self.system)
            for model in self.model_list
        )
        notes = [
            note
            for model, batch in zip(self.model_list, asked, strict=True)
            for note in failure_notes(context.node, batch.failures, f"{template} with {model}")
        ]
        return Made(made(context.node, ((batch, parents) for batch in asked)), notes)

    def foretell(
        self, shape: Shape, estimator: Estimator, template: str, variables: Mapping[str, object], inserted: Range
    ) -> NodePlan:
        """Plan one request of all samples per model, and the new candidates that come of it."""
        calls = tuple(
            estimator.call(
                model,
                template,
                variables,
                inserted=inserted,
                calls=exactly(self.samples),
                n=self.samples,
                sampling=self.sampling(),
                system=self.system,
            )
            for model in self.model_list
        )
        tokens = spread([call.completion_tokens for call in calls])
        return NodePlan(calls, fresh(shape, exactly(self.samples * len(calls)), tokens))
