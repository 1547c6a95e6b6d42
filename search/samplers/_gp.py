"""A Gaussian process and expected improvement over the points of the domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from search.gaussian import believed, expected_improvement, fit
from search.pareto import scalarised
from search.sampler import Sampler, check_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from search.domain import Domain
    from search.trials import StudyState

__all__ = ["GaussianProcess"]

_CLIMBED = 6
"""Best trials whose neighbours are candidates in a domain that is too large to be looked at as a whole."""
_MOST_FITTED = 200
"""Trials that the process is fitted on: the best and the latest; a fit costs their cube."""


class GaussianProcess(Sampler):
    """Bayesian optimisation: the point with the greatest expected improvement, on request per unit of cost.

    A batch is chosen by "kriging believer" (Ginsbourger et al. 2010): what was just chosen counts as measured at its
    predicted value. In a large domain the candidates are a random share and the neighbours of the best points.
    With several objectives each ask weighs them anew (ParEGO).
    """

    name = "gp"

    def __init__(self, domain: Domain, starts: int = 10, candidates: int = 1500, per_cost: bool = False) -> None:
        super().__init__(domain)
        check_counts(starts=starts, candidates=candidates)
        self.starts = starts
        self.candidates = candidates
        self.per_cost = per_cost

    def propose(
        self,
        state: StudyState,
        n: int,
        unseen: NDArray[np.bool_],
        rng: np.random.Generator,
        costs: NDArray[np.float64],
    ) -> Sequence[int]:
        """Choose n points; at random until enough were told."""
        if self.starting(state):
            return self.first(state, n, unseen, rng)
        points, values, noise = self._known(state, rng)
        features = self.features(state)
        pool = self._pool(points, values, unseen, rng)
        process = fit(features(np.asarray(points)), values, noise)
        known, _ = process.predict(process.x)
        waiting = [trial.point for trial in state.trials if trial.id not in state.told]
        if waiting:
            process = believed(process, features(np.asarray(waiting)))
        seen_by = features(pool)
        chosen: list[int] = []
        for _ in range(min(n, len(pool))):
            gain = expected_improvement(*process.predict(seen_by), float(known.max()))
            gain = gain / costs[pool] if self.per_cost else gain
            gain[np.isin(pool, chosen)] = -np.inf
            best = int(gain.argmax())
            chosen.append(int(pool[best]))
            process = believed(process, seen_by[best : best + 1])
        return chosen

    def starting(self, state: StudyState) -> bool:
        """Tell whether there is too little to fit."""
        return len(state.told) < self.starts

    def first(self, state: StudyState, n: int, unseen: NDArray[np.bool_], rng: np.random.Generator) -> Sequence[int]:
        """Choose the points before there is anything to fit."""
        return [int(point) for point in rng.choice(np.flatnonzero(unseen), size=n, replace=False)]

    def features(self, state: StudyState) -> FeaturesOf:
        """Return what the process sees of points."""
        return FeaturesOf(self.domain.features)

    def _known(
        self, state: StudyState, rng: np.random.Generator
    ) -> tuple[list[int], NDArray[np.float64], NDArray[np.float64]]:
        known = [trial for trial in state.trials if trial.id in state.told]
        values = scalarised([state.told[trial.id].values for trial in known], rng)
        noise = np.asarray([state.told[trial.id].variance for trial in known], dtype=float)
        if len(known) > _MOST_FITTED:
            half = _MOST_FITTED // 2
            kept = np.union1d(np.argsort(-values, kind="stable")[:half], np.arange(len(known) - half, len(known)))
            known, values, noise = [known[i] for i in kept], values[kept], noise[kept]
        return [trial.point for trial in known], values, noise

    def _pool(
        self, points: list[int], values: NDArray[np.float64], unseen: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.intp]:
        left = np.flatnonzero(unseen)
        if len(left) <= self.candidates:
            return left
        pool = {*map(int, rng.choice(left, size=max(1, self.candidates // 2), replace=False, shuffle=False))}
        for place in np.argsort(-values, kind="stable")[:_CLIMBED]:
            pool |= self.domain.near(points[place], rng, self.candidates // 4)
        return np.asarray(sorted(point for point in pool if unseen[point]), dtype=np.intp)


class FeaturesOf:
    """The features of points, with columns added that a sampler learned and that are made for the points asked."""

    def __init__(
        self,
        base: NDArray[np.float32],
        more: Sequence[Callable[[NDArray[np.intp]], NDArray[np.float32]]] = (),
    ) -> None:
        self._base, self._more = base, more

    def __call__(self, points: NDArray[np.intp]) -> NDArray[np.float64]:
        found = self._base[points].astype(float)
        return np.hstack([found, *(columns(points).astype(float) for columns in self._more)])
