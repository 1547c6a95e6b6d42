"""A bandit's choice among arms: upper confidence bounds with priors that fade, as pure functions.

The index of an arm is its mean reward, plus c·√(ln t / n) for what is not known of it yet (UCB1: Auer, Cesa-Bianchi and
Fischer, Finite-time Analysis of the Multiarmed Bandit Problem, 2002), plus w·prior / (1 + n) for what was thought of it
before it was tried; n are its pulls, t those of all arms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["ArmRecord", "chosen_arm", "pulled", "remembered", "ucb_index"]


class ArmRecord(NamedTuple):
    """What is known of an arm."""

    pulls: float
    """How often it was tried; a part of a pull where only a part is to count."""
    reward: float
    """Mean reward, 0..1."""
    prior: float
    """How well it was thought to do before it was tried, 0..1."""


def ucb_index(arm: ArmRecord, total: float, *, exploration: float, prior_weight: float) -> float:
    """Return the upper confidence bound of an arm; one that was never tried comes before all that were."""
    if arm.pulls <= 0:
        return math.inf
    # Below one pull in all there is nothing that a logarithm could weigh.
    unknown = math.sqrt(math.log(max(total, 1.0)) / arm.pulls)
    return arm.reward + exploration * unknown + prior_weight * arm.prior / (1 + arm.pulls)


def chosen_arm(arms: Sequence[ArmRecord], *, exploration: float, prior_weight: float) -> int:
    """Return the place of the arm with the highest index; of equals the higher prior, then the first."""
    total = math.fsum(arm.pulls for arm in arms)

    def rank(place: int) -> tuple[float, float, int]:
        arm = arms[place]
        return ucb_index(arm, total, exploration=exploration, prior_weight=prior_weight), arm.prior, -place

    return max(range(len(arms)), key=rank)


def pulled(arm: ArmRecord, reward: float) -> ArmRecord:
    """Return the record with one more pull."""
    pulls = arm.pulls + 1
    return arm._replace(pulls=pulls, reward=arm.reward + (reward - arm.reward) / pulls)


def remembered(arm: ArmRecord, most: float) -> ArmRecord:
    """Return the record as one of `most` pulls at most, with the same mean."""
    return arm._replace(pulls=min(arm.pulls, most))
