"""Which trials of a race are out: paired tests on common items, with the error of the whole race bounded.

Scores of two trials on the same items are compared pair by pair. Where all are 0 or 1 the test is McNemar's, exact and
one-sided; else the empirical Bernstein bound of Maurer and Pontil (2009, arXiv 0907.3740, theorem 4). Both hold for any
number of items, not only in the limit.

The error is bounded over the whole domain, not over the trials: a sampler proposes points because of how others did on
these very items, so the trials are chosen by the data. For a point that is the best in truth there are (points - 1) ×
rungs tests that could drop it; each is made at `alpha` divided by that number (Bonferroni), so whichever points are
tried, in whatever order, and whichever tests are made, the best point is dropped with a chance of at most `alpha`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["beaten", "level_of_one_test"]


def level_of_one_test(alpha: float, points: int, rungs: int) -> float:
    """Return the level of every single test of a race; raises `ValueError` for an alpha outside 0..1."""
    if not 0 < alpha < 1:
        raise ValueError(f"an error lies between 0 and 1, not {alpha}")
    return alpha / (max(1, points - 1) * rungs)


def beaten(scores: NDArray[np.float64], level: float, *, span: float = 1.0) -> NDArray[np.bool_]:
    """Tell which rows (trials × common items) are worse than some other row, each test at this level.

    `span` is the difference between the greatest and the least score that an item can have.
    """
    if len(scores) < 2:
        return np.zeros(len(scores), dtype=np.bool_)
    binary = bool(np.isin(scores, (0.0, 1.0)).all())
    worse = _mcnemar(scores, level) if binary else _bernstein(scores, level, span)
    return np.asarray(worse.any(axis=1))


def _mcnemar(scores: NDArray[np.float64], level: float) -> NDArray[np.bool_]:
    from scipy.special import bdtrc

    behind = np.rint((1.0 - scores) @ scores.T)
    pairs = behind + behind.T
    # Up to three standard deviations the chance is above one in a thousand, and most pairs are there.
    least = 3 * np.sqrt(pairs) if level < 1e-3 else 0.0
    rows, columns = np.nonzero(behind - behind.T > least)
    # The chance of at least this many of the unequal pairs going against the row, were both equally good.
    chance = bdtrc(behind[rows, columns] - 1, pairs[rows, columns].astype(np.int64), 0.5)
    worse = np.zeros(behind.shape, dtype=np.bool_)
    worse[rows, columns] = chance < level
    return worse


def _bernstein(scores: NDArray[np.float64], level: float, span: float) -> NDArray[np.bool_]:
    items = scores.shape[1]
    if items < 2:
        return np.zeros((len(scores), len(scores)), dtype=np.bool_)
    means = scores.mean(axis=1)
    centred = scores - means[:, None]
    gram = centred @ centred.T
    power = np.diag(gram)
    variance = np.maximum(power[:, None] + power[None, :] - 2 * gram, 0.0) / (items - 1)
    weight = math.log(2 / level)
    # A difference of two scores has twice the span of one.
    slack = np.sqrt(2 * variance * weight / items) + 7 * 2 * span * weight / (3 * (items - 1))
    return np.asarray(means[None, :] - means[:, None] > slack)
