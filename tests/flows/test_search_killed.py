"""`colonnade search run` killed with SIGKILL in five phases: the same course, and no committed sample paid again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from db.database import Database
from evals import Task, load_task
from tests.conftest import ServerProcess
from tests.flows.search_commands import arguments, counted, course, serving, snapshot, started, write_search

GUARD_SHARE = 0.25
MOST_LOST = 6 * 12
"""Samples that a kill may lose: of six items in flight, as many each as the largest architecture draws."""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with serving(0.03) as started:
        yield started


class Watched(NamedTuple):
    """A search's database, as a killer looks at it."""

    database: Database
    task: Task

    def calls(self) -> int:
        return counted(self.database, 'SELECT COUNT(*) FROM "call"')

    def in_the_first_rung(self) -> bool:
        return 0 < self.calls() < 12

    def in_a_later_rung(self) -> bool:
        """Some items of a later rung are done, and not all."""
        rows = snapshot(self.database)
        grown = {rows.trials[job.trial].architecture_id for job in rows.jobs if job.rung and job.scores is None}
        query = "SELECT COUNT(*) FROM item_result WHERE architecture_id = :one"
        return any(counted(self.database, query, one=one) % 9 not in (0, 4) for one in grown)

    def between_rounds(self) -> bool:
        """Nothing is claimed that is not told."""
        jobs = snapshot(self.database).jobs
        return len(jobs) > 6 and all(job.scores is not None for job in jobs)

    def among_the_finalists(self) -> bool:
        dev = self.task.split(0.5, 0).dev
        guard = dev.sample(len(dev.items), 0).items[-round(GUARD_SHARE * len(dev.items)) :]
        return self._asked({item.id for item in guard})

    def on_held_out_items(self) -> bool:
        return self._asked({item.id for item in self.task.split(0.5, 0).held_out.items})

    def _asked(self, items: set[str]) -> bool:
        with self.database.engine.connect() as connection:
            asked = connection.exec_driver_sql('SELECT DISTINCT item_id FROM "call"').scalars()
            return not items.isdisjoint(asked)


def kill_when(
    server: ServerProcess, process: subprocess.Popen[str], seen: Callable[[], bool], *, all_at_once: bool = False
) -> None:
    """Kill it where it is seen to be there. It goes no further than two requests for each look, or in all."""
    while not seen():
        assert process.poll() is None, "it ended before it could be killed; make it slower"
        if not all_at_once:
            server.hold(2)
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def settled(server: ServerProcess) -> int:
    """Return how many samples the server has answered, once it has none under way."""
    before, now = -1, server.ledger()["calls"]
    while before != now:
        time.sleep(0.1)
        before, now = now, server.ledger()["calls"]
    return int(now)


def test_five_kills_change_nothing_and_pay_nothing_twice(tmp_path: Path, server: ServerProcess) -> None:
    killed, calm = tmp_path / "killed", tmp_path / "calm"
    for folder in (killed, calm):
        write_search(folder, server.url)
    words = arguments("--guard-share", GUARD_SHARE)
    with Database.open(f"sqlite:///{killed}/.colonnade/colonnade.db") as database:
        watched = Watched(database, load_task(str(killed / "sums.jsonl")))
        lost: list[int] = []
        for moment in (
            watched.in_the_first_rung,
            watched.in_a_later_rung,
            watched.between_rounds,
            watched.among_the_finalists,
            watched.on_held_out_items,
        ):
            server.hold(2)
            kill_when(server, started(killed, words), moment, all_at_once=moment == watched.in_the_first_rung)
            lost.append(settled(server) - watched.calls() - sum(lost))
            assert 0 <= lost[-1] <= MOST_LOST, moment.__name__
        server.hold(None)
        finished(killed, words)
        assert settled(server) == watched.calls() + sum(lost), "a sample was asked again whose row was committed"
        samples = server.ledger()["by_sample"]
        assert len(samples) == watched.calls()
        assert sum(samples.values()) - len(samples) == sum(lost)
        course_killed = course(database)
    finished(calm, words)
    with Database.open(f"sqlite:///{calm}/.colonnade/colonnade.db") as database:
        assert course(database) == course_killed
    assert server.ledger()["by_sample"] == {sample: count + 1 for sample, count in samples.items()}


def finished(folder: Path, words: list[str]) -> tuple[str, str]:
    process = started(folder, words)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out, err
