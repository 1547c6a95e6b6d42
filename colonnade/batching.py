"""What the command line and the Python face share about batches: jobs, and running them with or without Prefect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from db.errors import ConfigError
from flows.batch import PREPARED, batch, prepare, stored_report
from flows.batch_input import inspect_input
from flows.batch_job import BatchJob
from flows.batch_parts import Existing, finished_parts, is_written
from flows.batch_report import BatchReport
from flows.batch_template import question_template
from flows.chunks import watching
from flows.session import BatchMode, Session, SessionSettings, open_session

if TYPE_CHECKING:
    from flows.batch_plan import BatchPlan

__all__ = [
    "Cancelled",
    "RowWatcher",
    "UnderWay",
    "cancel_batch",
    "count_rows",
    "foretell_batch",
    "make_batch_job",
    "run_batch",
    "show_batch",
    "stored_batch_job",
]

RowWatcher = Callable[[Session, str], None]
"""Told of the session and the run's id, after every row."""


def make_batch_job(
    source: str | Path | Mapping[str, object],
    input_: Path,
    settings: SessionSettings,
    *,
    out: Path | None = None,
    template: str | None = None,
    question_column: str | None = None,
    parameters: Mapping[str, object] | None = None,
    **options: Any,
) -> BatchJob:
    """Read an architecture and make the job of running it over a file; raises `UserError`s.

    `options` are the other fields of `BatchJob`.
    """
    from architectures import load
    from providers.book import ModelBook

    settings.load_techniques()
    spec = load(source, ModelBook.load(settings.models), parameters=parameters).spec
    return BatchJob(
        architecture={**spec.data(), "name": spec.name},
        input=input_.absolute(),
        out=None if out is None else out.absolute(),
        template=question_template(template, question_column).text,
        session=settings,
        **options,
    )


def count_rows(job: BatchJob) -> int:
    """Count the rows of a job's input; raises `DataError` for one that cannot be read."""
    return inspect_input(job.input).rows


def stored_batch_job(
    run_id: str,
    settings: SessionSettings,
    *,
    out: Path | None = None,
    batch: BatchMode | None = None,
    deadline: timedelta | None = None,
    planned: bool = False,
) -> BatchJob:
    """Return the job of an earlier run as it was last begun, with what of caps, models and way of running is given now.

    Raises `ConfigError` where there is no such run, and, unless that is no matter (`planned`), where it has no output
    yet and `out` is not given.
    """
    from db.database import Database
    from db.runs import RunStore

    with Database.open(settings.database_url) as database:
        record = RunStore(database).get(run_id)
    if record.kind != "batch":
        raise ConfigError(f"Run {run_id} is no batch but of the kind '{record.kind}'.")
    job = BatchJob.model_validate(orjson.loads(record.totals or "{}").get("job") or orjson.loads(record.config))
    before = job.session
    kept = {
        "models": settings.models or before.models,
        "techniques": settings.techniques or before.techniques,
        "caps": settings.caps if settings.caps else before.caps,
        "database_url": settings.database_url,
        "batch": batch or before.batch,
    }
    if deadline is not None and kept["batch"] == "off":
        raise ConfigError(f"Run {run_id} goes through no batch interface; give --batch with --deadline.")
    if job.out is None and out is None and not planned:
        raise ConfigError(f"Run {run_id} was planned and has no output yet; start it with: colonnade batch run.")
    due = None if kept["batch"] == "off" else deadline or job.deadline
    changed = {"out": out.absolute() if out is not None else job.out, "deadline": due}
    return job.model_copy(update={**changed, "session": before.model_copy(update=kept)})


async def run_batch(
    job: BatchJob, *, existing: Existing = "ask", prefect: bool = True, watcher: RowWatcher | None = None
) -> BatchReport:
    """Run a job, or go on with it; raises `UserError` for one that cannot be run."""
    async with open_session(job.due_session) as session:
        told = None if watcher is None else (lambda run_id: watcher(session, run_id))
        with watching(told):
            return await (_flow(job, session, existing) if prefect else batch(job, session, existing=existing))


async def foretell_batch(job: BatchJob, *, pilot: int = 0) -> BatchPlan:
    """Plan a job, with a pilot of so many rows where one is wanted; raises `UserError`s."""
    from flows.batch_plan import plan_batch

    async with open_session(job.session) as session:
        return await plan_batch(job, session, pilot=pilot)


async def _flow(job: BatchJob, session: Session, existing: Existing) -> BatchReport:
    # What cannot be run is found out before Prefect starts, which takes seconds.
    ready = await prepare(job, session, existing=existing)
    if ready.parts is None:
        return stored_report(session.runs.get(ready.opened.run_id))
    from flows.batch_flow import batch_flow
    from flows.prefect_flow import SHARED_SESSION

    tokens = SHARED_SESSION.set(session), PREPARED.set(ready)
    try:
        return await batch_flow(job, existing)
    finally:
        SHARED_SESSION.reset(tokens[0])
        PREPARED.reset(tokens[1])


class Cancelled(NamedTuple):
    """What a cancellation came to."""

    batches: int
    """Batches that were open."""
    calls: int
    """Samples that they had answered, which are stored and paid."""
    dollars: Decimal


async def cancel_batch(run_id: str, settings: SessionSettings) -> Cancelled:
    """Cancel the batches that a run has at providers, and book what they had answered.

    Raises `ConfigError`, also for a run that is under way: it would submit anew what is cancelled.
    """
    from db.calls import CallStore
    from db.database import Database
    from providers.batching import cancel_batches
    from providers.book import ModelBook

    job = stored_batch_job(run_id, settings, planned=True)
    if job.out is not None and is_written(job.out):
        raise ConfigError(
            f"Another process is at work on run {run_id} and would submit anew what is cancelled; stop it first."
        )
    with Database.open(settings.database_url) as database, closing(CallStore(database)) as calls:
        before = calls.spent(run_id)
        batches = await cancel_batches(ModelBook.load(job.session.models), calls, run_id)
        after = calls.spent(run_id)
    return Cancelled(batches, after.calls - before.calls, after.cost - before.cost)


class UnderWay(NamedTuple):
    """How far a batch is that runs now, or whose last go was broken off."""

    run_id: str
    name: str
    chunks: int
    """Chunks of its rows that are finished."""
    calls: int
    """Samples that it has paid for."""
    dollars: Decimal
    batches: int
    """Batches that it has at providers."""


def show_batch(run_id: str, database_url: str | None = None) -> BatchReport | UnderWay:
    """Return the report of a batch, or how far it is; raises `ConfigError` where there is neither."""
    from db.batches import BatchStore
    from db.calls import CallStore
    from db.database import Database
    from db.runs import RunStore

    with Database.open(database_url) as database, closing(CallStore(database)) as calls:
        record = RunStore(database).get(run_id)
        job = orjson.loads(record.totals or "{}").get("job")
        if job is None or record.status in ("done", "over_budget"):
            return stored_report(record)
        spent, open_ = calls.spent(run_id), BatchStore(database).live(run_id=run_id)
    chunks = finished_parts(Path(job["out"]))
    return UnderWay(run_id, record.name, chunks, spent.calls, spent.cost, len(open_))
