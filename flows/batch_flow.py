"""The batch as a Prefect flow: a chunk of rows is a task; progress and the report are artifacts."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from prefect import flow, task
from prefect.artifacts import acreate_progress_artifact, acreate_table_artifact, aupdate_progress_artifact
from prefect.cache_policies import NO_CACHE

from flows.batch import PREPARED, BatchChunk, BatchChunkDone, batch, prepare, run_batch_chunk
from flows.batch_job import BatchJob
from flows.batch_parts import Existing
from flows.batch_report import BatchReport
from flows.prefect_flow import SHARED_SESSION, retry_on
from flows.session import Session, open_session

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["batch_flow"]


@task(
    name="rows",
    task_run_name="rows-{chunk.number}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=[1, 5],
    retry_condition_fn=retry_on,
)
async def chunk_task(chunk: BatchChunk) -> BatchChunkDone:
    """Answer the rows of one chunk."""
    return await run_batch_chunk(chunk)


class _Progress:
    """A progress artifact that is brought up to date after every chunk."""

    def __init__(self, planned: int) -> None:
        self._planned = planned
        self._done = 0
        self._artifact: UUID | None = None

    async def run(self, chunk: BatchChunk) -> BatchChunkDone:
        """Run a chunk as a Prefect task and report it."""
        if self._artifact is None:
            self._artifact = await acreate_progress_artifact(0.0, description=f"Run {chunk.run_id}")
        done = await chunk_task(chunk)
        self._done += done.rows
        await aupdate_progress_artifact(self._artifact, min(100.0, 100.0 * self._done / self._planned))
        return done


@flow(name="batch", persist_result=False)
async def batch_flow(job: BatchJob, existing: Existing = "ask") -> BatchReport:
    """Run one architecture over the rows of a file; see `flows.batch.batch`."""
    session = SHARED_SESSION.get()
    if session is not None:
        return await _batch(job, session, existing)
    async with open_session(job.due_session) as own:
        return await _batch(job, own, existing)


async def _batch(job: BatchJob, session: Session, existing: Existing) -> BatchReport:
    ready = PREPARED.get() or await prepare(job, session, existing=existing)
    progress = _Progress(ready.opened.input.rows)
    token = PREPARED.set(ready)
    try:
        report = await batch(job, session, existing=existing, runner=progress.run)
    finally:
        PREPARED.reset(token)
    await acreate_table_artifact(
        table=[_plain(report.record())], key=f"batch-{report.run_id}", description=f"Run {report.run_id}"
    )
    return report


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """Keep what fits into one row of a table, exact dollars as plain numbers."""
    flat = {key: value for key, value in record.items() if key not in ("nodes", "savings", "estimate")}
    return {key: float(value) if isinstance(value, Decimal) else value for key, value in flat.items()}
