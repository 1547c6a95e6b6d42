"""How much of what differs between trials goes with one parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from colonnade.report.values import level, levels, measured, parameters, value_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.study_view import StudyView

__all__ = ["Importance", "importances"]


class Importance(NamedTuple):
    """The share, from 0 to 1, of the variance of the first objective that goes with a parameter alone."""

    parameter: str
    share: float | None
    """None where the trials are too few for an estimate: no more than there are levels, or all alike."""
    low: float | None
    """End of the 95 % interval."""
    high: float | None
    levels: int
    """How many levels the trials have of it; being absent counts as one."""
    trials: int


def importances(view: StudyView) -> tuple[Importance, ...]:
    """Return the importance of every parameter that differs between measured trials, the greatest first.

    It is the main effect of a functional analysis of variance (Hutter, Hoos and Leyton-Brown 2014, ICML), of the
    measured trials themselves and without a model between: with finitely many levels the mean of each is known, and
    the share is that of a one-way analysis of variance. Each trial weighs as much as it has items, since the variance
    of a mean falls with their number. The share is Kelley's epsilon squared (1935, PNAS 21), which takes out what as
    many levels would explain by chance; the interval inverts the noncentral F distribution (Steiger 2004,
    Psychological Methods 9), so with few trials it is wide. Normal errors are assumed, trials scored on the same items
    are taken as independent, and a search chooses its trials: parameters that were varied together share their credit.
    """
    trials = measured(view)
    values = np.asarray([value_of(trial) for trial in trials], dtype=float)
    weights = np.asarray([max(1, trial.items) for trial in trials], dtype=float)
    found = []
    for name in parameters(view):
        known = levels(trials, name)
        if len(known) > 1:
            groups = np.asarray([known.index(level(trial, name)) for trial in trials])
            found.append(_importance(name, values, weights, groups))
    return tuple(sorted(found, key=lambda one: -1.0 if one.share is None else one.share, reverse=True))


def _importance(
    name: str, values: NDArray[np.float64], weights: NDArray[np.float64], groups: NDArray[np.int64]
) -> Importance:
    n, k = len(values), int(groups.max()) + 1
    weight = np.bincount(groups, weights)
    means = np.bincount(groups, weights * values) / weight
    total = float(weights @ (values - np.average(values, weights=weights)) ** 2)
    within = float(weights @ (values - means[groups]) ** 2)
    if n <= k or within <= 1e-12 * max(total, 1e-12):
        return Importance(name, None, None, None, k, n)
    noise = within / (n - k)
    between = max(0.0, total - within)
    low, high = _interval(between / (k - 1) / noise, k - 1, n - k)
    share = max(0.0, (between - (k - 1) * noise) / total)
    return Importance(name, share, low, high, k, n)


def _interval(ratio: float, upper: int, lower: int) -> tuple[float, float]:
    """Return the 95 % interval of the share behind an F ratio with these degrees of freedom."""
    from scipy.optimize import brentq
    from scipy.special import ncfdtr

    n = upper + lower + 1

    def share_at(chance: float) -> float:
        """Find the noncentrality at which a ratio as small as this one has the given chance."""
        if ncfdtr(upper, lower, 0.0, ratio) <= chance:
            return 0.0
        most = 1.0
        while ncfdtr(upper, lower, most, ratio) > chance:
            most *= 2
        found = float(brentq(lambda at: ncfdtr(upper, lower, at, ratio) - chance, 0.0, most))
        return found / (found + n)

    return share_at(0.975), share_at(0.025)
