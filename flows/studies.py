"""Studies from their rows: what `StudyView` shows, without a call and without planning the space again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from db.errors import ConfigError, did_you_mean
from flows.search_job import SearchJob
from flows.study_view import (
    AgainstView,
    Contender,
    Ending,
    Spent,
    StepView,
    StudyView,
    TrialState,
    TrialView,
    read_spent,
)

if TYPE_CHECKING:
    from db.database import Database
    from db.runs import RunRecord
    from db.studies import JobRecord, Snapshot, TrialRecord
    from evals.stats import Interval
    from search import Race, RaceState

__all__ = ["newest_study", "stored_search", "study_ids", "study_view", "trial_architecture"]

_NONE = "There is no study in {}; begin one with 'colonnade search run SPACE'."


def study_ids(database: Database, *, limit: int = 20) -> tuple[str, ...]:
    """Return the ids of the newest studies, newest first."""
    from db.runs import RunStore

    return tuple(record.id for record in RunStore(database).list(limit=limit, kind="search"))


def stored_search(study_id: str, database: Database) -> SearchJob:
    """Return the job of a study as it was last gone on with; raises `ConfigError` with the nearest id."""
    record = _run(study_id, database)
    job, go = SearchJob.model_validate_json(record.config), orjson.loads(record.totals or "{}").get("go")
    return job if go is None else job.gone_on(go)


def newest_study(database: Database) -> str:
    """Return the id of the newest study; raises `ConfigError` where there is none."""
    known = study_ids(database, limit=1)
    if not known:
        raise ConfigError(_NONE.format(database.url_without_password))
    return known[0]


def _run(study_id: str, database: Database) -> RunRecord:
    from db.runs import RunStore

    runs = RunStore(database)
    known = study_ids(database, limit=200)
    if study_id not in known:
        if not known:
            raise ConfigError(_NONE.format(database.url_without_password))
        raise ConfigError(f"There is no study {study_id!r}.{did_you_mean(study_id, known)}")
    return runs.get(study_id)


def study_view(study_id: str, database: Database) -> StudyView:
    """Show a study; raises `ConfigError` where there is none, or it was stopped before its first round."""
    from db.studies import StudyStore

    record = _run(study_id, database)
    job, notes = SearchJob.model_validate_json(record.config), orjson.loads(record.totals or "{}")
    facts = notes.get("facts")
    if facts is None:
        raise ConfigError(f"Study {study_id!r} has not begun: it failed before its first call; run it again.")
    snapshot = StudyStore(database).snapshot(study_id)
    race, state = _raced(job, facts, snapshot)
    ending = _ending(notes.get("ending"))
    leader = ending.contenders[0].trial if ending else race.leader(state)
    architecture = None if leader is None else snapshot.trials[leader].values["architecture"]
    return StudyView(
        id=study_id,
        name=record.name,
        status=record.status,
        reason=str(notes.get("reason", "")),
        space=facts["space"],
        task=str(record.task),
        sampler=facts["sampler"],
        objectives=job.objectives,
        rungs=tuple(facts["rungs"]),
        points=facts["points"],
        raw=facts["raw"],
        caps=tuple(facts["caps"]),
        seed=job.seed,
        trials=_trials(snapshot, race, state),
        steps=_steps(snapshot),
        leader=leader,
        spent=_all_spent(study_id, database),
        seconds=float(notes.get("seconds", 0.0)),
        ending=ending,
        architecture=architecture if isinstance(architecture, dict) else None,
        nominal=facts["nominal"],
    )


def trial_architecture(study_id: str, number: int, database: Database) -> dict[str, Any]:
    """Return the architecture of a trial, written out; raises `ConfigError` where there is no such trial."""
    from db.studies import StudyStore

    trials = StudyStore(database).snapshot(study_id).trials
    if not 0 <= number < len(trials):
        raise ConfigError(f"Study {study_id!r} has trials 0 to {len(trials) - 1}, but no trial {number}.")
    facts: Mapping[str, Any] = trials[number].values
    return {**facts["architecture"], "name": f"{study_id}-{number}"}


def _raced(job: SearchJob, facts: Mapping[str, Any], snapshot: Snapshot) -> tuple[Race, RaceState]:
    """Return the race over the points that were tried alone; whom it drops depends on the number of all points."""
    from flows.search import race_state
    from search import Domain, Race, make_sampler

    trials = snapshot.trials
    count = max(1, len(trials))
    domain = Domain(
        axes=("trial",),
        levels=np.arange(count, dtype=np.int16)[:, None],
        features=np.zeros((count, 1), dtype=np.float32),
        costs=np.ones(count),
        keys=[trial.architecture_id for trial in trials] or ["none"],
    )
    race = Race(
        make_sampler("exhaustive", domain),
        facts["rungs"],
        eta=job.eta,
        alpha=job.alpha,
        span=facts["span"],
        points=facts["points"],
    )
    return race, race_state(race, job.seed, [trial.number for trial in trials], snapshot.jobs)


def _trials(snapshot: Snapshot, race: Race, state: RaceState) -> tuple[TrialView, ...]:
    dropped = race.dropped(state)
    told: dict[int, list[JobRecord]] = {}
    for job in snapshot.jobs:
        if job.scores is not None:
            told.setdefault(job.trial, []).append(job)
    views = [_trial(trial, told.get(trial.number, []), race, trial.number in dropped) for trial in snapshot.trials]
    return tuple(replace(view, on_front=_on_front(view, views)) for view in views)


def _trial(trial: TrialRecord, jobs: Sequence[JobRecord], race: Race, dropped: bool) -> TrialView:
    facts: Mapping[str, Any] = trial.values
    totals: list[Any] = [job.totals or {} for job in jobs]
    quality = [score for one in totals for score in one["quality"]]
    n, rung = len(quality), len(jobs) - 1
    spent = [read_spent(one["spent"]) for one in totals]
    dollars = [one.dollars_used for one in spent]
    state: TrialState = "running" if not n else "standing" if rung == len(race.rungs) - 1 else "waiting"
    return TrialView(
        number=trial.number,
        architecture_id=trial.architecture_id,
        label=facts["label"],
        values={name: tuple(v) if isinstance(v, list) else v for name, v in facts["values"].items()},
        state="dropped" if dropped else state,
        rung=rung,
        items=n,
        objectives=_objectives(jobs),
        quality=math.fsum(quality) / n if n else None,
        interval=_interval(quality) if n else None,
        calls=sum(one.calls_used for one in spent) / n if n else None,
        dollars=float(sum(filter(None, dollars))) / n if n and None not in dollars else None,
        seconds=math.fsum(one["seconds"] for one in totals) / n if n else None,
        planned_calls=facts["calls"],
        planned_dollars=facts["dollars"],
        rungs=tuple(_means(jobs)),
    )


def _means(jobs: Sequence[JobRecord]) -> list[float]:
    """Mean score after each rung."""
    scores: list[float] = []
    means = []
    for job in jobs:
        scores += job.scores or ()
        means.append(math.fsum(scores) / len(scores))
    return means


def _objectives(jobs: Sequence[JobRecord]) -> tuple[float, ...]:
    """Means over all items so far; what a job noted of several objectives counts by its items."""
    if not jobs:
        return ()
    noted = [(job.totals or {}).get("values") for job in jobs]
    if any(one is None for one in noted):
        return (_means(jobs)[-1],)
    values = np.asarray(noted, dtype=float)
    return tuple(map(float, np.average(values, axis=0, weights=[len(job.scores or ()) for job in jobs])))


def _interval(quality: Sequence[float]) -> Interval:
    from evals.stats import bootstrap_mean, wilson

    return wilson(round(sum(quality)), len(quality)) if {*quality} <= {0.0, 1.0} else bootstrap_mean(quality)


def _on_front(view: TrialView, others: Sequence[TrialView]) -> bool:
    if view.quality is None:
        return False
    rivals = [one for one in others if one.items >= view.items and one is not view]
    return not any(_beats(one, view) for one in rivals)


def _beats(one: TrialView, other: TrialView) -> bool:
    assert one.quality is not None
    assert other.quality is not None
    both = one.dollars is not None and other.dollars is not None
    price, rival = (one.dollars, other.dollars) if both else (one.calls, other.calls)
    assert price is not None
    assert rival is not None
    return one.quality >= other.quality and price <= rival and (one.quality, price) != (other.quality, rival)


def _steps(snapshot: Snapshot) -> tuple[StepView, ...]:
    """Go through the jobs in the order in which they were told."""
    told = [job for job in snapshot.jobs if job.told_at is not None and job.trial >= 0]
    told.sort(key=lambda job: (job.told_at or job.created_at, job.trial, job.rung))
    steps: list[StepView] = []
    spent, items = Spent(), 0
    seen: dict[int, list[JobRecord]] = {}
    places: dict[int, tuple[int, float, int]] = {}
    for job in told:
        seen.setdefault(job.trial, []).append(job)
        value = _objectives(seen[job.trial])[0]
        places[job.trial] = (job.rung, value, -job.trial)
        # Used is what the job used, paid what the study had paid by then.
        now = read_spent((job.totals or {})["spent"])
        paid = max(now.calls_paid, spent.calls_paid)
        spent = replace(now.plus(replace(spent, calls_paid=0, tokens_paid=0, dollars_paid=Decimal(0))), calls_paid=paid)
        items += len(job.scores or ())
        leader = max(places, key=places.__getitem__)
        steps.append(
            StepView(
                items=items,
                spent=spent,
                trial=job.trial,
                rung=job.rung,
                value=value,
                leader=leader,
                leader_value=places[leader][1],
            )
        )
    return tuple(steps)


def _all_spent(study_id: str, database: Database) -> Spent:
    """What all items used, and what the call store says was paid for the study."""
    from db.calls import CallStore
    from db.runs import RunStore

    calls = CallStore(database)
    try:
        paid = calls.spent(study_id)
    finally:
        calls.close()
    used = RunStore(database).used(study_id)
    return Spent(
        calls_used=used.calls,
        calls_paid=paid.calls,
        tokens_used=used.tokens,
        tokens_paid=paid.prompt_tokens + paid.completion_tokens,
        dollars_used=used.dollars,
        dollars_paid=None if paid.unpriced_calls else paid.cost,
    )


def _ending(data: Any) -> Ending | None:
    from evals.stats import Interval

    if data is None:
        return None
    named = {one.name for one in fields(Contender)}
    contenders = [
        Contender(
            **{k: v for k, v in row.items() if k in named and k != "interval"}, interval=Interval(*row["interval"])
        )
        for row in data["contenders"]
    ]
    against = [AgainstView(**{**row, "interval": Interval(*row["interval"])}) for row in data["against"]]
    return Ending(
        sentence=data["sentence"],
        items=data["items"],
        contenders=tuple(contenders),
        against=tuple(against),
        difference_found=data["difference_found"],
    )
