"""What the rest of a study's budget is likely to pay, with the part of the end left aside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from flows.search_job import OpenStudy
from flows.study_view import Spent, read_spent

if TYPE_CHECKING:
    from db.studies import Snapshot
    from search import Job, RaceState
    from search.caps import CapName

__all__ = ["affordable", "bought_items"]

_MARGIN: Final = Decimal("1.05")
"""What is kept for the end, as a multiple of what it is likely to cost."""


def bought_items(study: OpenStudy, state: RaceState) -> dict[int, int]:
    """Return on how many first items each point was scored, or is being scored."""
    return {state.study.trials[trial].point: study.race.rungs[rung] for trial, rung in state.asked.items()}


def affordable(study: OpenStudy, state: RaceState, snapshot: Snapshot, jobs: Sequence[Job]) -> int:
    """Count the first of these jobs that the rest of the budget is likely to pay, with the end's part left aside."""
    caps = study.job.session.caps
    if not caps or not state.scores:
        return len(jobs)
    paid = study.session.calls.spent(study.id)
    left: dict[CapName, Decimal] = {}
    if caps.dollars is not None:
        left["dollars"] = caps.dollars - paid.cost
    if caps.calls is not None:
        left["calls"] = Decimal(caps.calls - paid.calls)
    if caps.tokens is not None:
        left["tokens"] = Decimal(caps.tokens - paid.prompt_tokens - paid.completion_tokens)
    likely = _Likely(study, state, snapshot)
    bought = bought_items(study, state)
    for count, job in enumerate(jobs):
        share = _unpaid(study, job, bought)
        for name, rest in left.items():
            left[name] = rest - likely.of(job.trial, job.point, name) * (job.last - job.first) * share
            if left[name] < likely.end(name) * _MARGIN:
                return count
    return len(jobs)


class _Likely:
    """What an item of a trial is likely to cost: what it has cost so far, else its plan by how plans have held."""

    def __init__(self, study: OpenStudy, state: RaceState, snapshot: Snapshot) -> None:
        self._study = study
        self._finalists = study.race.standing(state)[: study.job.finalists]
        self._points = [trial.point for trial in state.study.trials]
        self._baselines = _planned_baselines(study)
        self._used: dict[int, Spent] = {}
        self._items: dict[int, int] = {}
        for row in snapshot.jobs:
            if row.scores is not None and row.totals is not None:
                self._used[row.trial] = self._used.get(row.trial, Spent()).plus(read_spent(row.totals["spent"]))
                self._items[row.trial] = self._items.get(row.trial, 0) + len(row.scores)

    def of(self, trial: int, point: int, name: CapName) -> Decimal:
        """Return what one item uses."""
        measured = self._measured(trial, name)
        return self._planned(point, name) * self._held(name) if measured is None else measured

    def end(self, name: CapName) -> Decimal:
        """Return what the end uses: the finalists on guard and held-out items, and the baselines, all anew."""
        each = [self.of(trial, self._points[trial], name) for trial in self._finalists]
        guard, held_out = len(self._study.split.guard), len(self._study.split.held_out)
        # The votes of the best single model are given as much as the winner; that model alone is a small part of it.
        own = sum(each, Decimal(0)) * (guard + held_out) + max(each, default=Decimal(0)) * held_out
        given = sum((likely[name] or Decimal(0) for likely in self._baselines), Decimal(0))
        return own + given * self._held(name) * held_out

    def _held(self, name: CapName) -> Decimal:
        """How much the trials so far have used, of what was planned for them."""
        trials = [trial for trial in self._used if self._measured(trial, name) is not None]
        planned = sum((self._planned(self._points[t], name) * self._items[t] for t in trials), Decimal(0))
        used = sum(((self._measured(t, name) or Decimal(0)) * self._items[t] for t in trials), Decimal(0))
        return used / planned if planned and used else Decimal(1)

    def _planned(self, point: int, name: CapName) -> Decimal:
        return self._study.planned.points[point].figures.likely[name] or Decimal(0)

    def _measured(self, trial: int, name: CapName) -> Decimal | None:
        spent = self._used.get(trial)
        if spent is None:
            return None
        used = {"calls": spent.calls_used, "tokens": spent.tokens_used, "dollars": spent.dollars_used}[name]
        return None if used is None else Decimal(used) / self._items[trial]


def _planned_baselines(study: OpenStudy) -> list[Mapping[CapName, Decimal | None]]:
    """Return what one question is likely to cost of each architecture that the winner is to be compared with."""
    from architectures import load
    from architectures.plan import Plans
    from search.caps import figures

    plans = Plans(study.session.book, [item.prompt for item in study.split.search])
    specs = [load(data, study.session.book).spec for data in study.job.baselines]
    return [figures(spec, plans.of(spec)).likely for spec in specs]


def _unpaid(study: OpenStudy, job: Job, bought: Mapping[int, int]) -> Decimal:
    """Return the share of a job's planned cost that no earlier trial has paid, roughly."""
    if not study.job.share:
        return Decimal(1)
    left = study.bills.left(bought, range(job.first, job.last))[job.point]
    return Decimal(str(round(left / study.planned.domain.costs[job.point], 6)))
