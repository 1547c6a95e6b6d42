"""Scheduled generate: samples drawn at different temperatures and nucleus masses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Self

from pydantic import Field, model_validator

from nodes.registry import technique
from nodes.variants import Variant, Varying, steps

__all__ = ["ScheduledGenerate"]

Temperature = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Mass = Annotated[float, Field(gt=0, le=1)]


@technique("scheduled_generate")
class ScheduledGenerate(Varying):
    """Draw the samples of each model by a schedule of temperature and top-p.

    A schedule is either a straight line from the first sample to the last (`temperature` to `temperature_to`, `top_p`
    to `top_p_to`), or a list (`temperatures`, `top_ps`) whose entries the samples take in turn, from its beginning
    again where it ends. With `first_greedy` the first sample is greedy (temperature 0) and the schedule runs over the
    others. Samples of equal settings go out in one request, and are those that a `generate` of these settings draws.

    When to use it: where it is not known which temperature suits a question, since different temperatures solve
        different questions, and in front of anything that needs variety. A vote prefers one good temperature.
    Calls: m·k, in one request for each model and each different pair of temperature and top-p.
    Paper: On the Role of Temperature Sampling in Test-Time Scaling (arXiv 2510.02611).
    Symbols: m is the number of `model`s, k is `samples`.
    Example:
        ```yaml
        name: many-temperatures
        layers:
          - scheduled_generate: {model: fast, samples: 8, temperature: 0.2, temperature_to: 1.2, first_greedy: true}
          - vote
        ```
    """

    temperature_to: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="Temperature of the last sample; null: that of the first."
    )
    top_p_to: float | None = Field(default=None, gt=0, le=1, description="Nucleus mass of the last sample.")
    temperatures: tuple[Temperature, ...] = Field(default=(), description="Temperatures in turn, instead of a line.")
    top_ps: tuple[Mass, ...] = Field(default=(), description="Nucleus masses in turn, instead of a line.")
    first_greedy: bool = Field(default=False, description="Draw the first sample of each model at temperature 0.")

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        for line, start, turn in (
            ("temperature", self.temperature, self.temperatures),
            ("top_p", self.top_p, self.top_ps),
        ):
            end = getattr(self, f"{line}_to")
            if end is not None and turn:
                raise ValueError(f"give either {line}_to or {line}s, not both")
            if end is not None and start is None:
                raise ValueError(f"{line}_to needs {line}, where the line begins")
        return self

    def variants(self) -> Sequence[Variant]:
        """Name temperature and top-p of every sample."""
        drawn = self.sampling()
        greedy = replace(drawn, temperature=0.0, top_p=None)
        count = self.samples - self.first_greedy
        schedule = [greedy] * self.first_greedy + [
            replace(drawn, temperature=temperature, top_p=top_p)
            for temperature, top_p in zip(
                _schedule(self.temperature, self.temperature_to, self.temperatures, count),
                _schedule(self.top_p, self.top_p_to, self.top_ps, count),
                strict=True,
            )
        ]
        return [Variant(model, sampling, system=self.system) for model in self.model_list for sampling in schedule]


def _schedule(first: float | None, last: float | None, turn: Sequence[float], count: int) -> Sequence[float | None]:
    if turn:
        return [turn[place % len(turn)] for place in range(count)]
    return [None] * count if first is None else steps(first, last, count)
