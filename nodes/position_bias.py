"""Position bias of pairwise comparisons, and preferences without it.

A judge that is shown two responses favours a place, mostly the first. Comparisons in both orders show by how much:

    seen = [Comparison(0, 1, 1.0), Comparison(1, 0, 1.0)]       # whichever stands first wins
    corrected(seen, 2, "swap")                                  # preferences 0.5, position_bias 1.0

`swap` takes the mean of both orders (LLM-Blender, arXiv 2306.02561). `bradley_terry` fits a strength for
each response and one effect of the first place, P(first wins) = 1 / (1 + exp(−(s_first − s_second + e))), which also
uses pairs of which only one order is known (Rank Analysis of Incomplete Block Designs, Bradley and Terry 1952, with the
order effect of Davidson and Beaver 1977).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Comparison", "Corrected", "Correction", "Fitted", "corrected", "fit_strengths", "position_bias"]

Correction = Literal["none", "swap", "bradley_terry"]

_STEPS = 50
_CLOSE = 1e-9


class Comparison(NamedTuple):
    """What was said of two responses, by their numbers from 0, in the order in which they were shown."""

    first: int
    second: int
    outcome: float
    """In 0..1: 1 where the one shown first is better, 0 where the second is, 0.5 for a tie, or a probability."""


class Corrected(NamedTuple):
    """Preferences of which the place is taken out."""

    preferences: tuple[tuple[float, ...], ...]
    """In 0..1 at [i][j]: how surely i is better than j; [i][j] + [j][i] = 1, and 0.5 where nothing is known."""
    scores: tuple[float, ...]
    """The mean preference of each response over the others, in 0..1; 1 for a lone one."""
    position_bias: float
    """In −1..1: how much more than half of the comparisons of equals the first place wins, doubled; 0 is fair."""


class Fitted(NamedTuple):
    """Strengths on the logit scale, of mean 0 in every connected group of responses, and the effect of the place."""

    strengths: tuple[float, ...]
    effect: float
    """What standing first adds to a response's strength."""


def corrected(
    comparisons: Sequence[Comparison], count: int, correction: Correction, *, ridge: float = 0.1
) -> Corrected:
    """Take the place out of comparisons among `count` responses.

    With `none` every comparison counts as it is, with `swap` each order of a pair has the same weight and a missing one
    is a tie, with `bradley_terry` the fitted strengths decide. Raises `ValueError` for numbers outside 0..count − 1.
    """
    _check(comparisons, count)
    if correction == "bradley_terry":
        fitted = fit_strengths(comparisons, count, ridge=ridge)
        matrix = [[_logistic(a - b) for b in fitted.strengths] for a in fitted.strengths]
        bias = math.tanh(fitted.effect / 2)
    else:
        matrix = _counted(comparisons, count, both=correction == "swap")
        bias = position_bias(comparisons)
    preferences = tuple(tuple(row) for row in matrix)
    return Corrected(preferences, tuple(_mean_beside(row, i) for i, row in enumerate(preferences)), bias)


def position_bias(comparisons: Sequence[Comparison]) -> float:
    """Return twice the share of comparisons that the first place wins, less 1; 0 where there are none.

    Pairs that were shown in both orders count alone where there are any: in them quality cancels out. Without any the
    figure is fair only if the responses came in an order that has nothing to do with their quality.
    """
    means = _means(comparisons)
    both = [means[i, j] + means[j, i] - 1 for i, j in means if i < j and (j, i) in means]
    found = both or [2 * outcome - 1 for outcome in means.values()]
    return math.fsum(found) / len(found) if found else 0.0


def fit_strengths(comparisons: Sequence[Comparison], count: int, *, ridge: float = 0.1) -> Fitted:
    """Fit strengths and the effect of the first place by penalised maximum likelihood, with Newton's method.

    Responses to many questions can be fitted at once, with one effect for all, if their numbers differ. `ridge` (above
    0) is the weight of the squares, half of which is taken from the log likelihood: it keeps the fit finite where one
    response wins always. Raises `ValueError` for numbers outside 0..count − 1 or a ridge that is not above 0.
    """
    import numpy as np

    _check(comparisons, count)
    if not ridge > 0:
        raise ValueError(f"The ridge must lie above 0, not at {ridge}.")
    rows = np.arange(len(comparisons))
    design = np.zeros((len(comparisons), count + 1))
    design[rows, [one.first for one in comparisons]] = 1.0
    design[rows, [one.second for one in comparisons]] = -1.0
    design[:, count] = 1.0
    outcomes = np.array([one.outcome for one in comparisons], dtype=np.float64)
    found = _newton(design, outcomes, ridge)
    return Fitted(tuple(float(value) for value in found[:count]), float(found[count]))


def _newton(design: NDArray[np.float64], outcomes: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    import numpy as np

    def loss(at: NDArray[np.float64]) -> float:
        logits = design @ at
        return float(np.sum(np.logaddexp(0.0, logits) - outcomes * logits) + ridge / 2 * at @ at)

    at = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        chances = 0.5 * (1.0 + np.tanh(0.5 * (design @ at)))
        slope = design.T @ (chances - outcomes) + ridge * at
        if float(np.max(np.abs(slope))) < _CLOSE:
            break
        curvature = (design.T * (chances * (1.0 - chances))) @ design + ridge * np.eye(len(at))
        step = np.linalg.solve(curvature, slope)
        # The loss is convex; a full step may still overshoot far from the optimum.
        size, before = 1.0, loss(at)
        while size > _CLOSE and loss(at - size * step) > before:
            size /= 2
        at = at - size * step
    return at


def _counted(comparisons: Sequence[Comparison], count: int, *, both: bool) -> list[list[float]]:
    means = _means(comparisons)
    matrix = [[0.5] * count for _ in range(count)]
    for i in range(count):
        for j in range(i + 1, count):
            forward, backward = means.get((i, j)), means.get((j, i))
            views = [forward, None if backward is None else 1 - backward]
            known = [0.5 if view is None else view for view in views if both or view is not None]
            matrix[i][j] = math.fsum(known) / len(known) if known else 0.5
            matrix[j][i] = 1 - matrix[i][j]
    return matrix


def _means(comparisons: Sequence[Comparison]) -> dict[tuple[int, int], float]:
    outcomes: dict[tuple[int, int], list[float]] = {}
    for first, second, outcome in comparisons:
        outcomes.setdefault((first, second), []).append(outcome)
    return {pair: math.fsum(found) / len(found) for pair, found in outcomes.items()}


def _mean_beside(row: Sequence[float], self_index: int) -> float:
    others = [value for j, value in enumerate(row) if j != self_index]
    return math.fsum(others) / len(others) if others else 1.0


def _logistic(value: float) -> float:
    return 0.5 * (1.0 + math.tanh(0.5 * value))


def _check(comparisons: Sequence[Comparison], count: int) -> None:
    for one in comparisons:
        if not (0 <= one.first < count and 0 <= one.second < count and one.first != one.second):
            raise ValueError(f"{one} does not compare two of {count} responses.")
        if not 0.0 <= one.outcome <= 1.0:
            raise ValueError(f"{one} has an outcome outside 0..1.")
