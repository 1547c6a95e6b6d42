"""Greedy search: one axis at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from search.sampler import Sampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from search.trials import StudyState

__all__ = ["Greedy"]


class Greedy(Sampler):
    """From a random start the best level of each axis in turn; from a new start where no axis brings more.

    Archon (arXiv 2409.15254), section 3.3, compares its search with this one.
    """

    name = "greedy"

    def propose(
        self,
        state: StudyState,
        n: int,
        unseen: NDArray[np.bool_],
        rng: np.random.Generator,
        costs: NDArray[np.float64],
    ) -> Sequence[int]:
        """Ask for the alternatives on the axis that is due; none where they are all under way."""
        values = {trial.point: state.told[trial.id].values[0] for trial in state.trials if trial.id in state.told}
        starts = _starts(len(self.domain), state.seed)
        visited: set[int] = set()
        while True:
            start = next(point for point in map(int, starts) if point not in visited)
            due = self._climb(start, values, visited)
            if due:
                return [point for point in due if unseen[point]][:n]

    def _climb(self, start: int, values: dict[int, float], visited: set[int]) -> list[int]:
        """Walk as far as values are known; return the points that lack one, or nothing on a summit."""
        visited.add(start)
        if start not in values:
            return [start]
        current, idle, axis = start, 0, 0
        while idle < len(self.domain.axes):
            around = self.domain.alternatives(current, axis)
            unknown = [point for point in around if point not in values]
            if unknown:
                return unknown
            visited.update(around)
            best = max([current, *around], key=values.__getitem__)
            idle = idle + 1 if best == current else 1
            current, axis = best, (axis + 1) % len(self.domain.axes)
        return []


@lru_cache(maxsize=4)
def _starts(points: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, 1)).permutation(points)
