"""Repeated sampling: how coverage grows with the number of samples.

Coverage is pass@k in the mean over problems: the chance that at least one of k samples is right (Chen et al.,
arXiv 2107.03374). Everything is computed from tallies, how many of a problem's samples were right; intervals come from
resampled problems. What lies beyond the samples there are is foretold by `evals.coverage_laws`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from evals.stats import Interval, quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "CoverageCurve",
    "CoveragePoint",
    "Tally",
    "coverage_curve",
    "doubling",
    "fewest_samples",
    "pass_at_each_k",
    "pass_values",
    "percentiles",
    "resampled_means",
]


class Tally(NamedTuple):
    """How many of a problem's samples were right."""

    samples: int
    correct: int


class CoveragePoint(NamedTuple):
    """Coverage by k samples."""

    k: int
    value: float
    interval: Interval


class CoverageCurve(NamedTuple):
    """Coverage by numbers of samples."""

    points: tuple[CoveragePoint, ...]
    problems: int

    def reaching(self, target: float) -> int | None:
        """Return the least k on the curve whose coverage is at least `target`, None where none is."""
        return next((point.k for point in self.points if point.value >= target), None)


def pass_at_each_k(tally: Tally) -> NDArray[np.float64]:
    """Return pass@1 … pass@n of one problem, shape (n,); as `evals.stats.pass_at_k`, all k in one product.

    Raises `ValueError` unless 0 <= correct <= samples and samples >= 1.
    """
    import numpy as np

    n, correct = tally
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"a tally has samples, and right ones among them (samples={n}, correct={correct})")
    drawn = np.arange(n)
    none_right = np.cumprod(np.maximum(0, n - correct - drawn) / (n - drawn))
    return np.asarray(1.0 - none_right, dtype=np.float64)


def doubling(most: int) -> tuple[int, ...]:
    """Return 1, 2, 4, … up to `most`, which is always the last."""
    ks = [1 << power for power in range(most.bit_length()) if 1 << power <= most]
    return tuple(dict.fromkeys([*ks, most]))


def coverage_curve(
    tallies: Sequence[Tally],
    ks: Sequence[int] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> CoverageCurve:
    """Return the mean pass@k over problems for each k, with percentile bootstrap intervals over problems.

    Without `ks` they double, up to the least number of samples that a problem has. Raises `ValueError` without
    problems and for a k that is below 1 or above a problem's number of samples.
    """
    most = fewest_samples(tallies)
    ks = doubling(most) if ks is None else ks
    if not all(1 <= k <= most for k in ks):
        raise ValueError(f"k lies between 1 and the {most} samples that every problem has (ks={list(ks)})")
    values = pass_values(tallies, ks)
    means = resampled_means(values, resamples, seed)
    points = (
        CoveragePoint(k, float(values[:, place].mean()), percentiles(means[:, place].tolist(), confidence))
        for place, k in enumerate(ks)
    )
    return CoverageCurve(tuple(points), len(tallies))


def fewest_samples(tallies: Sequence[Tally]) -> int:
    """Return the least number of samples that a problem has; raises `ValueError` without problems."""
    if not tallies:
        raise ValueError("coverage needs at least one problem")
    return min(tally.samples for tally in tallies)


def pass_values(tallies: Sequence[Tally], ks: Sequence[int]) -> NDArray[np.float64]:
    """Return pass@k by problem and k, shape (problems, ks)."""
    import numpy as np

    places = np.asarray(ks) - 1
    return np.asarray([pass_at_each_k(tally)[places] for tally in tallies])


def resampled_means(values: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Return the means over problems drawn with replacement, shape (resamples, ks)."""
    import numpy as np

    problems = len(values)
    drawn = np.random.default_rng(seed).multinomial(problems, np.full(problems, 1 / problems), size=resamples)
    return np.asarray(drawn @ values / problems, dtype=np.float64)


def percentiles(values: Sequence[float], confidence: float) -> Interval:
    """Return the percentile interval of values; an end is infinite where as many of the values are."""
    if not values:
        return Interval(-math.inf, math.inf)
    finite = [value for value in values if math.isfinite(value)]
    share = len(finite) / len(values)
    low, high = (1 - confidence) / 2, (1 + confidence) / 2
    ends = (quantile(finite, q / share) if q <= share else math.inf for q in (low, high))
    return Interval(*ends)
