"""The finite set of points that a sampler chooses from: levels on axes, features, and what a point costs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["INACTIVE", "Domain"]

INACTIVE = -1
"""The level of an axis that a point does not have, such as the temperature of a single sample."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Domain:
    """All points that may be proposed; what is invalid or above a cap is not among them.

    Raises `ValueError` on construction where there is no point, and where the parts do not fit together.
    """

    axes: tuple[str, ...]
    levels: NDArray[np.int16]
    """Level of every point on every axis, points × axes; `INACTIVE` where the point does not have the axis."""
    features: NDArray[np.float32]
    """What a surrogate sees of a point, points × features, each from 0 to 1."""
    costs: NDArray[np.float64]
    """Planned cost of one item, in whatever unit the study counts; above 0."""
    keys: Sequence[str]
    """What a point is, without repetition: the id of its architecture."""
    singles: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """For each role the points that measure one model of it, in the order of its models."""
    members: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """For each role the share that each of its models has in each point, points × models."""

    def __post_init__(self) -> None:
        n = len(self.keys)
        if n == 0:
            raise ValueError("a domain needs at least one point")
        shapes = (self.levels.shape, self.features.shape[:1], self.costs.shape)
        if shapes != ((n, len(self.axes)), (n,), (n,)):
            raise ValueError(f"levels, features and costs have a row for each of the {n} points ({shapes})")
        if not (np.isfinite(self.costs).all() and (self.costs > 0).all()):
            raise ValueError("every cost is finite and above 0")
        if len(self._places) != n or len(set(self.keys)) != n:
            raise ValueError("two points have the same levels or the same key")

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def _places(self) -> dict[bytes, int]:
        return {row.tobytes(): place for place, row in enumerate(self.levels)}

    @cached_property
    def _around(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """What `alternatives` found: samplers that keep no memory ask for the same ones at every step."""
        return {}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the axes and the points, in hex: a study is resumed on the domain that it began on."""
        found = hashlib.sha256("\x1f".join(self.axes).encode())
        for key in self.keys:
            found.update(b"\x1e" + key.encode())
        return found.hexdigest()

    @cached_property
    def level_counts(self) -> tuple[int, ...]:
        """How many levels each axis has."""
        return tuple(int(column.max()) + 1 for column in self.levels.T)

    def place(self, levels: Sequence[int] | NDArray[np.int16]) -> int | None:
        """Return the point with these levels; None where there is none."""
        return self._places.get(np.asarray(levels, dtype=np.int16).tobytes())

    def alternatives(self, point: int, axis: int) -> tuple[int, ...]:
        """Return the points that differ from this one on one axis alone."""
        found = self._around.get((point, axis))
        if found is None:
            row = self.levels[point].copy()
            places = list[int | None]()
            for level in range(INACTIVE, self.level_counts[axis]):
                row[axis] = level
                places.append(self.place(row))
            found = tuple(place for place in places if place is not None and place != point)
            self._around[point, axis] = found
        return found

    def near(self, point: int, rng: np.random.Generator, pairs: int) -> set[int]:
        """Return the points that differ on one axis, and those that random changes of two axes lead to."""
        axes = len(self.axes)
        found = {other for axis in range(axes) for other in self.alternatives(point, axis)}
        changed = np.repeat(self.levels[point][None, :], pairs, axis=0)
        for _ in range(2):
            axis = rng.integers(axes, size=pairs)
            changed[np.arange(pairs), axis] = rng.integers(INACTIVE, np.asarray(self.level_counts)[axis])
        places = (self._places.get(row.tobytes()) for row in changed)
        return {*found, *(place for place in places if place is not None)} - {point}

    def nearest(self, levels: NDArray[np.int16], allowed: NDArray[np.bool_]) -> int | None:
        """Return the allowed point that differs on the fewest axes, the first of equals; None where none is allowed."""
        exact = self.place(levels)
        if exact is not None and allowed[exact]:
            return exact
        if not allowed.any():
            return None
        distance = (self.levels != levels).sum(axis=1)
        return int(np.where(allowed, distance, len(self.axes) + 1).argmin())
