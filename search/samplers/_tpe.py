"""The tree-structured Parzen estimator, as Optuna has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from search.domain import INACTIVE
from search.pareto import scalarised
from search.sampler import Sampler

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from optuna import Study
    from optuna.distributions import BaseDistribution

    from search.domain import Domain
    from search.trials import StudyState

__all__ = ["Tpe"]


class Tpe(Sampler):
    """Optuna's multivariate TPE (Bergstra et al. 2011; Falkner et al., arXiv 1807.01774) over the axes' levels.

    What it draws is brought to the nearest point of the domain that was not asked yet, so that no cap is passed.
    Trials that are under way count as bad ones ("constant liar"), which keeps a batch apart.
    """

    name = "tpe"

    def __init__(self, domain: Domain, starts: int = 10) -> None:
        super().__init__(domain)
        self.starts = starts

    def propose(
        self,
        state: StudyState,
        n: int,
        unseen: NDArray[np.bool_],
        rng: np.random.Generator,
        costs: NDArray[np.float64],
    ) -> Sequence[int]:
        """Ask Optuna n times on a study made of the state."""
        allowed = unseen.copy()
        known = [trial for trial in state.trials if trial.id in state.told]
        if len(known) < self.starts:
            return [int(point) for point in rng.choice(np.flatnonzero(allowed), size=n, replace=False)]
        values = scalarised([state.told[trial.id].values for trial in known], rng)
        scored = dict(zip((trial.point for trial in known), values, strict=True))
        study = self._study(scored, int(rng.integers(2**31)))
        for trial in state.trials:
            if trial.id not in state.told:
                self._add(study, trial.point, float(values.min()))
        chosen: list[int] = []
        for _ in range(n):
            drawn = study.ask(self._distributions())
            levels = [int(drawn.params[axis]) for axis in self.domain.axes]
            point = self.domain.nearest(np.asarray(levels, dtype=np.int16), allowed)
            if point is None:
                break
            allowed[point] = False
            chosen.append(point)
            self._add(study, point, float(values.min()))
        return chosen

    def _study(self, scored: dict[int, float], seed: int) -> Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(n_startup_trials=0, multivariate=True, seed=seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for point, value in scored.items():
            self._add(study, point, float(value))
        return study

    def _add(self, study: Study, point: int, value: float) -> None:
        from optuna.trial import create_trial

        params = {axis: int(level) for axis, level in zip(self.domain.axes, self.domain.levels[point], strict=True)}
        study.add_trial(create_trial(params=params, distributions=self._distributions(), value=value))

    def _distributions(self) -> dict[str, BaseDistribution]:
        from optuna.distributions import CategoricalDistribution

        counts = zip(self.domain.axes, self.domain.level_counts, strict=True)
        return {axis: CategoricalDistribution(tuple(range(INACTIVE, count))) for axis, count in counts}
