"""Watching architectures: a look evaluates them anew on the same items and sets the result against all before.

A watch is named by what it watches (architecture, task, items, models, references, a name), so the same job finds its
reference and its looks again; a look that was stopped is ended before the next begins. Every look has a series of
samples of its own (`fresh`), since answers from the cache would never change. The tests are in `evals.watch`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from db.errors import ConfigError, did_you_mean
from flows.evaluate import EvaluateJob, Evaluation, evaluate
from flows.session import Session
from flows.watch_findings import Past, findings, mean_score
from flows.watch_job import Look, WatchJob

if TYPE_CHECKING:
    from architectures import Architecture
    from db.database import Database
    from db.runs import RunRecord
    from evals import Task

__all__ = ["Evaluator", "looks_of", "stored_watches", "watch"]

Evaluator = Callable[[EvaluateJob, Session], Awaitable[Evaluation]]
"""Runs one evaluation; the Prefect flow wraps `evaluate`."""

_MEMORY = 30
"""Looks that a new one is set against, besides the reference; older ones would say little more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watch:
    """One architecture under watch."""

    id: str
    job: WatchJob
    session: Session
    architecture: Architecture
    task: Task
    spec: dict[str, Any]

    def evaluation(self, series: str) -> EvaluateJob:
        return EvaluateJob(
            architecture=self.spec,
            task=self.job.task,
            session=self.job.session,
            concurrency=self.job.concurrency,
            chunk=self.job.chunk,
            fresh=f"{self.id} {series}",
        )


async def watch(job: WatchJob, session: Session, *, evaluator: Evaluator = evaluate) -> tuple[Look, ...]:
    """Look once at every architecture of a job; the first look at one without a reference makes it.

    Ends after a look that a cap stopped; the same job goes on with it. Raises `UserError` for a job that cannot be run
    at all.
    """
    watches = [_open(job, spec, session) for spec in job.architectures]
    known = {one.architecture.id for one in watches}
    for run_id in job.references:
        if session.runs.get(run_id).architecture_id not in known:
            raise ConfigError(f"The reference {run_id} is of an architecture that is not watched; name that one too.")
    looks: list[Look] = []
    for one in watches:
        looks.append(await _look(one, evaluator))
        if looks[-1].status != "done":
            break
    return tuple(looks)


def looks_of(watch_id: str, database: Database) -> tuple[Look, ...]:
    """Return the looks of a watch, oldest first; raises `ConfigError` with the nearest id where there is no such."""
    from db.runs import RunStore

    known = [record.id for record in stored_watches(database)]
    if watch_id not in known:
        near = did_you_mean(watch_id, known)
        raise ConfigError(f"There is no watch '{watch_id}' in {database.url_without_password}.{near}")
    return _looks(_notes(RunStore(database).get(watch_id)))


def stored_watches(database: Database) -> tuple[RunRecord, ...]:
    """Return the newest watches, newest first."""
    from db.runs import RunStore

    return RunStore(database).list(limit=200, kind="watch")


def _open(job: WatchJob, spec: dict[str, Any], session: Session) -> _Watch:
    from architectures import load

    architecture = load(spec, session.book)
    task = job.task.load()
    models = sorted({*architecture.spec.models(), *task.scorer.models()})
    identities = [session.gateway.identity(model) for model in models]
    what = "\x00".join((architecture.id, task.digest, *identities, job.name, *sorted(job.references)))
    watch_id = f"w-{hashlib.sha256(what.encode()).hexdigest()[:10]}"
    return _Watch(id=watch_id, job=job, session=session, architecture=architecture, task=task, spec=spec)


async def _look(one: _Watch, evaluator: Evaluator) -> Look:
    """Make the reference, or look once more."""
    runs = one.session.runs
    runs.create(
        kind="watch",
        name=one.architecture.name,
        architecture_id=one.architecture.id,
        task=one.task.name,
        config=orjson.dumps(one.job.model_dump(mode="json")).decode(),
        run_id=one.id,
    )
    notes = _notes(runs.finish(one.id, "running"))
    look: Look | None = None
    try:
        if "references" not in notes:
            look = await _reference(one, evaluator)
        else:
            look = await _next(one, notes["references"], _looks(notes), evaluator)
        runs.note(one.id, {f"look {look.number}": look.model_dump(mode="json")})
    finally:
        runs.finish(one.id, "failed" if look is None else look.status)
    return look


async def _reference(one: _Watch, evaluator: Evaluator) -> Look:
    """Take the runs that are named as the reference, or make one; its look has the number 0."""
    runs = one.session.runs
    named = [run for run in one.job.references if runs.get(run).architecture_id == one.architecture.id]
    made = list(named)
    for number in range(0 if named else one.job.repeats):
        evaluation = await evaluator(one.evaluation(f"reference {number}"), one.session)
        made.append(evaluation.run_id)
        if evaluation.status != "done":
            return _described(one, Past.read(one.session.database, made, []), 0, evaluation)
    past = Past.read(one.session.database, made, [])
    past.require([item.id for item in one.task.items])
    runs.note(one.id, {"references": made})
    return _described(one, past, 0).model_copy(update={"smallest_fall": past.smallest_fall(one.job.alpha)})


async def _next(one: _Watch, references: Sequence[str], looks: Sequence[Look], evaluator: Evaluator) -> Look:
    ended = [look for look in looks if look.status == "done"]
    done = [look for look in ended if look.number > 0]
    number = max((look.number for look in done), default=0) + 1
    evaluation = await evaluator(one.evaluation(f"look {number}"), one.session)
    recent = [look.run_id for look in done[-_MEMORY:]]
    past = Past.read(one.session.database, references, [*recent, evaluation.run_id])
    look = _described(one, past, number, evaluation)
    if evaluation.status != "done":
        return look
    return look.model_copy(update={"findings": findings(past, number, [seen.served for seen in ended], one.job)})


def _described(one: _Watch, past: Past, number: int, evaluation: Evaluation | None = None) -> Look:
    newest = past.runs[-1].values()
    dollars = [measure.dollars for measure in newest if measure.dollars is not None]
    return Look(
        watch=one.id,
        name=one.architecture.name,
        task=one.task.name,
        number=number,
        run_id=past.run_ids[-1],
        at=datetime.now(UTC),
        status="done" if evaluation is None else evaluation.status,
        reason="" if evaluation is None else evaluation.reason,
        items=len(newest),
        failed=sum(measure.failed for measure in newest),
        quality=mean_score(past.runs[-1:]),
        reference=mean_score(past.runs[: past.references]),
        dollars=sum(dollars) if len(dollars) == len(newest) else None,
        served=past.served(None if number == 0 else past.run_ids[-1]),
    )


def _notes(record: RunRecord) -> Mapping[str, Any]:
    notes: Mapping[str, Any] = orjson.loads(record.totals or "{}")
    return notes


def _looks(notes: Mapping[str, Any]) -> tuple[Look, ...]:
    found = [Look.model_validate(value) for key, value in notes.items() if re.fullmatch(r"look \d+", key)]
    return tuple(sorted(found, key=lambda look: look.number))
