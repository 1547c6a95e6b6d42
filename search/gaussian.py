"""A Gaussian process with known noise, small and quick enough to be fitted anew for every proposal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Fitted", "believed", "expected_improvement", "fit"]

_LENGTHS = (0.5, 1.0, 2.0)
_LINEAR = (0.2, 0.6, 0.95)
_NOISE = (1e-3, 1e-1)
_SHAPED = 80
"""Rows that the shape is chosen on, at most."""


class Fitted(NamedTuple):
    """A process that was conditioned on data; it predicts in the units of the data."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    noise: NDArray[np.float64]
    """Variance of each value, over the squared scale."""
    length: float
    linear: float
    """Share of the prior variance that is linear in the features; the rest is smooth but of any shape."""
    inverse: NDArray[np.float64]
    weights: NDArray[np.float64]
    centre: float
    scale: float

    def predict(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation at each row of features."""
        cross = _kernel(x, self.x, self.length, self.linear)
        mean = cross @ self.weights
        prior = self.linear * (1 + (x * x).sum(axis=1)) / (1 + x.shape[1]) + 1 - self.linear
        variance = np.maximum(prior - ((cross @ self.inverse) * cross).sum(axis=1), 1e-12)
        return self.centre + self.scale * mean, self.scale * np.sqrt(variance)


def fit(x: NDArray[np.float64], y: NDArray[np.float64], noise: NDArray[np.float64]) -> Fitted:
    """Fit by the greatest marginal likelihood over a small grid (Rasmussen and Williams 2006, chapter 5).

    `noise` holds the variance of each value; what the grid adds to it is the noise that nobody measured. Shape and
    noise are chosen on an even sample of the rows where there are many, since each trial of a shape costs their cube.
    """
    centre, scale = float(y.mean()), float(y.std()) or 1.0
    z, known = (y - centre) / scale, noise / scale**2
    few = np.unique(np.linspace(0, len(x) - 1, _SHAPED).astype(int)) if len(x) > _SHAPED else np.arange(len(x))
    shapes = [(length, linear) for length in _LENGTHS for linear in _LINEAR]
    graded = [
        (_likelihood(base + np.diag(known[few] + extra), z[few]), length, linear, extra)
        for length, linear, base in ((a, b, _kernel(x[few], x[few], a, b)) for a, b in shapes)
        for extra in _NOISE
    ]
    _, length, linear, extra = max(graded)
    return _conditioned(x, y, Fitted(x, y, known + extra, length, linear, x, z, centre, scale))


def believed(process: Fitted, x: NDArray[np.float64]) -> Fitted:
    """Return the process as if it had been measured at these rows, with the values that it predicts there."""
    mean, _ = process.predict(x)
    noise = np.concatenate([process.noise, np.full(len(x), 1e-4)])
    both = np.vstack([process.x, x])
    return _conditioned(both, np.concatenate([process.y, mean]), process._replace(noise=noise))


def expected_improvement(mean: NDArray[np.float64], deviation: NDArray[np.float64], best: float) -> NDArray[np.float64]:
    """Return E[max(0, f - best)] of normal f (Jones, Schonlau and Welch 1998, equation 15)."""
    from scipy.special import ndtr

    z = (mean - best) / deviation
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    gain: NDArray[np.float64] = deviation * (z * ndtr(z) + density)
    return gain


def _conditioned(x: NDArray[np.float64], y: NDArray[np.float64], shape: Fitted) -> Fitted:
    lower = np.linalg.cholesky(_kernel(x, x, shape.length, shape.linear) + np.diag(shape.noise))
    half = np.linalg.inv(lower)
    inverse = half.T @ half
    weights = inverse @ ((y - shape.centre) / shape.scale)
    return shape._replace(x=x, y=y, inverse=inverse, weights=weights)


def _likelihood(covariance: NDArray[np.float64], z: NDArray[np.float64]) -> float:
    lower = np.linalg.cholesky(covariance)
    half = np.linalg.solve(lower, z)
    return float(-0.5 * half @ half - np.log(np.diag(lower)).sum())


def _kernel(a: NDArray[np.float64], b: NDArray[np.float64], length: float, linear: float) -> NDArray[np.float64]:
    inner = a @ b.T
    squared = np.maximum((a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2 * inner, 0.0)
    smooth = np.exp(-0.5 * squared / length**2)
    found: NDArray[np.float64] = linear * (1 + inner) / (1 + a.shape[1]) + (1 - linear) * smooth
    return found
