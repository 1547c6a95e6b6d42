"""Variants: one question asked in several ways (temperature, wording, model), all samples together a pool."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from pydantic import Field

from nodes.base import Capability, Context, Estimator, NodePlan, Range, Shape, State, exactly
from nodes.calls import failure_notes, made, together
from nodes.drawing import generate_variables
from nodes.planning import fresh, spread
from nodes.settings import SeveralModels
from providers.base import Sampling

__all__ = ["Variant", "Varying", "merged", "steps"]


class Variant(NamedTuple):
    """One way of asking; equal ones go out as one request of several samples."""

    model: str
    sampling: Sampling
    prefix: str = ""
    """Stands in front of the question, with an empty line between; none where it is empty."""
    system: str | None = None


class Varying(SeveralModels):
    """A technique that draws its samples of the question in several ways."""

    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    draws_question = "at_start"

    temperature: float | None = Field(default=0.8, ge=0, allow_inf_nan=False, description="Sampling temperature.")
    top_logprobs: int | None = Field(
        default=None, ge=0, le=20, description="0: log probabilities of the chosen tokens; k: also the k likeliest."
    )

    @abstractmethod
    def variants(self) -> Sequence[Variant]:
        """Name the way of every single sample, in order."""

    def sampling(self) -> Sampling:
        """Return how tokens are drawn where a variant does not say otherwise."""
        return Sampling(
            temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens, top_logprobs=self.top_logprobs
        )

    def required(self) -> frozenset[Capability]:
        """Name what log probabilities need of an endpoint."""
        wanted: dict[Capability, bool] = {
            "logprobs": self.top_logprobs is not None,
            "top_logprobs": bool(self.top_logprobs),
        }
        return frozenset(capability for capability, is_wanted in wanted.items() if is_wanted)

    async def run(self, state: State, context: Context) -> State:
        """Ask in all ways at once; raises `InsufficientCandidates` where every call failed."""
        requests = merged(self.variants())
        asked = await together(
            context.ask(
                one.model,
                "generate",
                generate_variables(_asked(one, state.question)),
                n=count,
                sampling=one.sampling,
                system=one.system,
            )
            for one, count in requests
        )
        notes = [
            note
            for (one, _), batch in zip(requests, asked, strict=True)
            for note in failure_notes(context.node, batch.failures, f"generate with {one.model}")
        ]
        candidates = made(context.node, ((batch, ()) for batch in asked))
        return replace(state, candidates=candidates).noted(*notes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell one request for each different way of asking."""
        calls = tuple(
            estimator.call(
                one.model,
                "generate",
                generate_variables(one.prefix),
                # The empty line between prefix and question is at most two tokens.
                inserted=shape.question.plus(Range(0, 1, 2)) if one.prefix else shape.question,
                calls=exactly(count),
                n=count,
                sampling=one.sampling,
                system=one.system,
            )
            for one, count in merged(self.variants())
        )
        tokens = spread([call.completion_tokens for call in calls])
        return NodePlan(calls, fresh(shape, exactly(sum(call.calls.likely for call in calls)), tokens))


def merged(variants: Sequence[Variant]) -> list[tuple[Variant, int]]:
    """Count equal variants, in order of first appearance."""
    counts: dict[Variant, int] = {}
    for one in variants:
        counts[one] = counts.get(one, 0) + 1
    return list(counts.items())


def steps(first: float, last: float | None, count: int) -> list[float]:
    """Return `count` numbers in equal steps from the first to the last, rounded to 4 digits; None stays at the first.

    >>> steps(0.2, 1.0, 5)
    [0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if last is None or count == 1:
        return [first] * count
    return [round(first + (last - first) * step / (count - 1), 4) for step in range(count)]


def _asked(one: Variant, question: str) -> str:
    return f"{one.prefix}\n\n{question}" if one.prefix else question
