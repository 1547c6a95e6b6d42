"""Laws of coverage: what more samples would reach, how many a target needs, and when they stop paying.

    fit_law           c(k) = exp(a·k^b), for what lies beyond the samples there are (Large Language Monkeys,
                      arXiv 2407.21787)
    fit_saturation    F(N) = F_max·(1 − (1 − p)^N), for the N* at which to stop (TTSPM, Scaling over Scaling,
                      arXiv 2505.20522)

Both are fitted to the coverage of `evals.coverage` by least squares, and again to that of resampled problems.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from evals.coverage import Tally, fewest_samples, pass_values, percentiles, resampled_means
from evals.stats import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "CoverageLaw",
    "Estimate",
    "FittedLaw",
    "FittedSaturation",
    "Saturation",
    "fit_law",
    "fit_saturation",
]

_FIT_POINTS = 40
"""Numbers of samples, evenly spaced in log k, at which a law is fitted; so each decade weighs the same."""
_STEEPEST = -8.0
_EXPONENTS = 2001
_CHANCES = 2000
_LEAST_CHANCE = 1e-5


class Estimate(NamedTuple):
    """A figure with its interval over resampled problems; infinite where no number of samples is enough."""

    value: float
    interval: Interval


class CoverageLaw(NamedTuple):
    """The exponentiated power law c(k) = exp(a·k^b), with a and b not above zero."""

    a: float
    b: float

    def coverage(self, k: float) -> float:
        """Return the coverage by k samples."""
        return math.exp(self.a * math.pow(k, self.b))

    def samples_for(self, target: float) -> float:
        """Return the number of samples, not rounded and at least 1, that reach a coverage; infinite where none does.

        Raises `ValueError` for a target outside 0..1, ends excluded.
        """
        if not 0 < target < 1:
            raise ValueError(f"a target coverage lies between 0 and 1, both excluded (target={target})")
        if self.coverage(1) >= target:
            return 1.0
        if self.b == 0:
            return math.inf
        log_k = math.log(math.log(target) / self.a) / self.b
        return math.exp(log_k) if log_k < 700 else math.inf


_NOTHING = CoverageLaw(-math.inf, 0.0)
"""No coverage by any number of samples, as of resampled problems of which none has a right one."""


class Saturation(NamedTuple):
    """The saturating form F(N) = F_max·(1 − (1 − p)^N)."""

    f_max: float
    """What endless samples would reach."""
    p: float
    """The chance that one sample is right where that can be reached at all."""

    def coverage(self, n: float) -> float:
        """Return F(N)."""
        return self.f_max * (1 - math.pow(1 - self.p, n))

    def point(self, epsilon: float) -> int:
        """Return N*, the least N ≥ 1 from which the next sample adds at most ε: ⌈ln(ε / (F_max·p)) / ln(1 − p)⌉.

        Raises `ValueError` unless ε is above 0.
        """
        if epsilon <= 0:
            raise ValueError(f"the gain at which to stop is above zero (epsilon={epsilon})")
        first = self.f_max * self.p
        if first <= epsilon or self.p >= 1:
            return 1
        # The slack takes up rounding where the ratio is a whole number.
        return max(1, math.ceil(math.log(epsilon / first) / math.log1p(-self.p) - 1e-9))


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedLaw:
    """A coverage law with what the same fit gives on resampled problems."""

    law: CoverageLaw
    error: float
    """Root mean square distance of the law from the measured coverage, over the points of the fit."""
    confidence: float
    draws: tuple[CoverageLaw, ...] = field(repr=False)

    def coverage(self, k: float) -> Estimate:
        """Foretell the coverage by k samples; the interval takes the law to be true."""
        return self._estimate(lambda law: law.coverage(k))

    def samples_for(self, target: float) -> Estimate:
        """Foretell the samples for a target coverage; raises as `CoverageLaw.samples_for`."""
        return self._estimate(lambda law: law.samples_for(target))

    def _estimate(self, of: Callable[[CoverageLaw], float]) -> Estimate:
        return Estimate(of(self.law), percentiles([of(law) for law in self.draws], self.confidence))


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedSaturation:
    """A saturating form with what the same fit gives on resampled problems."""

    form: Saturation
    error: float
    """Root mean square distance of the form from the measured coverage, over the points of the fit."""
    confidence: float
    draws: tuple[Saturation, ...] = field(repr=False)

    def point(self, epsilon: float) -> Estimate:
        """Return N*; raises as `Saturation.point`."""
        draws = [float(form.point(epsilon)) for form in self.draws]
        return Estimate(float(self.form.point(epsilon)), percentiles(draws, self.confidence))


def fit_law(
    tallies: Sequence[Tally], *, confidence: float = 0.95, resamples: int = 1_000, seed: int = 0
) -> FittedLaw | None:
    """Fit c(k) = exp(a·k^b) by least squares on ln c; None where no sample is right, since ln c is then infinite.

    Raises `ValueError` without problems, and where a problem has fewer than two samples.
    """
    import numpy as np

    ks = _fit_points(tallies)
    values = pass_values(tallies, ks)
    coverage = values.mean(axis=0)
    if coverage[0] <= 0:
        return None
    means = resampled_means(values, resamples, seed)
    some = means[means[:, 0] > 0]
    (law,), draws = _laws(ks, np.log(coverage)[None, :]), _laws(ks, np.log(some))
    draws += [_NOTHING] * (len(means) - len(some))
    fitted = np.asarray([law.coverage(k) for k in ks])
    return FittedLaw(law=law, error=_distance(fitted, coverage), confidence=confidence, draws=tuple(draws))


def fit_saturation(
    tallies: Sequence[Tally], *, confidence: float = 0.95, resamples: int = 1_000, seed: int = 0
) -> FittedSaturation | None:
    """Fit F(N) = F_max·(1 − (1 − p)^N) by least squares, F_max at most 1; None where no sample is right.

    The form has one p for all problems. Where problems differ much in difficulty coverage goes on growing after it has
    flattened; `error` says how far the form is off. Raises as `fit_law`.
    """
    import numpy as np

    ks = _fit_points(tallies)
    values = pass_values(tallies, ks)
    coverage = values.mean(axis=0)
    if coverage[-1] <= 0:
        return None
    means = resampled_means(values, resamples, seed)
    (form,), draws = _saturations(ks, coverage[None, :]), _saturations(ks, means)
    fitted = np.asarray([form.coverage(k) for k in ks])
    return FittedSaturation(form=form, error=_distance(fitted, coverage), confidence=confidence, draws=tuple(draws))


def _fit_points(tallies: Sequence[Tally]) -> tuple[int, ...]:
    most = fewest_samples(tallies)
    if most < 2:
        raise ValueError(f"a law needs at least two samples of every problem (the fewest are {most})")
    steps = (most ** (place / (_FIT_POINTS - 1)) for place in range(_FIT_POINTS))
    return tuple(dict.fromkeys(round(step) for step in steps))


def _laws(ks: Sequence[int], logs: NDArray[np.float64]) -> list[CoverageLaw]:
    """Fit a law to each row of ln c: for a given b the best a is a ratio, so only b is searched, by grid and parabola.

    With x = k^b the sum of squares left is y·y − (y·x)² / (x·x), so the second term is to be largest.
    """
    import numpy as np

    grid = np.linspace(_STEEPEST, 0.0, _EXPONENTS)
    powers = np.asarray(ks, dtype=float)[None, :] ** grid[:, None]
    gains = np.square(logs @ powers.T) / np.square(powers).sum(axis=1)
    exponents = _refined(grid, gains)
    best = np.asarray(ks, dtype=float)[None, :] ** exponents[:, None]
    factors = np.minimum(0.0, (logs * best).sum(axis=1) / np.square(best).sum(axis=1))
    # Where all is covered by one sample every exponent fits; 0 is the plainest.
    return [CoverageLaw(float(a), float(b) if a else 0.0) for a, b in zip(factors, exponents, strict=True)]


def _saturations(ks: Sequence[int], coverage: NDArray[np.float64]) -> list[Saturation]:
    """Fit the saturating form to each row: for a given p the best F_max is a ratio, cut at 1; p is searched."""
    import numpy as np

    logs = np.linspace(math.log(_LEAST_CHANCE), 0.0, _CHANCES)
    counts = np.asarray(ks, dtype=float)

    def shapes(log_p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1 - (1 - np.exp(log_p))[:, None] ** counts[None, :])

    rising = shapes(logs)
    squares, products = np.square(rising).sum(axis=1), coverage @ rising.T
    heights = np.clip(products / squares, 0.0, 1.0)
    chosen = _refined(logs, 2 * heights * products - np.square(heights) * squares)
    best = shapes(chosen)
    tops = np.clip((coverage * best).sum(axis=1) / np.square(best).sum(axis=1), 0.0, 1.0)
    return [Saturation(float(top), math.exp(log_p)) for top, log_p in zip(tops, chosen, strict=True)]


def _refined(grid: NDArray[np.float64], gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each row of gains the place of its maximum, between grid points by a parabola through three."""
    import numpy as np

    at = gains.argmax(axis=1)
    inner = np.clip(at, 1, len(grid) - 2)
    rows = np.arange(len(gains))
    left, middle, right = (gains[rows, inner + step] for step in (-1, 0, 1))
    bend = left - 2 * middle + right
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(bend < 0, (left - right) / (2 * bend), 0.0)
    step = grid[1] - grid[0]
    # At the ends of the grid the maximum is the end itself.
    return np.asarray(np.where(at == inner, grid[inner] + np.clip(shift, -1, 1) * step, grid[at]), dtype=np.float64)


def _distance(fitted: NDArray[np.float64], measured: NDArray[np.float64]) -> float:
    import numpy as np

    return float(np.sqrt(np.square(fitted - measured).mean()))
