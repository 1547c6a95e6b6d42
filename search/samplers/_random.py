"""Random search without repetition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from search.sampler import Sampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from search.trials import StudyState

__all__ = ["Random"]


class Random(Sampler):
    """Every point that was not asked yet is as likely as every other (Bergstra and Bengio 2012, JMLR 13)."""

    name = "random"

    def propose(
        self,
        state: StudyState,
        n: int,
        unseen: NDArray[np.bool_],
        rng: np.random.Generator,
        costs: NDArray[np.float64],
    ) -> Sequence[int]:
        """Draw n points."""
        return [int(point) for point in rng.choice(np.flatnonzero(unseen), size=n, replace=False)]
