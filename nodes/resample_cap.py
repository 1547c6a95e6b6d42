"""How often it pays to draw again until a verifier that errs lets a response pass.

Each draw passes the verifier and is right with the chance `p_tp`, passes and is wrong with the chance `p_fp`, and fails
to pass else. After K draws nothing has passed with the chance (1 − a)^K, a = p_tp + p_fp, so that the utility is

    U(K) = sum over j ≤ K of (1 − a)^(j − 1) · (p_tp · benefit − p_fp · penalty − cost)

with the cost paid for every draw that is made, and nothing gained or lost by abstaining. For questions of one kind the
gain of a draw never changes its sign, so that U is best without a draw or without an end. What makes an end is that
questions differ: those that are still open after some draws are the hard ones, where what passes is more and more
often wrong. So the functions take a mixture of kinds of questions, and U(K) is its mean; kinds in which questions still
differ make later draws look better than they are (Inference Scaling fLaws: The
Limits of LLM Resampling with Imperfect Verifiers, arXiv 2411.17501; the formula is ours, after its model).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "Rates",
    "Stakes",
    "accuracy_limit",
    "best_cap",
    "expected_draws",
    "expected_utility",
    "passing_accuracy",
]


class Rates(BaseModel):
    """How a draw fares on one kind of questions: both chances are of a draw, not of the right or the wrong ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    p_tp: float = Field(ge=0, le=1, description="Chance that a draw is right and passes.")
    p_fp: float = Field(ge=0, le=1, description="Chance that a draw is wrong and passes.")
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="Share of questions, up to a factor.")

    @model_validator(mode="after")
    def _no_more_than_certain(self) -> Rates:
        # The slack takes up rounding of estimates that sum to 1.
        if self.p_tp + self.p_fp > 1 + 1e-9:
            raise ValueError(f"p_tp + p_fp is {self.p_tp + self.p_fp:g}, above 1; both are shares of all draws")
        return self

    @property
    def passes(self) -> float:
        """The chance that a draw passes, a."""
        return min(1.0, self.p_tp + self.p_fp)


class Stakes(NamedTuple):
    """What is at stake, in any one unit."""

    benefit: float = 1.0
    """Of a right response that passed."""
    penalty: float = 0.0
    """Of a wrong one that passed."""
    cost: float = 0.0
    """Of one draw with its verification."""


def accuracy_limit(kinds: Sequence[Rates]) -> float:
    """Return the accuracy of what passes where drawing has no end: p_tp / (p_tp + p_fp) in the mean of questions.

    Questions on which nothing ever passes do not count; not a number where there are no others.
    """
    found = [(kind.weight, kind.p_tp / kind.passes) for kind in kinds if kind.passes]
    total = math.fsum(weight for weight, _ in found)
    return math.fsum(weight * limit for weight, limit in found) / total if total else math.nan


def passing_accuracy(kinds: Sequence[Rates], cap: int) -> float:
    """Return the accuracy of what passes within `cap` draws; not a number where nothing can."""
    draws = [_draws(kind, cap) for kind in kinds]
    right = math.fsum(kind.weight * kind.p_tp * made for kind, made in zip(kinds, draws, strict=True))
    passed = math.fsum(kind.weight * kind.passes * made for kind, made in zip(kinds, draws, strict=True))
    return right / passed if passed else math.nan


def expected_draws(kinds: Sequence[Rates], cap: int) -> float:
    """Return how many draws are made in the mean where at most `cap` are."""
    return math.fsum(kind.weight * _draws(kind, cap) for kind in kinds) / _total(kinds)


def expected_utility(kinds: Sequence[Rates], cap: int, stakes: Stakes) -> float:
    """Return U(K) for K = `cap`, in the mean of questions; 0 without a draw."""
    return math.fsum(kind.weight * _gain(kind, stakes) * _draws(kind, cap) for kind in kinds) / _total(kinds)


def best_cap(kinds: Sequence[Rates], most: int, stakes: Stakes) -> int:
    """Return the K from 0 to `most` with the greatest U(K), the smallest of equals; 0 says that no draw pays."""
    utilities = [expected_utility(kinds, cap, stakes) for cap in range(most + 1)]
    # What differs by rounding alone is equal.
    top = max(utilities)
    return next(cap for cap, value in enumerate(utilities) if math.isclose(value, top, rel_tol=1e-12, abs_tol=1e-15))


def _gain(kind: Rates, stakes: Stakes) -> float:
    return kind.p_tp * stakes.benefit - kind.p_fp * stakes.penalty - stakes.cost


def _draws(kind: Rates, cap: int) -> float:
    """Sum (1 − a)^(j − 1) over j from 1 to the cap: the draws made in the mean on questions of one kind."""
    if kind.passes == 0:
        return cap
    return -math.expm1(cap * math.log1p(-kind.passes)) / kind.passes if kind.passes < 1 else min(cap, 1)


def _total(kinds: Sequence[Rates]) -> float:
    if not kinds:
        raise ValueError("the utility needs the rates of at least one kind of questions")
    return math.fsum(kind.weight for kind in kinds)
