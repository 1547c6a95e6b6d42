"""Arms: strategies to choose from, each of techniques one after the other, with what is known of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from db.errors import DataError
from nodes.arm_statistics import ArmStatistics, Unit
from nodes.bandit import ArmRecord
from nodes.base import CallPlan, Capability, Estimator, Need, NodePlan, Range, Shape, Technique, exactly
from nodes.learned import names_file
from nodes.planning import fresh, spread
from nodes.scorers.registry import AnyScorer
from nodes.steps import Steps, demands_of, models_of, plan_steps, required_of

__all__ = ["Arm", "ChoosingArms", "read_fits"]

_LINE = re.compile(r"\W{0,8}(\d{1,3})[\].):]+(.*)")
_OF_100 = re.compile(r"/\s{0,4}100\b")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Arm(BaseModel):
    """A strategy that can be chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    steps: Steps
    about: str = ""
    """What it is good at, for the model that gives priors."""
    prior: Unit = 0.5
    """How well it is thought to do."""
    pulls: float = Field(default=0, ge=0, allow_inf_nan=False)
    """How often earlier runs tried it."""
    reward: Unit = 0.0
    """Its mean reward there."""

    def record(self, prior: float | None = None) -> ArmRecord:
        """Return what is known of it, with another prior where one is given."""
        return ArmRecord(self.pulls, self.reward, self.prior if prior is None else prior)


class ChoosingArms(Technique):
    """A technique that chooses among arms and tries them, with a scorer that says how good an answer is."""

    arms: tuple[Arm, ...] = Field(
        min_length=1, max_length=16, description="Strategies: `name`, `steps`, `prior`, `about`; `pulls`, `reward`."
    )
    scorer: AnyScorer | None = Field(default=None, description="What gives the reward; needed for a second pull.")
    pulls: int = Field(default=3, ge=1, le=64, description="Most tries of arms for one question.")
    statistics_file: str | None = Field(default=None, description="What earlier runs taught about the arms.")

    @model_validator(mode="before")
    @classmethod
    def _learned(cls, data: Any) -> Any:  # raw settings, as pydantic hands them to a validator
        """Put what earlier runs taught in the arms, so that the architecture and its hash hold what it is."""
        if not names_file(data, "statistics_file"):
            return data
        try:
            found = ArmStatistics.load(data["statistics_file"])
        except DataError as error:
            raise ValueError(str(error)) from None
        arms = data.get("arms", ())
        taught = _with_statistics(arms, found) if isinstance(arms, list | tuple) else arms
        return {**data, "arms": taught, "statistics_file": None}

    @model_validator(mode="after")
    def _sound(self) -> Self:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"two arms have one name ({', '.join(names)})")
        if self.pulls > 1 and self.scorer is None:
            raise ValueError(f"{self.pulls} pulls need a scorer, which says whether to go on; name one, or pulls: 1")
        for arm in self.arms:
            gives = [step for step in arm.steps if "candidates" in step.gives]
            if not gives and "candidates" not in demands_of(arm.steps):
                raise ValueError(f"arm {arm.name!r} makes no candidate; let a step of it generate")
        return self

    def _scored_by(self) -> tuple[str, ...]:
        return self.scorer.models() if self.scorer and self.pulls > 1 else ()

    def models(self) -> tuple[str, ...]:
        """Name the models of the arms, then those of the scorer."""
        arms = (model for arm in self.arms for model in models_of(arm.steps))
        return tuple(dict.fromkeys((*arms, *self._scored_by())))

    def required_of(self, model: str) -> frozenset[Capability]:
        """What the arms and the scorer need of a model."""
        needed = frozenset[Capability]().union(*(required_of(arm.steps, model) for arm in self.arms))
        return needed | (self.scorer.required() if self.scorer and model in self._scored_by() else frozenset())

    def demands(self) -> frozenset[Need]:
        """What the arms and the scorer need of the state."""
        needed = frozenset[Need]().union(*(demands_of(arm.steps) for arm in self.arms))
        return needed | (self.scorer.demands() - {"candidates"} if self.scorer and self.pulls > 1 else frozenset())

    def foretell_arms(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Plan each arm up to as often as there are pulls, the scorer on what comes of it, and the one answer."""
        likely = (1 + self.pulls) / 2
        times = Range(1 if len(self.arms) == 1 else 0, likely / len(self.arms), self.pulls)
        planned = [plan_steps(arm.steps, shape, estimator) for arm in self.arms]
        calls = [_times(call, times) for plan in planned for call in plan.calls]
        handed = fresh(shape, exactly(1), spread([plan.shape.candidate_tokens for plan in planned]))
        if self.scorer is not None and self.pulls > 1:
            each = Range(1, likely, self.pulls)
            calls += [_times(call, each) for call in self.scorer.plan(handed, estimator)]
        return NodePlan(tuple(calls), handed)


def read_fits(text: str, count: int) -> list[float | None]:
    """Read how well each of `count` numbered strategies fits, 0..100 a line, as 0..1; None where no line says it.

    The last number of a line counts, and the last line on a strategy; a number outside 0..100 is none.
    """
    fits: list[float | None] = [None] * count
    for line in text.splitlines():
        head = _LINE.match(line)
        if head is None or not 1 <= int(head.group(1)) <= count:
            continue
        numbers = [float(number) for number in _NUMBER.findall(_OF_100.sub("", head.group(2)))]
        if numbers and 0 <= numbers[-1] <= 100:
            fits[int(head.group(1)) - 1] = numbers[-1] / 100
    return fits


def _with_statistics(arms: Sequence[object], statistics: ArmStatistics) -> list[object]:
    """Return raw arms, each with what the statistics say of it; one that they do not know is left as it is."""
    names = [str(arm.get("name") if isinstance(arm, Mapping) else getattr(arm, "name", None)) for arm in arms]
    if statistics.arms and not statistics.arms.keys() & set(names):
        raise ValueError(
            f"statistics_file knows the arms {', '.join(statistics.arms)} and none of these ({', '.join(names)})"
        )
    found: list[object] = []
    for arm, name in zip(arms, names, strict=True):
        seen = statistics.arms.get(name)
        if seen is None:
            found.append(arm)
        elif isinstance(arm, Arm):
            found.append(arm.model_copy(update={"pulls": seen.pulls, "reward": seen.reward}))
        elif isinstance(arm, Mapping):
            found.append({**arm, "pulls": seen.pulls, "reward": seen.reward})
    return found


def _times(call: CallPlan, times: Range) -> CallPlan:
    return replace(call, calls=call.calls.times(times), requests=call.requests.times(times))
