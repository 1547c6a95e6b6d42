"""An evaluation over a work pool, on a real Prefect server, PostgreSQL and Redis; workers here and in processes."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from db.errors import ColonnadeError
from flows.evaluate import Chunk, EvaluateJob, Evaluation, TaskChoice, evaluate
from flows.session import Caps, SessionSettings, open_session
from providers.redis_link import PREFIX_VARIABLE, URL_VARIABLE, RedisLink
from tests.conftest import POSTGRES_URL, CommandResult, ServerProcess, own_schema
from tests.helpers import write_models, write_task
from tests.providers.redis_door import REDIS_URL, needs_redis

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun

pytestmark = [
    needs_redis,
    pytest.mark.usefixtures("own_prefect", "shared"),
    pytest.mark.xdist_group("prefect"),
    pytest.mark.timeout(1200),
    # Prefect leaves a socket to its server open when a loop ends.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]
ROOT = Path(__file__).resolve().parent.parent.parent
POOL = "here"

Worker = Callable[["PrefectClient", "FlowRun"], Awaitable[None]]
"""What becomes of a flow run that the pool has."""


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A schema of PostgreSQL and a prefix of Redis of our own, named by the environment as they are for workers."""
    with own_schema() as (name, url):
        monkeypatch.setenv("COLONNADE_DATABASE_URL", url)
        monkeypatch.setenv(URL_VARIABLE, REDIS_URL)
        monkeypatch.setenv(PREFIX_VARIABLE, f"{{{name}}}:")
        yield
    asyncio.run(clean(name))
    # The sockets that Prefect left open are found while they are still overlooked.
    gc.collect()


async def clean(name: str) -> None:
    link = RedisLink(REDIS_URL)
    keys = await link.call("KEYS", f"*{name}*")
    if isinstance(keys, list) and keys:
        await link.call("DEL", *(key for key in keys if isinstance(key, bytes)))
    await link.aclose()


@pytest.fixture
def job(workplace: Path, model_server: Callable[..., ServerProcess]) -> EvaluateJob:
    """Twelve items in chunks of four, three samples each."""
    server = model_server("--stateless")
    layers: list[object] = [{"generate": {"model": "m", "samples": 3, "max_tokens": 64}}, "vote"]
    return EvaluateJob(
        architecture={"name": "vote", "layers": layers},
        task=TaskChoice(name=write_task(workplace, 12).name),
        session=SessionSettings(models=write_models(workplace, server.url)),
        chunk=4,
    )


@asynccontextmanager
async def pool(worker: Worker) -> AsyncIterator[None]:
    """A pool whose scheduled flow runs are taken in turn by a worker in this process."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    async with get_client() as client:
        with suppress(ObjectAlreadyExists):
            await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        working = asyncio.create_task(work(client, worker))
        try:
            yield
        finally:
            working.cancel()
            await asyncio.wait({working})
    if not working.cancelled():
        working.result()


async def work(client: PrefectClient, worker: Worker) -> None:
    while True:
        for response in await client.get_scheduled_flow_runs_for_work_pool(POOL):
            await worker(client, response.flow_run)
        await asyncio.sleep(0.1)


async def run_here(client: PrefectClient, run: FlowRun) -> None:
    """Run a chunk as the process that a worker starts does."""
    from prefect.flow_engine import run_flow_async
    from prefect.states import Pending

    from flows.spread import chunk_flow

    await client.set_flow_run_state(run.id, Pending())
    flow_run = await client.read_flow_run(run.id)
    await run_flow_async(chunk_flow, flow_run=flow_run, parameters=flow_run.parameters, return_type="state")


async def spread(job: EvaluateJob, worker: Worker = run_here) -> Evaluation:
    from flows.spread import spread_flow

    async with pool(worker):
        return await spread_flow(job, POOL)


async def in_one_process(job: EvaluateJob) -> Evaluation:
    async with open_session(job.session) as session:
        return await evaluate(job, session)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What Colonnade says; Prefect's own set-up of logging takes pytest's handler off the root."""
    logging.getLogger("colonnade").addHandler(caplog.handler)
    return caplog


def told(evaluation: Evaluation) -> list[tuple[object, ...]]:
    return [(item.item_id, item.status, item.answer, item.score, item.calls_used) for item in evaluation.results]


def test_a_pool_gives_what_one_process_gives(job: EvaluateJob, monkeypatch: pytest.MonkeyPatch) -> None:
    spread_out = asyncio.run(spread(job))
    assert (spread_out.status, len(spread_out.results), spread_out.planned) == ("done", 12, 12)
    alone = asyncio.run(in_one_process(job.model_copy(update={"fresh": "alone"})))
    assert told(spread_out) == told(alone)


def test_the_command_spreads_an_evaluation_over_a_pool(job: EvaluateJob, cli: Callable[..., CommandResult]) -> None:
    """As docs/operations.md has it, with a pool and a task of our own."""
    command = ["eval", "preset:single", "--set", "model=m", "--task", job.task.name, "--items", "12", "--chunk", "6"]

    async def typed() -> CommandResult:
        async with pool(run_here):
            return await asyncio.to_thread(cli, *command, "--budget-calls", "1_000", "--pool", POOL, "--json")

    done = asyncio.run(typed())
    assert done.code == 0, done.err
    (record,) = [one for one in done.records if "items" in one]
    assert record["items"] == 12, record


def test_a_chunk_whose_worker_was_lost_is_given_to_another(
    job: EvaluateJob, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    from prefect.states import Running

    monkeypatch.setattr("flows.spread._LEASE_S", 4.0)
    lost: list[str] = []

    async def dies_once(client: PrefectClient, run: FlowRun) -> None:
        if lost:
            await run_here(client, run)
        else:
            lost.append(run.name)
            await client.set_flow_run_state(run.id, Running(), force=True)

    evaluation = asyncio.run(spread(job, dies_once))
    assert (evaluation.status, len(evaluation.results)) == ("done", 12)
    assert "given to the pool again: nothing was heard of it for 4 s" in log.text


def test_a_worker_that_starts_nothing_is_lost_as_well(
    job: EvaluateJob, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    from prefect.states import Pending

    monkeypatch.setattr("flows.pool._PENDING_S", 8.0)
    lost: list[str] = []

    async def hangs_once(client: PrefectClient, run: FlowRun) -> None:
        if lost:
            await run_here(client, run)
        else:
            lost.append(run.name)
            await client.set_flow_run_state(run.id, Pending())

    assert len(asyncio.run(spread(job, hangs_once)).results) == 12
    assert "did not start it" in log.text


def test_what_breaks_again_and_again_is_told(job: EvaluateJob) -> None:
    from prefect.states import Failed

    async def breaks(client: PrefectClient, run: FlowRun) -> None:
        await client.set_flow_run_state(run.id, Failed(message="no space left on the device"), force=True)

    with pytest.raises(ColonnadeError, match=r"failed 4 times, at last so: no space left on the device"):
        asyncio.run(spread(job.model_copy(update={"chunk": 12}), breaks))


def test_a_chunk_that_people_cancel_ends_the_run_and_what_else_waits(job: EvaluateJob) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled

    async def cancelled(client: PrefectClient, run: FlowRun) -> None:
        await client.set_flow_run_state(run.id, Cancelled(message="not today"), force=True)

    async def states() -> set[str | None]:
        async with get_client() as client:
            found = await client.read_flow_runs(limit=200)
        return {run.state.name for run in found if run.state is not None and run.deployment_id is not None}

    with pytest.raises(ColonnadeError, match="not today"):
        asyncio.run(spread(job, cancelled))
    assert not {"Scheduled", "Pending", "Running"} & asyncio.run(states())


def test_the_caps_of_a_run_hold_over_all_workers(job: EvaluateJob) -> None:
    settings = job.session.model_copy(update={"caps": Caps(calls=20), "caps_per_run": True})
    stopped = asyncio.run(spread(job.model_copy(update={"session": settings})))
    assert stopped.status == "over_budget"
    assert "20" in stopped.reason
    assert sum(item.calls_paid for item in stopped.results) <= 20
    done = asyncio.run(spread(job))
    assert (done.run_id, done.status, len(done.results)) == (stopped.run_id, "done", 12)


def test_a_worker_with_other_models_is_found_out(job: EvaluateJob, workplace: Path) -> None:
    async def elsewhere(client: PrefectClient, run: FlowRun) -> None:
        write_models(workplace, "http://127.0.0.1:9/v1", model="another")
        await run_here(client, run)

    with pytest.raises(ColonnadeError, match="the task's data or the models differ"):
        asyncio.run(spread(job.model_copy(update={"chunk": 12}), elsewhere))


def test_a_worker_without_redis_or_with_another_database_is_found_out(
    job: EvaluateJob, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.spread import chunk_flow

    chunk = Chunk(run_id="e-0", number=0, items=("i0",))

    def state(own: EvaluateJob) -> Any:
        async def ran() -> Any:
            return await chunk_flow(own, chunk, return_state=True)

        return asyncio.run(ran())

    missing = state(job)
    assert (missing.name, "There is no run 'e-0'" in missing.message) == ("ColonnadeError", True)
    monkeypatch.delenv(URL_VARIABLE)
    assert URL_VARIABLE in state(job).message


def test_what_a_pool_needs_is_said_in_one_sentence(
    job: EvaluateJob, workplace: Path, cli: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["eval", "preset:single", "--set", "model=m", "--task", job.task.name, "--pool", "nowhere"]
    unknown = cli(*command)
    assert unknown.code == 2
    assert "has no work pool 'nowhere'; 'prefect worker start" in unknown.err
    monkeypatch.delenv(URL_VARIABLE)
    assert "through Redis: set COLONNADE_REDIS_URL" in cli(*command).err
    monkeypatch.delenv("COLONNADE_DATABASE_URL")
    assert "through PostgreSQL: set COLONNADE_DATABASE_URL" in cli(*command).err


async def test_the_server_may_be_away_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    from flows.pool import _patiently

    request, tries = httpx.Request("GET", "http://127.0.0.1:9/api"), [503, 0, 200]

    async def ask() -> int:
        code = tries.pop(0)
        if code == 0:
            raise httpx.ConnectError("nobody there", request=request)
        httpx.Response(code, request=request).raise_for_status()
        return code

    assert await _patiently(ask) == 200
    tries = [404]
    with pytest.raises(httpx.HTTPStatusError):
        await _patiently(ask)
    monkeypatch.setattr("flows.pool._PATIENCE_S", 0.0)
    tries = [0, 0]
    with pytest.raises(ColonnadeError, match="Prefect's server does not answer: nobody there"):
        await _patiently(ask)


def test_a_job_travels_with_whole_paths(job: EvaluateJob, workplace: Path) -> None:
    from flows.pool import travelling

    async def travelled() -> EvaluateJob:
        async with open_session(SessionSettings()) as session:
            return travelling(job, session)

    far = asyncio.run(travelled())
    assert far.session.models == workplace / "models.yaml"
    assert far.task.name == str(workplace / "task-12.jsonl")


def test_caps_of_a_command_have_one_name_for_all_its_jobs(job: EvaluateJob) -> None:
    from colonnade.evaluating import run_jobs

    settings = job.session.model_copy(update={"caps": Caps(calls=40)})
    jobs = [job.model_copy(update={"session": settings, "again": again}) for again in (0, 1)]
    jobs[1] = jobs[1].model_copy(update={"fresh": "second"})

    async def both() -> list[Evaluation]:
        async with pool(run_here):
            return await run_jobs(jobs, pool=POOL)

    first, second = asyncio.run(both())
    assert (first.status, len(first.results)) == ("done", 12)
    assert second.status == "over_budget"


def test_the_flow_for_ray_gives_what_one_process_gives(job: EvaluateJob) -> None:
    """Here on Prefect's own threads, which run a chunk as far from the flow as Ray does; docs/operations.md."""
    from flows.ray import _ray_flow

    assert told(asyncio.run(_ray_flow(job))) == told(asyncio.run(in_one_process(job.model_copy(update={"fresh": "x"}))))


def test_ray_is_an_extra(job: EvaluateJob, cli: Callable[..., CommandResult], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prefect_ray", None)
    command = ["eval", "preset:single", "--set", "model=m", "--task", job.task.name, "--ray", "local"]
    assert "pip install 'colonnade[ray]'" in cli(*command).err
    assert "give --pool or --ray, not both" in cli(*command, "--pool", "colonnade").err


@pytest.fixture
def demonstration() -> Iterator[subprocess.Popen[str]]:
    """The demonstration with two workers; it is ended so that it can clean up, whatever becomes of the test."""
    command = [sys.executable, str(ROOT / "scripts/scale_demo.py"), "--workers", "2", "--items", "24", "--chunk", "6"]
    started = subprocess.Popen(
        [*command, "--only-kill", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "COLONNADE_DATABASE_URL": POSTGRES_URL, URL_VARIABLE: REDIS_URL},
    )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.communicate(timeout=120)
        finally:
            started.kill()


def test_the_demonstration_with_two_workers_one_of_them_killed(demonstration: subprocess.Popen[str]) -> None:
    out, err = demonstration.communicate(timeout=1000)
    assert demonstration.returncode == 0, err[-3000:]
    found = json.loads(out.splitlines()[-1])
    assert found["made_good"] >= 1
    assert 0 <= found["cut_off"] <= 4
    kept = {name: value for name, value in found.items() if name not in ("cut_off", "made_good")}
    assert kept == {"same_result": True, "over_cap": 0, "lost_items": 0, "refused": 0}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_demonstration_that_is_ended_leaves_nothing(demonstration: subprocess.Popen[str], number: int) -> None:
    """What a kill leaves is removed by the next demonstration; its processes end with it."""
    left = databases()
    _wait(lambda: len(databases() - left) == 2)
    own = databases() - left
    _wait(lambda: bool(children(demonstration.pid)))
    started = children(demonstration.pid)
    demonstration.send_signal(number)
    _, err = demonstration.communicate(timeout=300)
    assert demonstration.returncode != 0, err
    _wait(lambda: not any(alive(pid) for pid in started))
    if number == signal.SIGKILL:
        assert databases() >= own
        removed = "from scale_services import own_stores\nwith own_stores() as stores: print(*stores)"
        environment = {**os.environ, "COLONNADE_DATABASE_URL": POSTGRES_URL, URL_VARIABLE: REDIS_URL}
        command = [sys.executable, "-c", removed]
        subprocess.run(command, cwd=ROOT / "scripts", env=environment, check=True, timeout=120)
    assert not databases() & own, err


AT_A_SIGNAL = """
import asyncio, os, signal, subprocess, threading
from scale_services import Ending

def killed():
    os.kill(os.getpid(), signal.SIGTERM)

async def work():
    killed()
    try:
        await asyncio.sleep(300)
    finally:
        print("cleaned up", flush=True)

async def work_that_takes_signals_for_itself():
    def handler(number, frame):
        raise RuntimeError(number)

    signal.signal(signal.SIGTERM, handler)
    threading.Timer(0.2, killed).start()
    try:
        await asyncio.to_thread(ending.wait_for, "Nothing", lambda: False)
    finally:
        print("cleaned up", flush=True)

ending = Ending()
"""


@pytest.mark.parametrize(
    "where",
    [
        # An exception is lost here.
        "os.register_at_fork(after_in_parent=killed)\nsubprocess.run(['true'], preexec_fn=int)\n"
        "try: ending.wait_for('Nothing', lambda: False)\nfinally: print('cleaned up')",
        "ending.run(work())",
        "ending.run(work_that_takes_signals_for_itself())",
        "killed()\ntry: ending.run(asyncio.sleep(300))\nfinally: print('cleaned up')",
    ],
)
def test_a_signal_is_heeded_wherever_it_comes(where: str) -> None:
    command = [sys.executable, "-W", "error", "-c", AT_A_SIGNAL + where]
    ended = subprocess.run(command, cwd=ROOT / "scripts", capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + signal.SIGTERM, "cleaned up\n", "")


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What the demonstration makes its databases with."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    module = importlib.import_module("scale_services")
    monkeypatch.setattr(module, "POSTGRES", POSTGRES_URL)
    return module


def test_what_others_use_is_left_alone_from_whichever_database(
    services: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL keeps advisory locks apart by database."""
    with services.own_stores() as first:
        monkeypatch.setattr(services, "POSTGRES", first.postgres)
        with services.own_stores() as second:
            used = {url.rpartition("/")[2] for stores in (first, second) for url in stores[:2]}
            assert len(used) == 4
            assert used <= databases()
            assert len({*first[2:], *second[2:]}) == 4


def test_ctrl_c_while_a_database_is_made_leaves_none(services: ModuleType) -> None:
    """SQLAlchemy gives up a connection whose statement was interrupted."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    left, made = databases(), []

    def interrupted(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("CREATE DATABASE"):
            made.append(databases() - left)
            raise KeyboardInterrupt

    event.listen(Engine, "after_cursor_execute", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt), services.own_stores():
            pytest.fail("it was not interrupted")
    finally:
        event.remove(Engine, "after_cursor_execute", interrupted)
    assert [len(names) for names in made] == [1]
    assert not databases() & made[0]


def databases() -> set[str]:
    """Return the names of the databases of demonstrations."""
    from sqlalchemy import create_engine, text

    engine = create_engine(POSTGRES_URL)
    with engine.connect() as connection:
        names = connection.execute(text("SELECT datname FROM pg_database WHERE datname LIKE 'scale_demo_%'"))
        found = {str(row[0]) for row in names}
    engine.dispose()
    return found


def children(pid: int) -> set[int]:
    """Return the processes that a process started."""
    return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def alive(pid: int) -> bool:
    """Say whether a process runs; one that only waits to be collected does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _wait(so: Callable[[], bool], seconds: float = 300.0) -> None:
    until = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < until
        time.sleep(0.05)
