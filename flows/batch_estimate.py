"""From a pilot of some rows to what all of them cost: a ratio estimate with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["Estimate", "estimate_total"]

_CONFIDENCE: Final = 0.99
"""Costs of rows are skewed, so that intervals hold the truth less often than they say."""


class Estimate(NamedTuple):
    """What all rows are likely to cost, and between which bounds."""

    low: float
    likely: float
    high: float


def estimate_total(costs: Sequence[float], planned: Sequence[float], planned_total: float, rows: int) -> Estimate:
    """Estimate the total over `rows` rows from those of a pilot, which are among them.

    `planned` are what the pilot's rows were planned at and `planned_total` what all rows were: the total is the sum of
    the pilot and, for the rest, its plan times the ratio of cost to plan in the pilot. The interval is Student's for
    that sum, at 99 %, with the spread of the rows around the ratio (Cochran, Sampling Techniques, chapter 6). Raises
    `ValueError` for a pilot without rows or without a plan.
    """
    count, spent = len(costs), math.fsum(costs)
    if not count or math.fsum(planned) <= 0:
        raise ValueError("an estimate needs a pilot whose rows were planned")
    ratio = spent / math.fsum(planned)
    left = max(0, rows - count)
    if not left:
        return Estimate(spent, spent, spent)
    likely = spent + ratio * max(0.0, planned_total - math.fsum(planned))
    if count == 1:
        return Estimate(spent, likely, math.inf)
    from scipy.stats import t

    spread = math.sqrt(math.fsum((c - ratio * p) ** 2 for c, p in zip(costs, planned, strict=True)) / (count - 1))
    half = float(t.ppf((1 + _CONFIDENCE) / 2, count - 1)) * spread * math.sqrt(left * rows / count)
    return Estimate(max(spent, likely - half), likely, likely + half)
