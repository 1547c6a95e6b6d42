"""Revising: what techniques share that draw first responses and then let a model write better ones, turn by turn."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from nodes.base import CallPlan, Context, Estimator, Range
from nodes.drawing import Drawing
from nodes.settings import ModelName
from providers.base import Asked

__all__ = ["Revising"]


class Revising(Drawing):
    """A technique whose first responses are plain samples of `model` and whose later ones `reviser` writes."""

    reviser: ModelName | None = Field(
        default=None, description="The model that writes all responses after the first ones; null for `model`."
    )

    @property
    def revising_model(self) -> str:
        """The model that revises."""
        return self.reviser or self.model

    def models(self) -> tuple[str, ...]:
        """Name the model of the first responses and the one that revises."""
        return tuple(dict.fromkeys((self.model, self.revising_model)))

    async def revise(self, context: Context, template: str, variables: Mapping[str, object], n: int = 1) -> Asked:
        """Ask the reviser for n samples with the node's settings."""
        return await context.ask(
            self.revising_model, template, variables, n=n, sampling=self.sampling(), system=self.system
        )

    def foretell_revisions(
        self,
        estimator: Estimator,
        template: str,
        variables: Mapping[str, object],
        *,
        inserted: Range,
        calls: Range,
        n: int = 1,
    ) -> CallPlan:
        """Plan `calls` samples of the reviser, n in each request."""
        return estimator.call(
            self.revising_model,
            template,
            variables,
            inserted=inserted,
            calls=calls,
            n=n,
            sampling=self.sampling(),
            system=self.system,
        )
