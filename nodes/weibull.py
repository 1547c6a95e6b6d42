"""A mixture of two Weibull distributions, fitted by maximum likelihood: which values belong to the higher component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Mixture", "fit_mixture"]

WEIGHT = (0.2, 0.8)
"""Bounds of a component's share, as in the paper."""
SHAPE = (0.01, 100.0)
"""Bounds of a shape k. The upper one is ours: without it the likelihood grows without end on equal values."""
SCALE = (0.01, 100.0)
"""Bounds of a scale, in units of the mean of the values."""

_STARTS = ((0.5, 1.0, 1.0, 1.5, 2.0), (0.5, 2.0, 0.5, 4.0, 1.2))
"""Where the search begins (w, k1, scale1, k2, scale2): the paper's point, and two components set apart."""

_CAP = 500.0


class Mixture(NamedTuple):
    """Two components, `high` the one with the greater mean; scales are in the unit of the values."""

    weight: float
    """Share of the high component."""
    shape_high: float
    scale_high: float
    shape_low: float
    scale_low: float

    def probability_high(self, values: Sequence[float]) -> list[float]:
        """Return for each value the probability that it comes from the high component."""
        import numpy as np

        x = np.asarray(values, dtype=np.float64)
        high = np.log(self.weight) + _density(x, self.shape_high, self.scale_high).log
        low = np.log1p(-self.weight) + _density(x, self.shape_low, self.scale_low).log
        return [float(p) for p in np.exp(high - np.logaddexp(high, low))]


def fit_mixture(values: Sequence[float]) -> Mixture | None:
    """Fit a mixture to values above 0; None where the fit does not come to an end with finite numbers.

    The order of the values does not matter, nor does their unit.
    """
    import numpy as np
    from scipy.optimize import minimize

    x = np.sort(np.asarray(values, dtype=np.float64))
    unit = float(x.mean())
    x = x / unit
    bounds = (WEIGHT, SHAPE, SCALE, SHAPE, SCALE)
    fits = [
        minimize(_negative_log_likelihood, start, args=(x,), jac=True, bounds=bounds, method="L-BFGS-B")
        for start in _STARTS
    ]
    finite = [fit for fit in fits if np.isfinite(fit.fun) and np.all(np.isfinite(fit.x))]
    if not finite:
        return None
    weight, shape1, scale1, shape2, scale2 = (float(v) for v in min(finite, key=lambda fit: float(fit.fun)).x)
    if _mean(shape1, scale1) < _mean(shape2, scale2):
        weight, shape1, scale1, shape2, scale2 = 1 - weight, shape2, scale2, shape1, scale1
    return Mixture(weight, shape1, scale1 * unit, shape2, scale2 * unit)


class _Density(NamedTuple):
    """The logarithm of a density at each value, and its derivatives by shape and by scale."""

    log: Floats
    by_shape: Floats
    by_scale: Floats


def _negative_log_likelihood(parameters: Floats, x: Floats) -> tuple[float, Floats]:
    """Return the value and its gradient."""
    import numpy as np

    weight, shape1, scale1, shape2, scale2 = parameters
    one, two = _density(x, shape1, scale1), _density(x, shape2, scale2)
    first, second = np.log(weight) + one.log, np.log1p(-weight) + two.log
    both = np.logaddexp(first, second)
    of_first, of_second = np.exp(first - both), np.exp(second - both)
    gradient = [
        np.sum(of_first) / weight - np.sum(of_second) / (1 - weight),
        *(of_first @ slope for slope in one[1:]),
        *(of_second @ slope for slope in two[1:]),
    ]
    return -float(np.sum(both)), -np.array(gradient)


def _density(x: Floats, shape: float, scale: float) -> _Density:
    import numpy as np

    # The logarithm of (x / scale)^shape is capped, so that a narrow component gives a value far off no infinity.
    logs = np.log(x / scale)
    powers = shape * logs
    hazard = np.exp(np.minimum(powers, _CAP))
    rising = np.where(powers < _CAP, hazard, 0.0)
    return _Density(
        np.log(shape / scale) + (shape - 1) * logs - hazard,
        1 / shape + logs - logs * rising,
        (shape * rising - shape) / scale,
    )


def _mean(shape: float, scale: float) -> float:
    from math import exp, lgamma

    return scale * exp(min(700.0, lgamma(1 + 1 / shape)))
