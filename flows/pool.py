"""Chunks as flow runs of a Prefect work pool, whose workers stand on any number of machines.

A flow run is watched in two ways: by its state, and by a beat that it leaves in Redis while it runs. One whose beat
stops is taken for dead, whatever Prefect thinks of it, and its chunk is given to the pool again. That pays nothing
twice: items that the database holds are skipped, and an item that the dead one has after all shares its samples.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import httpx

from db.errors import ColonnadeError, ConfigError
from flows.chunks import quiet_prefect, tell_watchers
from flows.evaluate import Chunk, ChunkDone, EvaluateJob
from flows.session import Session
from providers.redis_link import PREFIX_VARIABLE, URL_VARIABLE, RedisAway, RedisLink, redis_link

quiet_prefect()

# Prefect reads its settings from the environment when it is imported, so these stand below.
from prefect.client.orchestration import PrefectClient, get_client  # noqa: E402
from prefect.deployments import arun_deployment  # noqa: E402
from prefect.exceptions import ObjectNotFound  # noqa: E402
from prefect.states import Cancelled, Crashed  # noqa: E402

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.objects import FlowRun, State
    from redis import Redis

__all__ = ["OWN_ERROR", "STOPPED", "PoolRunner", "beating", "open_pool", "require_shared_stores", "travelling"]

STOPPED, OWN_ERROR = "Stopped", "ColonnadeError"
"""Names of states: a cap stopped the chunk; the chunk cannot be run at all. Their messages are the reason."""

_FLOW, _ENTRYPOINT = "evaluate-chunk", "flows.spread.chunk_flow"
_GOES = 4
_PENDING_S = 90.0
"""How long a worker may take to start the process of a flow run that it has taken."""
_PATIENCE_S = 120.0
"""How long Prefect's server may be away."""
_LOG = logging.getLogger("colonnade")
T = TypeVar("T")


class PoolRunner:
    """Runs chunks as flow runs of a deployment in a pool; made by `open_pool`."""

    def __init__(
        self, job: EvaluateJob, deployment: UUID, client: PrefectClient, link: RedisLink, *, lease_s: float
    ) -> None:
        self._job = job.model_dump(mode="json")
        self._deployment = deployment
        self._client = client
        self._link = link
        self._lease_s = lease_s
        self._open: set[UUID] = set()
        self._mark = uuid4().hex

    async def run(self, chunk: Chunk) -> ChunkDone:
        """Have the pool run a chunk, again where its worker is lost; raises `ColonnadeError`."""
        for go in range(1, _GOES + 1):
            ended = await self._one_go(chunk, go)
            if ended.is_completed():
                for _ in chunk.items:
                    tell_watchers(chunk.run_id)
                return ChunkDone(items=len(chunk.items), stopped=_message(ended) if ended.name == STOPPED else "")
            if ended.name == OWN_ERROR or ended.is_cancelled():
                raise ColonnadeError(_message(ended) or f"Chunk {chunk.number} of run {chunk.run_id} was cancelled.")
            _LOG.warning("Chunk %d is given to the pool again: %s", chunk.number, _message(ended))
        raise ColonnadeError(
            f"Chunk {chunk.number} of run {chunk.run_id} failed {_GOES} times, at last so: {_message(ended)}"
        )

    async def aclose(self) -> None:
        """Cancel what was given to the pool and has not ended."""
        for flow_run in self._open:
            await self._client.set_flow_run_state(
                flow_run, Cancelled(message="The evaluation was stopped."), force=True
            )

    async def _one_go(self, chunk: Chunk, go: int) -> State:
        name = f"{chunk.run_id}-chunk-{chunk.number}" + (f"-go-{go}" if go > 1 else "")
        give = partial(
            arun_deployment,
            self._deployment,
            client=self._client,
            parameters={"job": self._job, "chunk": chunk.model_dump(mode="json"), "lease_s": self._lease_s},
            flow_run_name=name,
            tags=[chunk.run_id],
            idempotency_key=f"{self._mark}-{name}",
            timeout=0,
        )
        run = await _patiently(give)
        self._open.add(run.id)
        ended = await self._ended(run)
        self._open.discard(run.id)
        return ended

    async def _ended(self, run: FlowRun) -> State:
        since, seen = time.monotonic(), ""
        while True:
            await asyncio.sleep(max(1.0, 0.1 * len(self._open)))
            state = (await _patiently(partial(self._client.read_flow_run, run.id))).state
            if state is None:
                continue
            if state.is_final():
                return state
            if state.type != seen:
                since, seen = time.monotonic(), state.type
            lost = await self._lost(run, state, time.monotonic() - since)
            if lost:
                crashed: State = Crashed(message=lost)
                await _patiently(partial(self._client.set_flow_run_state, run.id, crashed, force=True))
                return crashed

    async def _lost(self, run: FlowRun, state: State, seconds: float) -> str:
        """Say why a flow run that has been in a state so long is taken for dead, or nothing."""
        if state.is_pending() and seconds > _PENDING_S:
            return f"a worker took it and did not start it within {_PENDING_S:.0f} s"
        if not state.is_running() or seconds < self._lease_s:
            return ""
        try:
            beats = await self._link.call("EXISTS", _beat_key(self._link.prefix, str(run.id)))
        except RedisAway:
            return ""
        return "" if beats else f"nothing was heard of it for {self._lease_s:.0f} s"


@asynccontextmanager
async def open_pool(
    job: EvaluateJob, session: Session, pool: str, *, lease_s: float = 15.0
) -> AsyncIterator[PoolRunner]:
    """Open a pool for the chunks of a job; what is left unfinished at the end is cancelled.

    A flow run that was not heard of for `lease_s` seconds is taken for dead. Raises `ConfigError` where there is no
    such pool, or where PostgreSQL, Redis or the Prefect server are not named.
    """
    require_shared_stores(session)
    async with redis_link() as link, get_client() as client:
        assert link is not None, "seen to by require_shared_stores"
        runner = PoolRunner(travelling(job, session), await _deployment(client, pool), client, link, lease_s=lease_s)
        try:
            yield runner
        finally:
            await runner.aclose()


def require_shared_stores(session: Session) -> None:
    """Make sure that workers on other machines can see what this process sees; raises `ConfigError`."""
    if session.database.dialect == "sqlite":
        raise ConfigError(
            "Workers of a pool share results through PostgreSQL: set COLONNADE_DATABASE_URL here and there."
        )
    if not os.environ.get(URL_VARIABLE, "").strip():
        raise ConfigError(
            f"Workers of a pool share limits and budgets through Redis: set {URL_VARIABLE} here and there."
        )


def travelling(job: EvaluateJob, session: Session) -> EvaluateJob:
    """Return a job as it goes to other working directories: paths are absolute."""
    from pathlib import Path

    settings, task = job.session, job.task
    if session.book.path is not None:
        settings = settings.model_copy(update={"models": session.book.path.resolve()})
    if Path(task.name).is_file():
        task = task.model_copy(update={"name": str(Path(task.name).resolve())})
    return job.model_copy(update={"session": settings, "task": task})


@contextmanager
def beating(name: str, lease_s: float) -> Iterator[None]:
    """Leave a beat in Redis, four times in `lease_s`; raises `ConfigError` where no Redis is named.

    The beat is a thread's: a process that reads a large file for a minute is alive.
    """
    from redis import Redis

    url = os.environ.get(URL_VARIABLE, "").strip()
    if not url:
        raise ConfigError(f"The worker does not know Redis: set {URL_VARIABLE} in its environment.")
    key = _beat_key(os.environ.get(PREFIX_VARIABLE, "").strip() or "{colonnade}:", name)
    ended = threading.Event()
    with Redis.from_url(url, protocol=2, socket_timeout=3.0, socket_connect_timeout=3.0) as client:
        thread = threading.Thread(target=_beat, args=(client, key, lease_s, ended), name="colonnade-beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _beat(client: Redis, key: str, lease_s: float, ended: threading.Event) -> None:
    from redis.exceptions import RedisError

    while True:
        with suppress(RedisError):
            client.set(key, "1", px=int(1000 * lease_s))
        if ended.wait(lease_s / 4):
            return


def _beat_key(prefix: str, name: str) -> str:
    return f"{prefix}beat:{name}"


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask Prefect's server, again while it is away or busy; raises `ColonnadeError` after two minutes of that."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await ask()
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500:
                raise
            if time.monotonic() > until:
                reason = str(error).partition("\n")[0] or type(error).__name__
                raise ColonnadeError(f"Prefect's server does not answer: {reason}") from None
        await asyncio.sleep(1)


async def _deployment(client: PrefectClient, pool: str) -> UUID:
    """Return the deployment of the flow of a chunk in a pool, made anew each time: the newest code describes it."""
    try:
        await _patiently(partial(client.read_work_pool, pool))
    except ObjectNotFound:
        raise ConfigError(
            f"The Prefect server at {client.api_url} has no work pool '{pool}'; "
            f"'prefect worker start --type process --pool {pool}' makes it."
        ) from None
    flow_id = await _patiently(partial(client.create_flow_from_name, _FLOW))
    make = partial(
        client.create_deployment,
        flow_id,
        name=pool,
        work_pool_name=pool,
        entrypoint=_ENTRYPOINT,
        enforce_parameter_schema=False,
        description="Made by Colonnade: one chunk of an evaluation.",
    )
    return await _patiently(make)


def _message(state: State) -> str:
    return state.message or state.name or ""
