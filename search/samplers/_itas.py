"""ITAS, Archon's search: models are ranked by role, then Bayesian optimisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from search.samplers._gp import FeaturesOf, GaussianProcess

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from search.domain import Domain
    from search.trials import StudyState

__all__ = ["Itas"]


class Itas(GaussianProcess):
    """Rank every model in each role on its own, draw random starts, then follow expected improvement.

    Archon (arXiv 2409.15254), section 3.3: models are ranked as generators and separately as fusers, since the two
    orders differ; its 230 random starts are 2.4 % of its 9,576 points, and `starts` is at most that share of the
    domain. The ranks enter as features of a point: the mean score of its models in each role, and the best.
    """

    name = "itas"

    def __init__(self, domain: Domain, starts: int = 230, candidates: int = 1500, per_cost: bool = False) -> None:
        super().__init__(domain, starts, candidates, per_cost)
        self.singles = tuple(dict.fromkeys(point for points in domain.singles.values() for point in points))
        self.random = max(1, min(starts, round(0.024 * len(domain))))
        self.starts = len(self.singles) + self.random

    def starting(self, state: StudyState) -> bool:
        """Tell whether there is too little to fit, or a model that was never asked on its own."""
        return super().starting(state) or not {*self.singles} <= {*state.points}

    def first(self, state: StudyState, n: int, unseen: NDArray[np.bool_], rng: np.random.Generator) -> Sequence[int]:
        """Take the models one by one, then random points."""
        ranking = [point for point in self.singles if unseen[point]][:n]
        others = unseen.copy()
        others[list(self.singles)] = False
        more = min(n - len(ranking), int(others.sum()))
        return ranking + [int(point) for point in rng.choice(np.flatnonzero(others), size=more, replace=False)]

    def features(self, state: StudyState) -> FeaturesOf:
        """Add the mean and the best score of a point's models in every role that was measured."""
        values = {trial.point: state.told[trial.id].values[0] for trial in state.trials if trial.id in state.told}
        columns: list[Callable[[NDArray[np.intp]], NDArray[np.float32]]] = []
        for role, points in self.domain.singles.items():
            if role in self.domain.members and all(point in values for point in points):
                scores = np.asarray([values[point] for point in points])
                columns.append(partial(_columns, self.domain.members[role], scores))
        return FeaturesOf(self.domain.features, columns)


def _columns(
    members: NDArray[np.float32], scores: NDArray[np.float64], points: NDArray[np.intp]
) -> NDArray[np.float32]:
    spread = (scores - scores.min()) / (float(scores.max() - scores.min()) or 1.0)
    of_these = members[points]
    shares = of_these.sum(axis=1)
    mean = of_these @ spread / np.where(shares > 0, shares, 1.0)
    best = np.where(of_these > 0, spread[None, :], 0.0).max(axis=1)
    return np.stack([mean, best], axis=1).astype(np.float32)
