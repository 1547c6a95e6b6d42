"""Every point, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from search.sampler import Sampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from search.trials import StudyState

__all__ = ["Exhaustive"]


class Exhaustive(Sampler):
    """All points from the cheapest to the dearest, for spaces of a few hundred."""

    name = "exhaustive"

    def propose(
        self,
        state: StudyState,
        n: int,
        unseen: NDArray[np.bool_],
        rng: np.random.Generator,
        costs: NDArray[np.float64],
    ) -> Sequence[int]:
        """Take the next n points."""
        left = np.flatnonzero(unseen)
        return [int(point) for point in left[np.argsort(costs[left], kind="stable")[:n]]]
