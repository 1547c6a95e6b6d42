"""Batches that come to another end: too late, cancelled, or as a program of this machine."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest

from db.calls import CallStore
from db.database import Database
from db.errors import ConfigError
from providers.batching import Batching, cancel_batches
from providers.book import ModelBook
from providers.testing_batch_server import BatchServer, Refused, Stages
from providers.testing_batches import Batch
from tests.providers.batching_support import RUN, Clock, ask_twice, at_once, database, models, paid

QUICK = Batching(linger_s=0.1)
STAGES = Stages(validating_s=0.02, running_s=0.05)
HOUR = timedelta(hours=1)
PROGRAM = [sys.executable, "-m", "tests.providers.run_batch_program"]


@pytest.fixture(scope="module", autouse=True)
def _imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Go through a batch once: the first imports for seconds on a busy machine, which no deadline here allows for."""

    async def once(folder: Path) -> None:
        async with BatchServer(stages=STAGES, counting=False) as server:
            await ask_twice(models(folder, server.url), database(folder), 1, batching=QUICK)

    asyncio.run(once(tmp_path_factory.mktemp("imported")))


def _batch(server: BatchServer, number: int) -> Batch:
    return list(server._batches.values())[number]


def _running(server: BatchServer, number: int) -> bool:
    """Say whether that batch is there and has been looked at while it ran."""
    return len(server._batches) > number and "in_progress" in _batch(server, number).seen


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("providers.batching.carrier.datetime", clock)
    return clock


async def test_a_queue_that_turns_slow_is_left_in_time(tmp_path: Path, clock: Clock) -> None:
    deadline = clock.now(UTC) + HOUR
    batching = Batching(deadline=deadline, linger_s=0.5)
    stages = Stages(running_s=0.05, slow_after=1, slow_s=36_000.0)
    async with BatchServer(stages=stages, counting=False) as server, asyncio.TaskGroup() as tasks:
        path = models(tmp_path, server.url, margin_s=600)
        tasks.create_task(clock.put_forward(HOUR - timedelta(minutes=10), lambda: _running(server, 1)))
        done = await ask_twice(path, database(tmp_path), 20, batching=batching)
        assert clock.now(UTC) < deadline
        assert done.report is not None
        assert (done.report.pulled, done.report.moved, server.ledger.requests) == (1, 20, 20)
        assert done.spent.cost == paid(server)
        assert done.report.extra == done.spent.cost - done.report.saved - done.report.extra
        assert done.answers == (await at_once(server, path, 20)).answers


async def test_what_the_slow_batch_had_answered_is_taken_from_it(tmp_path: Path, clock: Clock) -> None:
    """The second batch answers a line each 0.2 s and takes a while to end once it is cancelled."""
    batching = Batching(deadline=clock.now(UTC) + HOUR, linger_s=0.5)
    stages = Stages(running_s=0.05, cancelling_s=0.2, slow_after=1, slow_s=20.0)
    async with BatchServer(stages=stages, counting=False) as server, asyncio.TaskGroup() as tasks:
        path = models(tmp_path, server.url, margin_s=600)
        tasks.create_task(clock.put_forward(HOUR, lambda: _running(server, 1) and _batch(server, 1).done() > 0))
        done = await ask_twice(path, database(tmp_path), 100, batching=batching)
        assert done.report is not None
        assert 0 < done.report.moved < 100
        assert server.ledger.requests == done.report.moved
        assert server.batches.answered == 200 - done.report.moved
        assert done.spent.cost == paid(server)
        assert done.spent.calls == 300


async def test_what_a_batch_answers_after_all_is_booked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """It takes long to end once it is cancelled, so that all is asked at once; what it had answered is billed too.

    The process that is to book it dies first, with the results in its hands.
    """

    class Killed(Exception):
        pass

    async def killed(*_: object) -> None:
        raise Killed

    batching = Batching(deadline=clock.now(UTC) + HOUR, linger_s=0.5)
    stages = Stages(cancelling_s=36_000.0, slow_after=0, slow_s=20.0)
    async with BatchServer(stages=stages, counting=False) as server, asyncio.TaskGroup() as tasks:
        path = models(tmp_path, server.url, margin_s=1)
        tasks.create_task(clock.put_forward(HOUR, lambda: _running(server, 0) and _batch(server, 0).done() > 0))
        done = await ask_twice(path, database(tmp_path), 20, batching=batching)
        assert done.report is not None
        assert (done.report.moved, server.ledger.requests) == (40, 40)
        server.stages = Stages()
        with Database.open(database(tmp_path)) as opened:
            calls = CallStore(opened)
            with monkeypatch.context() as patched:
                patched.setattr("providers.batching.books.Orphans.keep", killed)
                with pytest.raises(Killed):
                    await cancel_batches(ModelBook.load(path, {}), calls, RUN)
            assert await cancel_batches(ModelBook.load(path, {}), calls, RUN) == 1
            spent = calls.spent(RUN)
            calls.close()
        assert server.batches.answered > 0
        assert spent.cost == paid(server)
        assert spent.calls == 60 + 2 * server.batches.answered


@pytest.mark.parametrize("deaf", ["look", "cancel"])
async def test_a_deadline_holds_where_the_provider_does_not_listen(
    tmp_path: Path, deaf: Literal["look", "cancel"], clock: Clock
) -> None:
    """It tells no states, or it cancels nothing: what waits is asked at once all the same."""
    batching = Batching(deadline=clock.now(UTC) + HOUR, linger_s=0.5)
    stages = Stages(slow_after=0, slow_s=36_000.0)
    refuse: list[Refused] = [(deaf, 503)] * 100_000
    async with BatchServer(stages=stages, counting=False, refuse=refuse) as server, asyncio.TaskGroup() as tasks:
        path = models(tmp_path, server.url, margin_s=3)
        tasks.create_task(clock.put_forward(HOUR, lambda: server.batches.batches == 1))
        async with asyncio.timeout(300):
            done = await ask_twice(path, database(tmp_path), 5, batching=batching)
        assert done.report is not None
        assert (done.report.batches, done.report.moved, server.ledger.requests) == (1, 10, 10)
        assert done.answers == (await at_once(server, path, 5)).answers


async def test_a_batch_that_would_be_too_late_is_not_submitted(tmp_path: Path) -> None:
    batching = Batching(deadline=datetime.now(UTC) + timedelta(seconds=60), linger_s=0.1)
    async with BatchServer(stages=STAGES, counting=False) as server:
        path = models(tmp_path, server.url, expected_s=3600)
        done = await ask_twice(path, database(tmp_path), 5, batching=batching)
        assert done.report is not None
        assert (done.report.batches, done.report.moved, done.report.rounds) == (0, 10, 0)
        assert done.report.extra * 2 == done.spent.cost == paid(server)


@pytest.mark.parametrize("api", ["openai", "anthropic"])
async def test_a_cancelled_batch_keeps_what_it_answered(tmp_path: Path, api: str) -> None:
    stages = Stages(running_s=10.0, cancelling_s=0.1)
    async with BatchServer(stages=stages, counting=False) as server:
        path = models(tmp_path, server.url, api=api)
        job = asyncio.create_task(ask_twice(path, database(tmp_path), 50, batching=QUICK))
        while not server.batches.looks["in_progress"]:  # noqa: ASYNC110 - the server's books are what there is to look at
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.0)
        job.cancel()
        await asyncio.wait({job})
        with Database.open(database(tmp_path)) as opened:
            calls = CallStore(opened)
            assert await cancel_batches(ModelBook.load(path, {}), calls, RUN) == 1
            assert await cancel_batches(ModelBook.load(path, {}), calls, RUN) == 0
            spent = calls.spent(RUN)
            calls.close()
        assert spent.cost == paid(server) > 0
        assert spent.calls == server.batches.answered * (2 if api == "openai" else 1)
        before = server.batches.answered
        server.stages = STAGES
        done = await ask_twice(path, database(tmp_path), 50, batching=QUICK)
        lines = 100 if api == "openai" else 150
        assert server.batches.answered == lines
        assert before < lines / 2
        assert done.spent.cost == paid(server)


async def test_vllm_runs_on_the_same_files(tmp_path: Path) -> None:
    async with BatchServer(counting=False) as server:
        path = models(tmp_path, server.url, api="vllm", command=PROGRAM, discount=0)
        done = await ask_twice(path, database(tmp_path), 5, batching=QUICK)
        assert (done.spent.cost, done.spent.calls, server.ledger.requests) == (Decimal(0), 15, 0)
        assert done.answers == (await at_once(server, path, 5)).answers
    assert len(list((tmp_path / "batches").glob("*.in.jsonl"))) == 2


async def test_what_a_broken_off_program_did_not_write_is_run_again(tmp_path: Path) -> None:
    command = [*PROGRAM, "--half", str(tmp_path / "once")]
    path = models(tmp_path, "http://127.0.0.1:9", api="vllm", command=command)
    done = await ask_twice(path, database(tmp_path), 6, batching=QUICK)
    assert done.report is not None
    assert done.report.batches == 3
    assert 0 < done.report.again < 6
    assert done.spent.calls == 18


async def test_a_program_that_outlives_the_job_is_found_again(tmp_path: Path) -> None:
    command = [*PROGRAM, "--wait", str(tmp_path / "go")]
    path = models(tmp_path, "http://127.0.0.1:9", api="vllm", command=command)
    job = asyncio.create_task(ask_twice(path, database(tmp_path), 3, batching=QUICK))
    while not list((tmp_path / "batches").glob("*.pid")):  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.01)
    job.cancel()
    await asyncio.wait({job})
    (tmp_path / "go").touch()
    done = await ask_twice(path, database(tmp_path), 3, batching=QUICK)
    assert done.report is not None
    assert (done.report.batches, done.report.resumed) == (1, 1)
    assert done.spent.calls == 9


async def test_a_program_is_ended_by_a_cancel(tmp_path: Path) -> None:
    command = [*PROGRAM, "--wait", str(tmp_path / "go")]
    path = models(tmp_path, "http://127.0.0.1:9", api="vllm", command=command)
    job = asyncio.create_task(ask_twice(path, database(tmp_path), 2, batching=QUICK))
    while not list((tmp_path / "batches").glob("*.pid")):  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.01)
    job.cancel()
    await asyncio.wait({job})
    with Database.open(database(tmp_path)) as opened:
        calls = CallStore(opened)
        assert await cancel_batches(ModelBook.load(path, {}), calls, RUN) == 1
        assert calls.spent(RUN).calls == 0
        calls.close()
    (tmp_path / "go").touch()
    done = await ask_twice(path, database(tmp_path), 2, batching=QUICK)
    assert done.report is not None
    assert (done.report.batches, done.spent.calls) == (2, 6)


async def test_a_program_that_fails_or_is_absent_is_named(tmp_path: Path) -> None:
    failing = models(tmp_path, "http://127.0.0.1:9", api="vllm", command=[*PROGRAM, "--fail"])
    with pytest.raises(ExceptionGroup):
        await ask_twice(failing, database(tmp_path), 1, batching=QUICK)
    absent = models(tmp_path, "http://127.0.0.1:9", api="vllm", command=[str(tmp_path / "absent")])
    with pytest.raises(ExceptionGroup) as caught:
        await ask_twice(absent, database(tmp_path, "absent"), 1, batching=QUICK)
    assert caught.group_contains(ConfigError, match="cannot be started .* give its path in models.yaml")
