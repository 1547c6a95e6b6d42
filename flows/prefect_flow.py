"""The evaluation as a Prefect flow: a chunk of items is a task; progress and the result table are artifacts."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from flows.chunks import quiet_prefect

quiet_prefect()

# Prefect reads its settings from the environment when it is imported, so these stand below.
from prefect import flow, task  # noqa: E402
from prefect.artifacts import (  # noqa: E402
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.cache_policies import NO_CACHE  # noqa: E402

from db.errors import ColonnadeError  # noqa: E402
from flows.evaluate import (  # noqa: E402
    Chunk,
    ChunkDone,
    ChunkRunner,
    EvaluateJob,
    Evaluation,
    evaluate,
    run_chunk,
)
from flows.session import Session, open_session  # noqa: E402

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["SHARED_SESSION", "evaluate_flow", "evaluate_reported", "retry_on"]

SHARED_SESSION: ContextVar[Session | None] = ContextVar("SHARED_SESSION", default=None)
"""A session that is open already in this process; where there is none, the flow opens one of its own."""


def retry_on(_task: object, _task_run: object, state: Any) -> bool:
    """Say whether a failed chunk is worth another try: a broken database or network is, our own errors are not."""
    return not isinstance(state.data, ColonnadeError)


@task(
    name="chunk",
    task_run_name="chunk-{chunk.number}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=[1, 5],
    retry_condition_fn=retry_on,
)
async def chunk_task(chunk: Chunk) -> ChunkDone:
    """Evaluate the items of one chunk."""
    return await run_chunk(chunk)


class _Progress:
    """A progress artifact that is brought up to date after every chunk."""

    def __init__(self, planned: int, runner: ChunkRunner) -> None:
        self._planned = planned
        self._runner = runner
        self._done = 0
        self._artifact: UUID | None = None
        self._making = asyncio.Lock()

    async def run(self, chunk: Chunk) -> ChunkDone:
        """Run a chunk and report it."""
        async with self._making:
            if self._artifact is None:
                self._artifact = await acreate_progress_artifact(0.0, description=f"Run {chunk.run_id}")
        done = await self._runner(chunk)
        self._done += done.items
        await aupdate_progress_artifact(self._artifact, min(100.0, 100.0 * self._done / self._planned))
        return done


@flow(name="evaluate", persist_result=False)
async def evaluate_flow(job: EvaluateJob) -> Evaluation:
    """Evaluate one architecture on one task; see `flows.evaluate.evaluate`."""
    session = SHARED_SESSION.get()
    if session is not None:
        return await evaluate_reported(job, session)
    async with open_session(job.session) as own:
        return await evaluate_reported(job, own)


async def evaluate_reported(
    job: EvaluateJob, session: Session, *, runner: ChunkRunner = chunk_task, at_once: int | None = None
) -> Evaluation:
    """Evaluate, with progress and the result as artifacts; by default a chunk is a Prefect task of this process."""
    progress = _Progress(len(job.task.load().items), runner)
    evaluation = await evaluate(job, session, runner=progress.run, at_once=at_once)
    await acreate_table_artifact(
        table=[_plain(evaluation.record())],
        key=f"evaluation-{evaluation.run_id}",
        description=f"Run {evaluation.run_id}",
    )
    return evaluation


def _plain(record: dict[str, object]) -> dict[str, Any]:
    """Make exact dollars plain numbers, since an artifact is JSON."""
    return {key: float(value) if isinstance(value, Decimal) else value for key, value in record.items()}
