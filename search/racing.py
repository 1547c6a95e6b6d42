"""A race over any sampler: trials grow through rungs of items, and only the promising and the unbeaten grow on.

Promotion is that of ASHA (Li et al., arXiv 1810.05934): a trial goes on to the next rung when it is in the top 1/eta of
those that finished its rung, so nothing waits for a rung to fill, and the jobs of a batch run side by side. Dropping is
by paired tests (`search.dropping`) in the manner of F-Race (Birattari et al. 2002): what is dropped is worse with a
stated error, what merely waits may still grow later.

With several objectives a rung is ordered by non-dominated sorting and crowding, as in the multi-objective ASHA of
Schmucker et al. (arXiv 2106.12639), and nothing is dropped: a trial would have to be beaten in every objective at once,
seconds have no bound from which a test could be made, and the planned bounds of dollars and calls are far too wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from db.errors import UserError
from search.dropping import beaten, level_of_one_test
from search.objective import NO_RUNGS
from search.rungs import Blocks, Rung, rung_table, same
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
    scores: Blocks = field(default_factory=dict)
    """Every item's score."""
    values: Blocks = field(default_factory=dict)
    """Every objective's value on the same items; absent where the mean of the scores is all."""

    @property
    def items(self) -> int:
        """How many items were scored in all trials together."""
        return sum(map(len, self.scores.values()))


class Jobs(NamedTuple):
    """The state after an ask, and what is to be scored."""

    state: RaceState
    jobs: tuple[Job, ...]


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
        self,
        sampler: Sampler,
        rungs: Sequence[int],
        *,
        eta: float = 3.0,
        alpha: float = 0.05,
        span: float | None = 1.0,
        points: int | None = None,
    ) -> None:
        """Race over a sampler.

        `span` is the difference between the greatest and the least score that an item can have; without one no test
        can be made, and nothing is dropped. `points` stands in for the size of its domain where that holds only a part
        of the points: the error is bounded over all. Raises `UserError` for rungs that do not grow, and an `eta` of 1
        or below.
        """
        if not rungs or any(a >= b for a, b in zip((0, *rungs), rungs, strict=False)) or eta <= 1:
            raise UserError(f"Rungs are growing numbers of items and eta is above 1, not {list(rungs)} and {eta}.")
        self.sampler = sampler
        self.rungs = tuple(rungs)
        self.eta = eta
        self.span = span
        self.level = level_of_one_test(alpha, points or len(sampler.domain), len(rungs))

    def start(self, seed: int) -> RaceState:
        """Return the state of a new race."""
        return RaceState(study=self.sampler.start(seed), rungs=self.rungs)

    def ask_batch(
        self,
        state: RaceState,
        n: int,
        *,
        costs: NDArray[np.float64] | None = None,
        first: Sequence[int] = (),
        new: int | None = None,
    ) -> Jobs:
        """Ask for up to n jobs to run at once: promotions first, then new trials, at most `new` of them where given.

        Fewer come where all that is left waits for jobs under way; none, with nothing under way, at the end. For
        `costs` and `first` see `Sampler.ask_batch`.
        """
        table = self._table(state)
        out = self._out(table)
        jobs: list[Job] = []
        while len(jobs) < n and (job := self._promotion(state, table, out)):
            jobs.append(job)
            state = replace(state, asked={**state.asked, job.trial: job.rung})
        wanted = n - len(jobs) if new is None else min(n - len(jobs), new)
        if wanted > 0:
            known = replace(state.study, told=self._told(state, table))
            study, trials = self.sampler.ask_batch(known, wanted, costs=costs, first=first)
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

    def ask_finals(self, state: RaceState, finalists: int, n: int) -> Jobs:
        """Ask for up to n jobs that bring the first of the standing, as many as `finalists`, a rung further.

        None of a trial that is under way; ask again after its scores, until no job comes with nothing under way.
        """
        table, jobs = self._table(state), list[Job]()
        finished = {trial: level for level, rung in enumerate(table) for trial in rung.trials}
        for trial in self.standing(state)[:finalists]:
            level = finished[trial]
            if len(jobs) < n and level + 1 < len(self.rungs) and state.asked[trial] == level:
                jobs.append(self._job(state, trial, level + 1))
        return Jobs(replace(state, asked={**state.asked, **{job.trial: job.rung for job in jobs}}), tuple(jobs))

    def tell(
        self, state: RaceState, job: Job, scores: Sequence[float], values: Sequence[float] | None = None
    ) -> RaceState:
        """Add the scores of a job, in the order of its items; may be told twice, and jobs in any order.

        `values` are the job's for every objective, of which the scores are the first, item by item. In a race of one
        rung a single value may also be something else than the mean of the scores, and then counts in its place.
        Raises `ValueError` for a job that was not asked, and for scores or values that are of another number, not
        finite, or other than those told before; `UserError` for such a value in a race of several rungs.
        """
        key, new = (job.trial, job.rung), tuple(map(float, scores))
        told = None if values is None else tuple(map(float, values))
        self._check(state, job, new, told)
        if key in state.scores and (state.scores[key], state.values.get(key)) != (new, told):
            raise ValueError(f"rung {job.rung} of trial {job.trial} was told with other scores before")
        both = state.values if told is None else {**state.values, key: told}
        return replace(
            state, scores=dict(sorted({**state.scores, key: new}.items())), values=dict(sorted(both.items()))
        )

    def pending(self, state: RaceState) -> tuple[Job, ...]:
        """Return the jobs that were asked and not told: what a resumed study has to run again."""
        waiting = [(trial, rung) for trial, rung in state.asked.items() if (trial, rung) not in state.scores]
        return tuple(self._job(state, trial, rung) for trial, rung in sorted(waiting))

    def dropped(self, state: RaceState) -> frozenset[int]:
        """Return the trials that are out; the best point of the domain is among them with a chance of at most alpha.

        None is out where there are several objectives, one that is no mean of scores, or one without a span.
        """
        return self._out(self._table(state))

    def leader(self, state: RaceState) -> int | None:
        """Return the trial that would win now: the best of the highest rung that was reached; None before any.

        With several objectives it is the best by the first of them on the front of that rung.
        """
        return next(iter(self.standing(state)), None)

    def standing(self, state: RaceState) -> tuple[int, ...]:
        """Return the trials that are not out, best first: by rung, then by front, then by the first objective."""
        table = self._table(state)
        out, places = self._out(table), dict[int, tuple[int, int, float, int]]()
        for level, rung in enumerate(table):
            for number, front in enumerate(rung.fronts):
                for place in front:
                    trial = rung.trials[place]
                    places[trial] = (level, -number, float(rung.values[place, 0]), -trial)
        return tuple(sorted((t for t in places if t not in out), key=places.__getitem__, reverse=True))

    def observations(self, state: RaceState) -> Mapping[int, Observation]:
        """Return what the sampler is told: means as they would stand on all items, with their variances."""
        return self._told(state, self._table(state))

    def _check(self, state: RaceState, job: Job, scores: tuple[float, ...], values: tuple[float, ...] | None) -> None:
        if state.asked.get(job.trial, -1) < job.rung:
            raise ValueError(f"rung {job.rung} of trial {job.trial} was never asked")
        if len(scores) != job.last - job.first or not np.isfinite(scores).all():
            raise ValueError(
                f"the job has {job.last - job.first} items, each with a finite score ({len(scores)} given)"
            )
        objectives = 1 if values is None else len(values)
        others = {len(state.values.get(key, (0.0,))) for key in state.scores}
        if not objectives or others - {objectives} or not np.isfinite(values or 0.0).all():
            raise ValueError(f"trial {job.trial} needs as many values as other trials, all finite ({values})")
        if len(self.rungs) > 1 and values is not None and objectives == 1 and not same(values[0], fmean(scores)):
            raise UserError(NO_RUNGS)

    def _job(self, state: RaceState, trial: int, rung: int) -> Job:
        first = self.rungs[rung - 1] if rung else 0
        return Job(trial, state.study.trials[trial].point, rung, first, self.rungs[rung])

    def _table(self, state: RaceState) -> list[Rung]:
        return rung_table(self.rungs, state.scores, state.values)

    def _out(self, table: Sequence[Rung]) -> frozenset[int]:
        found: set[int] = set()
        for rung in table:
            if not rung.tested or self.span is None:
                continue
            lost = beaten(rung.scores, self.level, span=self.span)
            found.update(trial for trial, out in zip(rung.trials, lost, strict=True) if out)
        return frozenset(found)

    def _promotion(
        self, state: RaceState, table: Sequence[Rung], out: frozenset[int], *, everyone: bool = False
    ) -> Job | None:
        for level in reversed(range(len(self.rungs) - 1)):
            rung = table[level]
            quota = len(rung.trials) if everyone else int(len(rung.trials) / self.eta)
            for trial in rung.order[:quota]:
                if trial not in out and state.asked[trial] == level:
                    return self._job(state, trial, level + 1)
        return None

    def _told(self, state: RaceState, table: Sequence[Rung]) -> Mapping[int, Observation]:
        """Common items serve as a control: a rung's means are moved by what its survivors gained on the later items."""
        told: dict[int, Observation] = {}
        offset = 0.0
        for level in reversed(range(len(table))):
            rung = table[level]
            if level + 1 < len(table) and table[level + 1].trials:
                later = table[level + 1]
                before = dict(zip(rung.trials, rung.values[:, 0], strict=True))
                gained = [v - before[t] for t, v in zip(later.trials, later.values[:, 0], strict=True)]
                offset += float(np.mean(gained))
            for trial, values, variance in zip(rung.trials, rung.values, rung.variances, strict=True):
                moved = (float(values[0]) + offset, *map(float, values[1:]))
                told.setdefault(trial, Observation(moved, self.rungs[level], float(variance)))
        return dict(sorted(told.items()))
