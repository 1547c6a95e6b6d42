"""A reusable holdout: many adaptive questions to one split without fitting it.

Thresholdout of Dwork et al. (2015, Science 349, and arXiv 1411.2664 for the theory): a value measured on the training
part is returned as it is while the holdout agrees with it; only where they differ is the holdout shown, with noise,
and each such time is paid from a budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple

import numpy as np

__all__ = ["Answer", "ReusableHoldout"]


class Answer(NamedTuple):
    """What the guard says of one architecture's value, and the guard after it."""

    value: float
    from_holdout: bool
    """Whether the two parts disagreed, so that some of the budget was spent."""
    guard: ReusableHoldout


@dataclass(frozen=True, slots=True, kw_only=True)
class ReusableHoldout:
    """Explicit state: asking returns the next one; equal guards asked the same give the same answer.

    Raises `ValueError` on construction for a threshold or a noise that is not above 0, and a negative budget.
    """

    budget: int
    """How many disagreements may be answered; after them only values of the training part are."""
    threshold: float = 0.04
    noise: float = 0.01
    """Scale of the Laplace noise; a quarter of the threshold is usual."""
    seed: int = 0
    asked: int = 0

    def __post_init__(self) -> None:
        if self.threshold <= 0 or self.noise <= 0 or self.budget < 0:
            raise ValueError(f"threshold and noise are above 0 and the budget is none below it ({self})")

    def ask(self, training: Sequence[float], holdout: Sequence[float]) -> Answer:
        """Return the value of an architecture whose scores on both parts are given; raises `ValueError` without any."""
        if not training or not holdout:
            raise ValueError("both parts need at least one score")
        # The threshold's own noise is drawn anew only when the holdout was shown, as in the paper.
        limit_noise = np.random.default_rng((self.seed, 0, self.budget)).laplace(0.0, 2 * self.noise)
        rng = np.random.default_rng((self.seed, 1, self.asked))
        seen, hidden = fmean(training), fmean(holdout)
        after = replace(self, asked=self.asked + 1)
        limit = self.threshold + limit_noise + rng.laplace(0.0, 4 * self.noise)
        if self.budget == 0 or abs(seen - hidden) <= limit:
            return Answer(seen, False, after)
        shown = float(hidden + rng.laplace(0.0, self.noise))
        return Answer(shown, True, replace(after, budget=self.budget - 1))
