"""Steps: techniques one after the other within a technique, as the layers of a small chain.

    steps: [{generate: {model: fast, samples: 5}}, vote]

Candidates that steps make have the path of their step in their id (`node/2:1`), so that no two of a run are alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from nodes.base import (
    AnswerKind,
    CallPlan,
    Capability,
    Context,
    Embedded,
    Estimator,
    Measured,
    Need,
    NodePlan,
    Shape,
    State,
    Technique,
)
from nodes.nested import AnyTechnique
from providers.base import Asked, Sampling
from providers.scoring import ScoreKind

__all__ = ["Inside", "Steps", "demands_of", "models_of", "plan_steps", "required_of", "run_steps"]

Steps = Annotated[tuple[AnyTechnique, ...], Field(min_length=1, max_length=8)]
"""A setting that holds techniques, the first one first."""


@dataclass(frozen=True, slots=True)
class Inside:
    """The context of a node, under another name: what a step of the node uses."""

    outer: Context
    node: str

    @property
    def answer_kind(self) -> AnswerKind:
        """That of the node."""
        return self.outer.answer_kind

    async def ask(
        self,
        model: str,
        template: str,
        variables: Mapping[str, object],
        *,
        n: int = 1,
        sampling: Sampling | None = None,
        first: int | None = None,
        system: str | None = None,
        prefix: str | None = None,
        cancellable: bool = False,
    ) -> Asked:
        """Ask through the node, which counts the samples and pays."""
        return await self.outer.ask(
            model,
            template,
            variables,
            n=n,
            sampling=sampling,
            first=first,
            system=system,
            prefix=prefix,
            cancellable=cancellable,
        )

    async def stored(
        self,
        model: str,
        template: str,
        variables: Mapping[str, object],
        *,
        n: int,
        sampling: Sampling | None = None,
        first: int = 0,
        system: str | None = None,
    ) -> frozenset[int]:
        """Tell which samples are kept."""
        return await self.outer.stored(model, template, variables, n=n, sampling=sampling, first=first, system=system)

    async def score(
        self,
        model: str,
        kind: ScoreKind,
        template: str,
        variables: Mapping[str, object],
        *,
        reply: str | None = None,
    ) -> Measured:
        """Score through the node."""
        return await self.outer.score(model, kind, template, variables, reply=reply)

    async def embed(self, model: str, texts: Sequence[str]) -> Embedded:
        """Embed through the node."""
        return await self.outer.embed(model, texts)


def models_of(steps: Sequence[Technique]) -> tuple[str, ...]:
    """Name the models of all steps, each once."""
    return tuple(dict.fromkeys(model for step in steps for model in step.models()))


def required_of(steps: Sequence[Technique], model: str) -> frozenset[Capability]:
    """What the steps that ask a model need of it."""
    needed = (step.required_of(model) for step in steps if model in step.models())
    return frozenset[Capability]().union(*needed)


def demands_of(steps: Sequence[Technique], held: frozenset[Need] = frozenset()) -> frozenset[Need]:
    """What a state must hold before the steps, beyond what it surely holds and what earlier steps give."""
    missing: frozenset[Need] = frozenset()
    for step in steps:
        missing |= step.demands() - held
        held = (held - step.drops) | step.gives
    return missing


async def run_steps(steps: Sequence[Technique], state: State, context: Context, path: str) -> State:
    """Run the steps; raises what they raise, such as `InsufficientCandidates`."""
    for number, step in enumerate(steps, 1):
        state = await step.run(state, Inside(context, f"{context.node}/{path}{number}"))
    return state


def plan_steps(steps: Sequence[Technique], shape: Shape, estimator: Estimator) -> NodePlan:
    """Foretell the calls of all steps, each on the shape that those before it leave."""
    calls: list[CallPlan] = []
    for step in steps:
        planned = step.plan(shape, estimator)
        calls += planned.calls
        shape = planned.shape
    return NodePlan(tuple(calls), shape)
