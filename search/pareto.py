"""Several objectives at once: dominance, fronts, crowding, hypervolume. More is better in every one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["crowding", "dominates", "fronts", "hypervolume", "pareto_front", "ranked", "scalarised"]


def dominates(first: Sequence[float], second: Sequence[float]) -> bool:
    """Tell whether the first is nowhere worse than the second, and somewhere better."""
    pairs = list(zip(first, second, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def pareto_front(values: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """Return the places of the values that none dominates, in their order; equal ones are all kept."""
    return fronts(values)[0] if values else ()


def fronts(values: Sequence[Sequence[float]] | NDArray[np.float64]) -> tuple[tuple[int, ...], ...]:
    """Sort into fronts: the first is dominated by none, the next by those of the first alone, and so on.

    Deb et al. (2002, IEEE Transactions on Evolutionary Computation 6), section III A.
    """
    data = np.asarray(values, dtype=float)
    if not len(data):
        return ()
    no_worse = (data[:, None, :] >= data[None, :, :]).all(axis=2)
    better = np.asarray(no_worse & (data[:, None, :] > data[None, :, :]).any(axis=2))
    left, found = np.ones(len(data), dtype=np.bool_), []
    while left.any():
        beaten = np.asarray(better[left].any(axis=0))
        front = np.flatnonzero(left & ~beaten)
        found.append(tuple(int(place) for place in front))
        left[front] = False
    return tuple(found)


def crowding(values: Sequence[Sequence[float]] | NDArray[np.float64]) -> tuple[float, ...]:
    """Return how far each value's neighbours on its front are apart; infinite at the ends (Deb et al., III B)."""
    data = np.asarray(values, dtype=float)
    distance = np.zeros(len(data))
    for column in data.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return tuple(float(one) for one in distance)


def ranked(values: Sequence[Sequence[float]] | NDArray[np.float64]) -> tuple[int, ...]:
    """Return the places of the values, best first: front by front, on each the most lonely first (Deb et al., III).

    Equals stay in their order, and one objective is simply sorted.
    """
    data = np.asarray(values, dtype=float)
    if data.ndim == 2 and data.shape[1] == 1:
        return tuple(np.argsort(-data[:, 0], kind="stable").tolist())
    found: list[int] = []
    for front in fronts(data):
        apart = crowding(data[list(front)])
        found += [place for _, place in sorted(zip(apart, front, strict=True), key=lambda pair: -pair[0])]
    return tuple(found)


def hypervolume(values: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Return the volume between a reference point and what the values dominate; recursive over the objectives.

    Values that do not exceed the reference in every objective add nothing.
    """
    kept = [tuple(v) for v in values if all(a > b for a, b in zip(v, reference, strict=True))]
    if not kept:
        return 0.0
    if len(reference) == 1:
        return max(v[0] for v in kept) - reference[0]
    total, floor = 0.0, reference[-1]
    for height in sorted({v[-1] for v in kept}):
        slab = [v[:-1] for v in kept if v[-1] >= height]
        total += (height - floor) * hypervolume(slab, reference[:-1])
        floor = height
    return total


def scalarised(values: Sequence[Sequence[float]], rng: np.random.Generator) -> NDArray[np.float64]:
    """Turn objectives into one number by random weights: ParEGO (Knowles 2006), the augmented Tchebycheff function.

    One objective stays as it is.
    """
    data = np.asarray(values, dtype=float)
    if data.shape[1] == 1:
        return data[:, 0]
    low, high = data.min(axis=0), data.max(axis=0)
    loss = (high - data) / np.where(high > low, high - low, 1.0)
    weights = rng.dirichlet(np.ones(data.shape[1]))
    weighted = loss * weights
    one: NDArray[np.float64] = -(weighted.max(axis=1) + 0.05 * weighted.sum(axis=1))
    return one
