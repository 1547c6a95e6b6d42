"""The difference of two runs on the same items, paired item by item."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple

from evals.stats import Interval, bootstrap_mean

__all__ = ["PairedDifference", "mcnemar_exact", "paired_difference", "sign_flip_p_value"]

_EXACT_UP_TO = 14
"""Non-zero differences up to which all sign flips are counted: 16,384 of them."""


class PairedDifference(NamedTuple):
    """First run minus second run, in the mean over items."""

    difference: float
    interval: Interval
    p_value: float
    """Two-sided, of the hypothesis that the runs do not differ."""
    n: int
    first_only: int
    """Items on which the first run scored higher."""
    second_only: int
    method: Literal["mcnemar-exact", "permutation"]


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedDifference:
    """Compare two runs whose scores stand in the same order of items.

    Scores that are all 0 or 1: the exact McNemar test, and the adjusted Wald interval of Bonett and Price (2012,
    Psychometrika 77). Other scores: a sign-flip permutation test and the percentile bootstrap over items. Raises
    `ValueError` for lists of unequal length and without items.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"paired runs have the same items, one at least ({len(first)} and {len(second)})")
    gaps = [a - b for a, b in zip(first, second, strict=True)]
    mean = math.fsum(gaps) / len(gaps)
    ahead, behind = sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)
    if {*first, *second} <= {0.0, 1.0}:
        interval = _bonett_price(ahead, behind, len(gaps), confidence)
        return PairedDifference(mean, interval, mcnemar_exact(ahead, behind), len(gaps), ahead, behind, "mcnemar-exact")
    interval = bootstrap_mean(gaps, confidence=confidence, resamples=resamples, seed=seed)
    p_value = sign_flip_p_value(gaps, resamples=resamples, seed=seed)
    return PairedDifference(mean, interval, p_value, len(gaps), ahead, behind, "permutation")


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Return the two-sided p-value of the exact test on discordant pairs (McNemar 1947): binomial with chance 1/2."""
    n, fewer = first_only + second_only, min(first_only, second_only)
    tail = ways = 1
    for i in range(fewer):
        ways = ways * (n - i) // (i + 1)
        tail += ways
    return min(1.0, tail / (1 << n) * 2)


def sign_flip_p_value(gaps: Sequence[float], *, resamples: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p-value of a mean of zero when every sign may be flipped.

    All flips are counted for up to 14 non-zero gaps; else `resamples` random ones, with the observed one among them.
    """
    sizes = [abs(gap) for gap in gaps if gap != 0]
    if not sizes:
        return 1.0
    # The slack takes up rounding: flips that give the same sum in another order of terms count as equal.
    reached = abs(math.fsum(gaps)) - 1e-9 * max(sizes)
    if len(sizes) <= _EXACT_UP_TO:
        flips = itertools.product((1, -1), repeat=len(sizes))
        sums = (sum(s * size for s, size in zip(flip, sizes, strict=True)) for flip in flips)
        return sum(abs(total) >= reached for total in sums) / (1 << len(sizes))
    import numpy as np

    rng = np.random.default_rng(seed)
    data = np.asarray(sizes)
    extreme = sum(
        int(abs(float((rng.choice((-1.0, 1.0), size=len(data)) * data).sum())) >= reached) for _ in range(resamples)
    )
    return (extreme + 1) / (resamples + 1)


def _bonett_price(ahead: int, behind: int, n: int, confidence: float) -> Interval:
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p, q = (ahead + 1) / (n + 2), (behind + 1) / (n + 2)
    half = z * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return Interval(max(-1.0, p - q - half), min(1.0, p - q + half))
