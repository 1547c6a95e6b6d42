"""Has something changed since the reference? Exact tests that stay valid however often one looks.

A reference is one sample of every item or several, and a look is one more. While nothing changes, the samples of an
item are exchangeable: any order of them is equally likely. That is all that the tests use. The newest `window` looks
are set against everything before them, the reference included, item by item. Given the values that an item has shown
in all its samples, which of them fell into the newest looks is a draw without replacement, so the chance of a sum as
low as the one seen is known exactly (for 0/1 scores it is a sum of hypergeometric variables). The reference's noise is
part of that; a test that took the reference for the truth would meet the reference's own error in every look and would
be sure to give a false alarm some day.

A look is tested at several windows, each at its part of `alpha`: the parts of a look add up to `spent(look)`, and those
of all looks, without end, to one. So a history without change has an alarm, ever, with a chance of at most `alpha`,
however the looks depend on each other. It is alpha spending (Lan and DeMets 1983, Biometrika 70) over looks that never
end. Samples of different items in one look have to be independent of each other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[np.float64]
    """Items × samples in the order of time: those of the reference, then one of every look."""
    Grades = NDArray[np.int64]

__all__ = ["Shift", "fell", "novel", "rose", "smallest_fall", "spent"]

_NEAR = (1, 3)
"""Windows that are tried: a look alone shows a great fall at once; the window of all looks is tried as well."""
_DELAY = 2.0
_DECAY = 1.5
_ROUNDS = 20
_CELLS = 1 << 18
"""The most values that a sum over items may take; graded scores are rounded so that it is kept."""


class Shift(NamedTuple):
    """What a look shows of a change in one direction."""

    error: float
    """The smallest `alpha` at which this look gives an alarm, over all looks; at most 1."""
    window: int
    """The number of newest looks that show it most clearly."""
    before: float
    """Mean over items and over all samples before these looks."""
    after: float
    """Mean over items and over these looks."""


def fell(scores: Values, references: int, look: int) -> Shift:
    """Test whether scores, from 0 to 1, are lower now than before.

    The first columns are the samples of the reference, the others those of the looks that are remembered, of which the
    last is number `look`, counted from 1. Raises `ValueError` without items, reference or look.
    """
    whole = bool(np.isin(scores, (0.0, 1.0)).all())
    # Rounding each score by itself keeps the samples exchangeable, so the test stays exact.
    steps = 1 if whole else int(np.clip(_CELLS // (max(_NEAR) * max(1, len(scores))), 10, 100))
    return _shift(scores, np.rint(scores * steps).astype(np.int64), references, look)


def rose(costs: Values, references: int, look: int) -> Shift:
    """Test whether costs (dollars, tokens, calls) are higher now than before, by their ranks within each item.

    A rank does not care how far an outlier lies out. Columns and errors are those of `fell`.
    """
    below = (costs[:, :, None] > costs[:, None, :]).sum(axis=2)
    above = (costs[:, :, None] < costs[:, None, :]).sum(axis=2)
    return _shift(costs, (above - below).astype(np.int64), references, look)


def novel(answers: Sequence[Sequence[str]], look: int) -> Shift:
    """Test whether the newest answers to unchanged greedy requests are ones that were not given before.

    One row holds the answers to one request in the order of time. An answer that stands alone in its row is as likely
    to be the newest as any other while the model is the same, so a provider whose greedy answers vary does no harm.
    `before` and `after` are the shares of answers that stand alone.
    """
    alone = np.asarray([[row.count(answer) == 1 for answer in row] for row in answers], dtype=float)
    chance = _chance(-alone.astype(np.int64), 1)
    return Shift(min(1.0, chance / spent(look)), 1, float(alone[:, :-1].mean()), float(alone[:, -1].mean()))


def spent(look: int) -> float:
    """Return the share of the error that a look may spend; all looks from 1 on share exactly 1."""
    from scipy.special import zeta

    return float((look + _DELAY) ** -_DECAY / zeta(_DECAY, 1 + _DELAY))


def smallest_fall(references: Values, *, alpha: float, within: int = 3, power: float = 0.9) -> float | None:
    """Estimate the fall in the mean that is found within so many looks with that chance; None where nothing is known.

    For a fall that begins with the first look and takes every item in proportion. How far the samples of an item differ
    is known from two samples on.
    """
    items, samples = references.shape
    mean = float(references.mean()) if items else 0.0
    if samples < 2 or mean == 0:
        return None
    scatter = float(references.var(axis=1, ddof=1).mean())
    level = alpha * spent(within) * dict(_windows(within))[within]
    sigmas = NormalDist().inv_cdf(1 - level) + NormalDist().inv_cdf(power)
    fall = 0.0
    for _ in range(_ROUNDS):
        # Items that were always right scatter too when some of their answers turn wrong.
        lost = min(1.0, fall / mean)
        after = (1 - lost) * (scatter + (mean - scatter) * lost)
        fall = sigmas * math.sqrt((scatter / samples + after / within) / items)
    return fall


def _windows(looks: int) -> list[tuple[int, float]]:
    """Return the windows of a look with their shares: long ones, which see small changes, get more."""
    found = sorted({*(window for window in _NEAR if window <= looks), looks})
    weights = [min(window, max(_NEAR)) for window in found]
    return [(window, weight / sum(weights)) for window, weight in zip(found, weights, strict=True)]


def _shift(values: Values, grades: Grades, references: int, look: int) -> Shift:
    items, samples = values.shape
    looks = samples - references
    if not (items and references >= 1 and 1 <= looks <= look):
        raise ValueError(f"a look needs items and a reference (items={items}, references={references}, looks={looks})")
    found = []
    for window, share in _windows(looks):
        error = min(1.0, _chance(grades, window) / (spent(look) * share))
        found.append(Shift(error, window, float(values[:, :-window].mean()), float(values[:, -window:].mean())))
    return min(found, key=lambda shift: shift.error)


def _chance(grades: Grades, window: int) -> float:
    """Return the chance that the last `window` columns have a sum as low as they have, or lower."""
    from scipy.fft import next_fast_len

    samples = grades.shape[1]
    # The sum of the others is what is left of the row, and the shorter of the two is quicker to count.
    turned = 2 * window > samples
    drawn = samples - window if turned else window
    rest = grades - grades.min(axis=1, keepdims=True)
    seen = int(rest[:, :drawn].sum() if turned else rest[:, samples - drawn :].sum())
    alike = Counter(map(tuple, np.sort(rest, axis=1).tolist()))
    parts = [(_drawn(row, drawn), often) for row, often in alike.items()]
    cells = 1 + sum((len(part) - 1) * often for part, often in parts)
    length = next_fast_len(cells, real=True)
    spectrum = np.ones(length // 2 + 1, dtype=np.complex128)
    for part, often in parts:
        spectrum *= np.fft.rfft(part, length) ** often
    sums = np.clip(np.fft.irfft(spectrum, length)[:cells], 0.0, 1.0)
    return float(min(1.0, sums[seen:].sum() if turned else sums[: seen + 1].sum()))


@lru_cache(maxsize=4096)
def _drawn(row: tuple[int, ...], drawn: int) -> NDArray[np.float64]:
    """Return the chances of each sum of `drawn` values out of a sorted row, all draws being equally likely."""
    ways = np.zeros((drawn + 1, 1 + sum(row[len(row) - drawn :])))
    ways[0, 0] = 1.0
    for value in row:
        for taken in range(drawn, 0, -1):
            ways[taken, value:] += ways[taken - 1, : ways.shape[1] - value]
    return np.asarray(ways[drawn] / math.comb(len(row), drawn))
