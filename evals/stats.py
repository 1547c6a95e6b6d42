"""Statistics of one run: intervals, pass@k, coverage, votes, cost per correct answer, latency, calibration."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from decimal import Decimal
from statistics import NormalDist
from typing import NamedTuple, TypeVar

__all__ = [
    "CostPerCorrect",
    "Interval",
    "bootstrap_mean",
    "cost_per_correct",
    "coverage",
    "expected_calibration_error",
    "pass_at_k",
    "plurality",
    "quantile",
    "wilson",
]

_Answer = TypeVar("_Answer", bound=Hashable)


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


class CostPerCorrect(NamedTuple):
    """Dollars for one correct answer; None where a price is unknown or nothing was correct."""

    value: Decimal | None
    interval: Interval | None
    """Its upper end is infinite where resamples without a correct answer are frequent."""


def wilson(correct: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the score interval of a proportion (Wilson 1927, JASA 22); 0..1 where n is 0.

    Raises `ValueError` unless 0 <= correct <= n.
    """
    if not 0 <= correct <= n:
        raise ValueError(f"correct lies between 0 and n (correct={correct}, n={n})")
    if n == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = correct / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(0.0 if correct == 0 else max(0.0, centre - half), 1.0 if correct == n else min(1.0, centre + half))


def bootstrap_mean(
    values: Sequence[float], *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Return the percentile bootstrap interval of a mean (Efron 1979); the same seed gives the same interval.

    Raises `ValueError` without values.
    """
    import numpy as np

    if not values:
        raise ValueError("a bootstrap needs at least one value")
    data = np.asarray(values, dtype=float)
    means = [float(data[drawn].mean()) for drawn in _resamples(len(data), resamples, seed)]
    return _percentiles(means, confidence)


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Estimate without bias the chance that one of k samples is right, from n samples.

    Chen et al. (arXiv 2107.03374), equation 1: 1 - C(n - c, k) / C(n, k), as a product of k factors, which neither
    overflows nor cancels. Raises `ValueError` unless 0 <= correct <= n and 1 <= k <= n.
    """
    if not 0 <= correct <= n or not 1 <= k <= n:
        raise ValueError(f"pass@k needs 0 <= correct <= n and 1 <= k <= n (n={n}, correct={correct}, k={k})")
    none_right = 1.0
    for i in range(k):
        none_right *= max(0, n - correct - i) / (n - i)
    return 1.0 - none_right


def coverage(outcomes: Sequence[Sequence[bool]]) -> float:
    """Return the share of items with at least one right sample: the score of an oracle that picks.

    Raises `ValueError` without items.
    """
    if not outcomes:
        raise ValueError("coverage needs at least one item")
    return sum(any(samples) for samples in outcomes) / len(outcomes)


def plurality(answers: Sequence[_Answer | None]) -> _Answer | None:
    """Return the most frequent answer; of several the one given first, None counts for nothing."""
    counts = Counter(answer for answer in answers if answer is not None)
    return max(counts, key=lambda answer: counts[answer], default=None)


def cost_per_correct(
    costs: Sequence[Decimal | None],
    correct: Sequence[bool],
    *,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> CostPerCorrect:
    """Divide all dollars by the correct answers; the interval resamples items, each with its own cost and outcome.

    Unknown where one cost is unknown, and where nothing is correct. Raises `ValueError` for lists of unequal length.
    """
    import numpy as np

    if len(costs) != len(correct):
        raise ValueError(f"one cost for each outcome is needed ({len(costs)} costs, {len(correct)} outcomes)")
    known = [cost for cost in costs if cost is not None]
    right = sum(correct)
    if len(known) < len(costs) or right == 0:
        return CostPerCorrect(None, None)
    dollars = np.asarray([float(cost) for cost in known])
    hits = np.asarray(correct, dtype=float)
    ratios = []
    for drawn in _resamples(len(hits), resamples, seed):
        count = float(hits[drawn].sum())
        ratios.append(float(dollars[drawn].sum()) / count if count else math.inf)
    return CostPerCorrect(sum(known, Decimal(0)) / right, _percentiles(ratios, confidence))


def quantile(values: Sequence[float], q: float) -> float:
    """Return the q-quantile by linear interpolation between order statistics (type 7 of Hyndman and Fan).

    Raises `ValueError` without values, and for q outside 0..1.
    """
    if not values or not 0 <= q <= 1:
        raise ValueError(f"a quantile needs values and a q between 0 and 1 (n={len(values)}, q={q})")
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def expected_calibration_error(confidences: Sequence[float], correct: Sequence[bool], *, bins: int = 10) -> float:
    """Return the mean distance between confidence and accuracy over equal bins of confidence.

    Guo et al. (arXiv 1706.04599), section 2. Raises `ValueError` for lists of unequal length, without values, and for a
    confidence outside 0..1.
    """
    if not confidences or len(confidences) != len(correct) or not all(0 <= c <= 1 for c in confidences):
        raise ValueError(
            f"calibration needs a confidence from 0 to 1 for each outcome ({len(confidences)} confidences, "
            f"{len(correct)} outcomes)"
        )
    gaps: dict[int, float] = {}
    for confidence, right in zip(confidences, correct, strict=True):
        place = min(int(confidence * bins), bins - 1)
        gaps[place] = gaps.get(place, 0.0) + confidence - right
    return sum(abs(gap) for gap in gaps.values()) / len(confidences)


def _percentiles(values: Sequence[float], confidence: float) -> Interval:
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < len(values) * (0.5 + confidence / 2):
        return Interval(quantile(finite, (1 - confidence) / 2) if finite else math.inf, math.inf)
    tail = (1 - confidence) / 2
    ordered = sorted(values)
    last = len(ordered) - 1
    return Interval(ordered[math.floor(tail * last)], ordered[math.ceil((1 - tail) * last)])


def _resamples(n: int, resamples: int, seed: int) -> Sequence[Sequence[int]]:
    import numpy as np

    rng = np.random.default_rng(seed)
    return [rng.integers(0, n, size=n) for _ in range(resamples)]  # type: ignore[misc]  # an index array is a sequence
