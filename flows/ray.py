"""One evaluation over a Ray cluster that is there already: a chunk of items is a task of Prefect's Ray runner."""

from __future__ import annotations

import asyncio

from db.errors import ConfigError
from flows.chunks import quiet_prefect

quiet_prefect()

# Prefect reads its settings from the environment when it is imported, so these stand below.
from prefect import flow, task  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402

from flows.evaluate import Chunk, ChunkDone, EvaluateJob, Evaluation, evaluate_chunk  # noqa: E402
from flows.pool import require_shared_stores, travelling  # noqa: E402
from flows.prefect_flow import SHARED_SESSION, evaluate_reported, retry_on  # noqa: E402
from flows.session import Session, open_session  # noqa: E402

__all__ = ["ray_chunk_task", "ray_flow"]

_CHUNKS_AT_ONCE = 200


@task(
    name="chunk",
    task_run_name="chunk-{chunk.number}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=[1, 5],
    retry_condition_fn=retry_on,
)
async def ray_chunk_task(job: EvaluateJob, chunk: Chunk) -> ChunkDone:
    """Evaluate the items of one chunk with a session of its own."""
    async with open_session(job.session) as session:
        return await evaluate_chunk(job, chunk, session)


async def ray_flow(job: EvaluateJob, address: str) -> Evaluation:
    """Evaluate a job on the Ray cluster at an address, such as `ray://head:10001`; `local` starts one for the time.

    Raises `ConfigError` where the extra `ray` is not installed, or PostgreSQL or Redis are not named.
    """
    try:
        from prefect_ray import RayTaskRunner
    except ImportError:
        raise ConfigError("Ray's task runner is not installed: pip install 'colonnade[ray]'.") from None

    runner = RayTaskRunner(address=None if address == "local" else address)
    return await _ray_flow.with_options(task_runner=runner)(job)


@flow(name="evaluate-ray", persist_result=False)
async def _ray_flow(job: EvaluateJob) -> Evaluation:
    # Ray sends the flow along with each task, and by value, so that it must not name what cannot be sent.
    return await _evaluate(job)


async def _evaluate(job: EvaluateJob) -> Evaluation:
    session = SHARED_SESSION.get()
    if session is not None:
        return await _over_ray(job, session)
    async with open_session(job.session) as own:
        return await _over_ray(job, own)


async def _over_ray(job: EvaluateJob, session: Session) -> Evaluation:
    require_shared_stores(session)
    far = travelling(job, session)

    async def run(chunk: Chunk) -> ChunkDone:
        future = ray_chunk_task.submit(far, chunk)
        return await asyncio.to_thread(future.result)  # type: ignore[arg-type]  # Prefect takes it for a coroutine

    return await evaluate_reported(job, session, runner=run, at_once=_CHUNKS_AT_ONCE)
