"""A race over any sampler: trials grow through rungs of items, and only the promising and the unbeaten grow on.

Promotion is that of ASHA (Li et al., arXiv 1810.05934): a trial goes on to the next rung when it is in the top 1/eta of
those that finished its rung, so nothing waits for a rung to fill, and the jobs of a batch run side by side. Dropping is
by paired tests (`search.dropping`) in the manner of F-Race (Birattari et al. 2002): what is dropped is worse with a
stated error, what merely waits may still grow later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from db.errors import UserError
from search.dropping import beaten, level_of_one_test
from search.trials import Observation, StudyState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from search.sampler import Sampler

__all__ = ["Job", "Jobs", "Race", "RaceState", "rungs_for"]


class Job(NamedTuple):
    """Some items of one trial that are to be scored next."""

    trial: int
    point: int
    rung: int
    first: int
    """Place of its first item in the study's order of items."""
    last: int
    """Place after its last item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceState:
    """The whole memory of a race."""

    study: StudyState
    """Its trials; what was told of them is in `scores`."""
    rungs: tuple[int, ...]
    asked: Mapping[int, int] = field(default_factory=dict)
    """The highest rung that was asked of each trial."""
    scores: Mapping[tuple[int, int], tuple[float, ...]] = field(default_factory=dict)
    """Scores by trial and rung, of the items that this rung added."""

    @property
    def items(self) -> int:
        """How many items were scored in all trials together."""
        return sum(map(len, self.scores.values()))


class Jobs(NamedTuple):
    """The state after an ask, and what is to be scored."""

    state: RaceState
    jobs: tuple[Job, ...]


class _Rung(NamedTuple):
    trials: tuple[int, ...]
    """Those that finished this rung, by id."""
    scores: NDArray[np.float64]
    means: NDArray[np.float64]


def rungs_for(items: int, *, first: int = 32, eta: int = 3) -> tuple[int, ...]:
    """Return rungs that grow by about `eta` from about `first` items up to all of them.

    Raises `ValueError` without items and for an `eta` below 2.
    """
    if items < 1 or first < 1 or eta < 2:
        raise ValueError(f"rungs need items and a growth of at least 2 (items={items}, first={first}, eta={eta})")
    sizes = [items]
    while sizes[0] // eta >= first:
        sizes.insert(0, sizes[0] // eta)
    return tuple(sizes)


class Race:
    """Rungs, promotion and dropping around a sampler; ask and tell like a sampler, but for pieces of trials."""

    def __init__(
        self, sampler: Sampler, rungs: Sequence[int], *, eta: float = 3.0, alpha: float = 0.05, span: float = 1.0
    ) -> None:
        if not rungs or any(a >= b for a, b in zip((0, *rungs), rungs, strict=False)) or eta <= 1:
            raise UserError(f"Rungs are growing numbers of items and eta is above 1, not {list(rungs)} and {eta}.")
        self.sampler = sampler
        self.rungs = tuple(rungs)
        self.eta = eta
        self.span = span
        self.level = level_of_one_test(alpha, len(sampler.domain), len(rungs))

    def start(self, seed: int) -> RaceState:
        """Return the state of a new race."""
        return RaceState(study=self.sampler.start(seed), rungs=self.rungs)

    def ask_batch(self, state: RaceState, n: int, *, costs: NDArray[np.float64] | None = None) -> Jobs:
        """Ask for up to n jobs to run at once: promotions first, then new trials.

        Fewer come where all that is left waits for jobs under way; none, with nothing under way, at the end.
        """
        table = self._table(state)
        out = self._out(table)
        jobs: list[Job] = []
        while len(jobs) < n and (job := self._promotion(state, table, out)):
            jobs.append(job)
            state = replace(state, asked={**state.asked, job.trial: job.rung})
        if len(jobs) < n:
            known = replace(state.study, told=self._told(state, table))
            study, trials = self.sampler.ask_batch(known, n - len(jobs), costs=costs)
            jobs += [Job(trial.id, trial.point, 0, 0, self.rungs[0]) for trial in trials]
            asked = {**state.asked, **{trial.id: 0 for trial in trials}}
            state = replace(state, study=replace(study, told={}), asked=asked)
        while len(jobs) < n and len(state.study.trials) == len(self.sampler.domain):
            job = self._promotion(state, table, out, everyone=True)
            if job is None:
                break
            jobs.append(job)
            state = replace(state, asked={**state.asked, job.trial: job.rung})
        return Jobs(state, tuple(jobs))

    def tell(self, state: RaceState, job: Job, scores: Sequence[float]) -> RaceState:
        """Add the scores of a job, in the order of its items; may be told twice, and jobs in any order.

        Raises `ValueError` for a job that was not asked, and for scores that are of another number, not finite, or
        other than those told before.
        """
        if state.asked.get(job.trial, -1) < job.rung:
            raise ValueError(f"rung {job.rung} of trial {job.trial} was never asked")
        new, key = tuple(map(float, scores)), (job.trial, job.rung)
        if len(new) != job.last - job.first or not np.isfinite(new).all():
            raise ValueError(f"the job has {job.last - job.first} items, each with a finite score ({len(new)} given)")
        if state.scores.get(key, new) != new:
            raise ValueError(f"rung {job.rung} of trial {job.trial} was told with other scores before")
        return replace(state, scores=dict(sorted({**state.scores, key: new}.items())))

    def pending(self, state: RaceState) -> tuple[Job, ...]:
        """Return the jobs that were asked and not told: what a resumed study has to run again."""
        waiting = [(trial, rung) for trial, rung in state.asked.items() if (trial, rung) not in state.scores]
        return tuple(self._job(state, trial, rung) for trial, rung in sorted(waiting))

    def dropped(self, state: RaceState) -> frozenset[int]:
        """Return the trials that are out; the best point of the domain is among them with a chance of at most alpha."""
        return self._out(self._table(state))

    def leader(self, state: RaceState) -> int | None:
        """Return the trial that would win now: the best of the highest rung that was reached; None before any."""
        return next(iter(self.standing(state)), None)

    def standing(self, state: RaceState) -> tuple[int, ...]:
        """Return the trials that are not out, best first: by rung, then by mean."""
        table = self._table(state)
        out, places = self._out(table), dict[int, tuple[int, float, int]]()
        for level, rung in enumerate(table):
            for trial, mean in zip(rung.trials, rung.means, strict=True):
                places[trial] = (level, float(mean), -trial)
        return tuple(sorted((t for t in places if t not in out), key=places.__getitem__, reverse=True))

    def observations(self, state: RaceState) -> Mapping[int, Observation]:
        """Return what the sampler is told: means as they would stand on all items, with their variances."""
        return self._told(state, self._table(state))

    def _job(self, state: RaceState, trial: int, rung: int) -> Job:
        first = self.rungs[rung - 1] if rung else 0
        return Job(trial, state.study.trials[trial].point, rung, first, self.rungs[rung])

    def _table(self, state: RaceState) -> list[_Rung]:
        table: list[_Rung] = []
        grown: dict[int, NDArray[np.float64]] = {}
        for rung, size in enumerate(self.rungs):
            blocks = {trial: block for (trial, level), block in state.scores.items() if level == rung}
            grown = {
                trial: np.concatenate([grown[trial], block]) if rung else np.asarray(block)
                for trial, block in blocks.items()
                if not rung or trial in grown
            }
            scores = np.stack(list(grown.values())) if grown else np.zeros((0, size))
            table.append(_Rung(tuple(grown), scores, scores.mean(axis=1)))
        return table

    def _out(self, table: Sequence[_Rung]) -> frozenset[int]:
        found: set[int] = set()
        for rung in table:
            lost = beaten(rung.scores, self.level, span=self.span)
            found.update(trial for trial, out in zip(rung.trials, lost, strict=True) if out)
        return frozenset(found)

    def _promotion(
        self, state: RaceState, table: Sequence[_Rung], out: frozenset[int], *, everyone: bool = False
    ) -> Job | None:
        for level in reversed(range(len(self.rungs) - 1)):
            rung = table[level]
            quota = len(rung.trials) if everyone else int(len(rung.trials) / self.eta)
            best = np.argsort(-rung.means, kind="stable")[:quota]
            for trial in (rung.trials[place] for place in best):
                if trial not in out and state.asked[trial] == level:
                    return self._job(state, trial, level + 1)
        return None

    def _told(self, state: RaceState, table: Sequence[_Rung]) -> Mapping[int, Observation]:
        """Common items serve as a control: a rung's means are moved by what its survivors gained on the later items."""
        told: dict[int, Observation] = {}
        offset = 0.0
        for level in reversed(range(len(table))):
            rung = table[level]
            if level + 1 < len(table) and table[level + 1].trials:
                later = table[level + 1]
                before = dict(zip(rung.trials, rung.means, strict=True))
                offset += float(np.mean([m - before[t] for t, m in zip(later.trials, later.means, strict=True)]))
            for trial, mean, variance in zip(rung.trials, rung.means, _variances(rung.scores), strict=True):
                told.setdefault(trial, Observation((float(mean) + offset,), self.rungs[level], float(variance)))
        return dict(sorted(told.items()))


def _variances(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared standard errors of the rows' means with what all rows share on an item taken out."""
    trials, items = scores.shape
    if not trials:
        return np.zeros(0)
    shared = scores.mean(axis=0) if trials > 1 else np.zeros(items)
    own = (scores - shared).var(axis=1) * (trials / (trials - 1) if trials > 1 else 1.0)
    return np.asarray(own / items)
