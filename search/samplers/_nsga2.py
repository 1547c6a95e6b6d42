"""NSGA-II: an evolution of the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from search.pareto import ranked
from search.sampler import Sampler, check_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from search.domain import Domain
    from search.trials import StudyState

__all__ = ["Nsga2"]


class Nsga2(Sampler):
    """Children of the best by front and crowding (Deb et al. 2002), brought to the nearest point that is allowed.

    A steady state: every ask breeds from the best of all trials that were told, so it never waits for a generation.
    """

    name = "nsga2"

    def __init__(self, domain: Domain, population: int = 24, mutation: float = 0.1) -> None:
        super().__init__(domain)
        check_counts(population=population)
        self.population = population
        self.mutation = mutation

    def propose(
        self,
        state: StudyState,
        n: int,
        unseen: NDArray[np.bool_],
        rng: np.random.Generator,
        costs: NDArray[np.float64],
    ) -> Sequence[int]:
        """Breed n children; random points until there is a population."""
        if len(state.told) < self.population:
            return [int(point) for point in rng.choice(np.flatnonzero(unseen), size=n, replace=False)]
        parents = self._ranked(state)
        allowed, chosen = unseen.copy(), list[int]()
        for _ in range(n):
            # Of two drawn at random the better one: the list is sorted, so the smaller place wins.
            places = rng.integers(len(parents), size=(2, 2)).min(axis=1)
            child = self._child(self.domain.levels[parents[places[0]]], self.domain.levels[parents[places[1]]], rng)
            point = self.domain.nearest(child, allowed)
            if point is not None:
                allowed[point] = False
                chosen.append(point)
        return chosen

    def _ranked(self, state: StudyState) -> list[int]:
        """The best points that were told, as many as the population, best first."""
        known = [trial.point for trial in state.trials if trial.id in state.told]
        values = [state.told[trial.id].values for trial in state.trials if trial.id in state.told]
        return [known[place] for place in ranked(values)[: self.population]]

    def _child(
        self, first: NDArray[np.int16], second: NDArray[np.int16], rng: np.random.Generator
    ) -> NDArray[np.int16]:
        from_first = rng.random(len(first)) < 0.5
        child = np.where(from_first, first, second)
        for axis in np.flatnonzero(rng.random(len(child)) < max(self.mutation, 1 / len(child))):
            # Caps may have left no point that has the axis.
            child[axis] = rng.integers(max(1, self.domain.level_counts[axis]))
        return child.astype(np.int16)
