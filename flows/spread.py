"""One evaluation over the workers of a Prefect work pool: a chunk of items is a flow run, run by whichever is free."""

from __future__ import annotations

from flows.chunks import quiet_prefect

quiet_prefect()

# Prefect reads its settings from the environment when it is imported, so these stand below.
from prefect import flow  # noqa: E402
from prefect.client.schemas.objects import State  # noqa: E402
from prefect.runtime import flow_run  # noqa: E402
from prefect.states import Completed, Failed  # noqa: E402

from db.errors import ColonnadeError  # noqa: E402
from flows.evaluate import Chunk, EvaluateJob, Evaluation, evaluate_chunk  # noqa: E402
from flows.pool import OWN_ERROR, STOPPED, beating, open_pool  # noqa: E402
from flows.prefect_flow import SHARED_SESSION, evaluate_reported  # noqa: E402
from flows.session import Session, open_session  # noqa: E402

__all__ = ["chunk_flow", "spread_flow"]

_CHUNKS_AT_ONCE = 200
"""Flow runs that wait in the pool or run; more only fill the server's tables."""
_LEASE_S = 15.0
"""A chunk that was not heard of for so long is taken for dead."""


@flow(name="evaluate-spread", persist_result=False)
async def spread_flow(job: EvaluateJob, pool: str) -> Evaluation:
    """Evaluate a job over the workers of a pool; the result is that of `flows.evaluate.evaluate` in one process."""
    session = SHARED_SESSION.get()
    if session is not None:
        return await _spread(job, session, pool)
    async with open_session(job.session) as own:
        return await _spread(job, own, pool)


async def _spread(job: EvaluateJob, session: Session, pool: str) -> Evaluation:
    async with open_pool(job, session, pool, lease_s=_LEASE_S) as runner:
        return await evaluate_reported(job, session, runner=runner.run, at_once=_CHUNKS_AT_ONCE)


@flow(name="evaluate-chunk", persist_result=False)
async def chunk_flow(job: EvaluateJob, chunk: Chunk, lease_s: float = _LEASE_S) -> State:
    """Evaluate one chunk in a worker's process; the items are in the database, the rest is in the state."""
    try:
        with beating(str(flow_run.get_id()), lease_s):
            async with open_session(job.session) as session:
                done = await evaluate_chunk(job, chunk, session)
    except ColonnadeError as error:
        return Failed(name=OWN_ERROR, message=str(error))
    return Completed(name=STOPPED, message=done.stopped) if done.stopped else Completed()
