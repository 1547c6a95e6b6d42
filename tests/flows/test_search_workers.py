"""Several workers on one study through PostgreSQL: no trial twice, no job told twice, one end, and one budget."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from db.database import Database
from flows.studies import study_view
from tests.conftest import ServerProcess, own_schema
from tests.flows.search_commands import STUDY, arguments, counted, serving, snapshot, started, write_search
from tests.providers.redis_door import REDIS_URL, needs_redis


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A schema of its own, to which the commands of the test go."""
    with own_schema() as (_, url):
        monkeypatch.setenv("COLONNADE_DATABASE_URL", url)
        with Database.open(url) as opened:
            yield opened


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keys of its own in Redis for the commands of the test."""
    from redis import Redis

    prefix = f"{{t{uuid.uuid4().hex[:8]}}}:"
    monkeypatch.setenv("COLONNADE_REDIS_URL", REDIS_URL)
    monkeypatch.setenv("COLONNADE_REDIS_PREFIX", prefix)
    yield
    with Redis.from_url(REDIS_URL) as client:
        for key in client.scan_iter(f"{prefix}*"):
            client.delete(key)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with serving(0.08) as server:
        write_search(tmp_path, server.url, items=32)
        yield server


def words(*more: object) -> list[str]:
    return arguments("--rungs", "3,7,14", *more)


def check_the_end(database: Database, *, status: str = "done") -> None:
    """Every trial has a point of its own, every job is told, and the end is written."""
    rows, view = snapshot(database), study_view(STUDY, database)
    assert (view.status, view.reason) == (status, "")
    assert [trial.number for trial in rows.trials] == list(range(8))
    assert len({trial.point for trial in rows.trials}) == 8
    assert all(job.told_at is not None for job in rows.jobs if job.trial >= 0)
    assert view.ending is not None
    assert view.ending.contenders[0].trial == view.leader


def test_two_workers_share_the_work(tmp_path: Path, database: Database, server: ServerProcess) -> None:
    # No call is answered before both have claimed something: a machine may keep one of them for as long as all takes.
    server.hold(0)
    workers = [started(tmp_path, words()) for _ in range(2)]
    while len(at_work(database)) < 2:
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.005)
    server.hold(None)
    for worker in workers:
        _, err = worker.communicate()
        assert worker.returncode == 0, err
    check_the_end(database)
    assert at_work(database) == {str(worker.pid) for worker in workers}


def at_work(database: Database) -> set[str]:
    """Return the processes that have claimed jobs of trials."""
    return {job.worker.split("|")[1] for job in snapshot(database).jobs if job.trial >= 0}


def unfinished(database: Database, pid: int) -> set[tuple[int, int]]:
    """Return the jobs that a worker holds, if it has told some already."""
    mine = [job for job in snapshot(database).jobs if job.worker.split("|")[1] == str(pid)]
    held = {(job.trial, job.rung) for job in mine if job.scores is None}
    return held if len(held) < len(mine) else set()


def stopped_at_work(
    database: Database, server: ServerProcess, workers: Sequence[subprocess.Popen[str]]
) -> subprocess.Popen[str]:
    """Stop the first worker that has told one job and holds another, however fast each of them is.

    They go no further than four requests for each look; the server is left holding the others back.
    """
    while True:
        server.hold(4)
        for worker in workers:
            assert worker.poll() is None, "it ended before one could be stopped; make it slower"
            if unfinished(database, worker.pid):
                os.kill(worker.pid, signal.SIGSTOP)
                # It may have told that job as well between the look and the stop.
                if unfinished(database, worker.pid):
                    return worker
                os.kill(worker.pid, signal.SIGCONT)
        time.sleep(0.005)


def test_one_takes_over_what_the_other_left(tmp_path: Path, database: Database, server: ServerProcess) -> None:
    workers = [started(tmp_path, words()) for _ in range(2)]
    killed = stopped_at_work(database, server, workers)
    (other,) = (worker for worker in workers if worker is not killed)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    left = unfinished(database, killed.pid)
    assert left
    server.hold(None)
    _, err = other.communicate()
    assert other.returncode == 0, err
    check_the_end(database)
    told_by = {(job.trial, job.rung): job.worker.split("|")[1] for job in snapshot(database).jobs}
    assert {told_by[job] for job in left} == {str(other.pid)}


@needs_redis
@pytest.mark.usefixtures("redis")
def test_one_budget_holds_for_both(tmp_path: Path, database: Database, server: ServerProcess) -> None:
    workers = [started(tmp_path, words("--budget-calls", 60)) for _ in range(2)]
    errors = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [1, 1], errors
    assert all("Stopped at the budget" in err for err in errors)
    assert study_view(STUDY, database).status == "over_budget"
    assert server.ledger()["calls"] == counted(database, 'SELECT COUNT(*) FROM "call"') <= 60
    more = [started(tmp_path, words("--budget-calls", 2_000)) for _ in range(2)]
    errors = [worker.communicate()[1] for worker in more]
    assert [worker.returncode for worker in more] == [0, 0], errors
    check_the_end(database)
    # Through Redis they share the samples too: none is bought by both.
    samples = server.ledger()["by_sample"]
    assert {*samples.values()} == {1}
    assert len(samples) == counted(database, 'SELECT COUNT(*) FROM "call"')


def test_without_redis_a_budget_is_one_workers(tmp_path: Path, database: Database, server: ServerProcess) -> None:
    given = words("--budget-calls", 2_000)
    workers = [started(tmp_path, given) for _ in range(3)]
    errors = [worker.communicate()[1] for worker in workers]
    assert sorted(worker.returncode for worker in workers) == [0, 2, 2], errors
    for worker, err in zip(workers, errors, strict=True):
        if worker.returncode:
            assert err.startswith(
                "Error: Another worker is at work on study 'here', and a budget holds for both only through"
            )
            assert "COLONNADE_REDIS_URL" in err
            assert "Traceback" not in err
    check_the_end(database)
    assert server.ledger()["calls"] == counted(database, 'SELECT COUNT(*) FROM "call"')
