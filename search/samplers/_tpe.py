"""The tree-structured Parzen estimator, as Optuna has it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from search.domain import INACTIVE
from search.pareto import scalarised
from search.sampler import Sampler, check_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray
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
        check_counts(starts=starts)
        self.starts = starts

    def propose(
        self,
        state: StudyState,
        n: int,
        unseen: NDArray[np.bool_],
        rng: np.random.Generator,
        costs: NDArray[np.float64],
    ) -> Sequence[int]:
        """Let Optuna draw n times from what the state knows."""
        allowed = unseen.copy()
        known = [trial for trial in state.trials if trial.id in state.told]
        if len(known) < self.starts:
            return [int(point) for point in rng.choice(np.flatnonzero(allowed), size=n, replace=False)]
        values = scalarised([state.told[trial.id].values for trial in known], rng)
        scored = list(zip((trial.point for trial in known), values.tolist(), strict=True))
        worst = float(values.min())
        scored += [(trial.point, worst) for trial in state.trials if trial.id not in state.told]
        draw = self._drawing(int(rng.integers(2**31)))
        chosen: list[int] = []
        for _ in range(n):
            point = self.domain.nearest(draw(scored), allowed)
            if point is None:
                break
            allowed[point] = False
            chosen.append(point)
            scored.append((point, worst))
        return chosen

    def _drawing(self, seed: int) -> Callable[[list[tuple[int, float]]], NDArray[np.int16]]:
        """Return what draws levels from points and their values.

        Optuna's study would copy every trial it is given, so the trials are put beneath it, and its sampler is asked.
        """
        import optuna
        from optuna.distributions import CategoricalDistribution
        from optuna.trial import create_trial

        from search.samplers._recorded import Recorded, completed

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(n_startup_trials=0, multivariate=True, constant_liar=False, seed=seed)
        counts = zip(self.domain.axes, self.domain.level_counts, strict=True)
        space: dict[str, BaseDistribution] = {
            axis: CategoricalDistribution(tuple(range(INACTIVE, count))) for axis, count in sorted(counts) if count
        }
        running = create_trial(state=optuna.trial.TrialState.RUNNING)

        def draw(scored: list[tuple[int, float]]) -> NDArray[np.int16]:
            rows = (dict(zip(self.domain.axes, self.domain.levels[point].tolist(), strict=True)) for point, _ in scored)
            values = (value for _, value in scored)
            storage = Recorded([completed(*trial, space) for trial in zip(itertools.count(), rows, values)])
            study = optuna.create_study(direction="maximize", storage=storage)
            drawn = sampler.sample_relative(study, running, space)
            return np.asarray([drawn.get(axis, INACTIVE) for axis in self.domain.axes], dtype=np.int16)

        return draw
