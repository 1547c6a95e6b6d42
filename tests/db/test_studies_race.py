"""Studies with many workers at once: threads, processes, and every order in which two of them can act."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.database import Database
from db.runs import RunStore
from db.studies import JobRecord, NewTrial, Snapshot, StudyStore
from tests.db.claiming_program import race

PROGRAM = Path(__file__).with_name("claiming_program.py")
NOW = datetime(2026, 11, 21, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

WORKERS = ("w0", "w1", "w2", "w3")

T = TypeVar("T")


def begin(database: Database, study_id: str | None = None) -> tuple[StudyStore, str]:
    """Make an empty study."""
    run = RunStore(database).create(kind="search", name="x", run_id=study_id)
    studies = StudyStore(database, clock=lambda: NOW)
    studies.create(run.id, domain="d", data="e", seed=0)
    return studies, run.id


def at_once(*actions: Callable[[], T]) -> list[T]:
    """Do all of this at the same moment, each in a thread; return what came of it."""
    barrier = threading.Barrier(len(actions))

    def act(action: Callable[[], T]) -> T:
        barrier.wait(300)
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(act, actions))


def check_won(snapshot: Snapshot, won: dict[str, list[int]]) -> None:
    """Every number is won once, no point is tried twice, and each trial and its job are the winner's."""
    owners = {number: worker for worker, numbers in won.items() for number in numbers}
    assert sum(map(len, won.values())) == len(owners) == 60
    assert [trial.number for trial in snapshot.trials] == list(range(60))
    assert len({trial.point for trial in snapshot.trials}) == 60
    assert {trial.number: trial.values["by"] for trial in snapshot.trials} == owners
    assert {(job.trial, job.rung): job.worker for job in snapshot.jobs} == {(n, 0): owners[n] for n in owners}


def test_threads_race_for_trials(database: Database) -> None:
    studies, study = begin(database)
    won = at_once(*(partial(race, studies, study, worker, 60) for worker in WORKERS))
    check_won(studies.snapshot(study), dict(zip(WORKERS, won, strict=True)))


def test_threads_begin_one_study(database: Database) -> None:
    run = RunStore(database).create(kind="search", name="x").id
    studies = StudyStore(database)
    made = at_once(*(partial(studies.create, run, domain="d", data="e", seed=seed) for seed in range(4)))
    assert {record.seed for record in made} == {made[0].seed}


def test_processes_race_for_trials(url: str) -> None:
    with Database.open(url) as database:
        studies, study = begin(database)
        won = race_of_processes(url, study)
        check_won(studies.snapshot(study), won)


def race_of_processes(url: str, study: str) -> dict[str, list[int]]:
    commands = {worker: [sys.executable, str(PROGRAM), url, study, worker, "60"] for worker in WORKERS}
    started = {
        worker: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for worker, command in commands.items()
    }
    for process in started.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started.values():
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return {worker: json.loads(process.communicate(timeout=300)[0]) for worker, process in started.items()}


def test_claims_that_cross_have_one_winner(database: Database) -> None:
    studies, study = begin(database)

    def claim(numbers: Sequence[int], points: Sequence[int]) -> bool:
        trials = [NewTrial(number, point, "a", {}) for number, point in zip(numbers, points, strict=True)]
        return studies.claim(study, worker="w", lease=MINUTE, trials=trials, jobs=[])

    for turn in range(20):
        first, low = 4 * turn, 2 * turn
        one, other = (
            partial(claim, (first, first + 2), (low, low + 1)),
            partial(claim, (first + 1, first + 3), (low + 1, low)),
        )
        assert sorted(at_once(one, other)) == [False, True]
    assert len(studies.snapshot(study).trials) == 40


def test_threads_race_for_a_job(database: Database) -> None:
    studies, study = begin(database)
    for trial in range(10):
        assert studies.claim(study, worker="w", lease=MINUTE, jobs=[(trial, 0)])
        take = partial(studies.take_over, study, trial, 0, lease=MINUTE, was="w")
        won = at_once(*(partial(take, worker=worker) for worker in WORKERS))
        assert sum(won) == 1
        assert studies.snapshot(study).jobs[trial].worker == WORKERS[won.index(True)]


def test_threads_tell_different_scores(database: Database) -> None:
    studies, study = begin(database)

    def tell(trial: int, score: float) -> float | None:
        try:
            studies.tell(study, trial, 0, [score], {})
        except ValueError:
            return None
        return score

    scores = (0.0, 1.0, 1.0)
    for trial in range(10):
        assert studies.claim(study, worker="w", lease=MINUTE, jobs=[(trial, 0)])
        told = at_once(*(partial(tell, trial, score) for score in scores))
        kept = studies.snapshot(study).jobs[trial].scores
        assert kept is not None
        assert told == [score if score == kept[0] else None for score in scores]


def test_leases_are_moved_while_others_work(database: Database) -> None:
    """Renewals and releases of one worker at once: PostgreSQL sees no deadlock, and told jobs are left alone."""
    studies, study = begin(database)
    assert studies.claim(study, worker="w", lease=MINUTE, jobs=[(trial, 0) for trial in range(30)])

    def tell_all() -> None:
        for trial in range(29, -1, -1):
            studies.tell(study, trial, 0, [trial], {})

    def move() -> None:
        for _ in range(10):
            studies.renew(study, worker="w", lease=MINUTE)
            studies.release(study, worker="w")

    at_once(tell_all, move, move)
    assert [job.scores for job in studies.snapshot(study).jobs] == [(float(trial),) for trial in range(30)]


class Model:
    """What a study must hold, as the contract says it, without a database."""

    def __init__(self) -> None:
        self.points: list[int] = []
        self.jobs: dict[tuple[int, int], tuple[str, tuple[float, ...] | None]] = {}

    def claim(
        self, worker: str, numbers: Sequence[int], points: Sequence[int], jobs: Sequence[tuple[int, int]]
    ) -> bool:
        late = (
            set(numbers) & set(range(len(self.points))) or set(points) & set(self.points) or set(jobs) & set(self.jobs)
        )
        if late:
            return False
        self.points += points
        self.jobs |= dict.fromkeys(jobs, (worker, None))
        return True

    def take_over(self, job: tuple[int, int], worker: str, was: str) -> bool:
        if self.jobs[job] != (was, None):
            return False
        self.jobs[job] = (worker, None)
        return True

    def tell(self, job: tuple[int, int], scores: tuple[float, ...]) -> bool:
        worker, known = self.jobs[job]
        self.jobs[job] = (worker, scores if known is None else known)
        return known in (None, scores)


class Step(NamedTuple):
    """What one worker does next, on what it saw last."""

    worker: str
    does: str
    which: int


STEPS = st.builds(
    Step, st.sampled_from("vw"), st.sampled_from(["read", "claim", "claim", "tell", "take over"]), st.integers(0, 11)
)


class Pair:
    """Two workers of one study, the model, and what each worker saw last."""

    def __init__(self, studies: StudyStore, study: str) -> None:
        self.studies, self.study, self.model = studies, study, Model()
        self.seen = dict.fromkeys("vw", Snapshot((), ()))

    def take(self, step: Step) -> None:
        """Take a step and compare with the model."""
        seen = self.seen[step.worker]
        if step.does == "read":
            self.seen[step.worker] = self.studies.snapshot(self.study)
        elif step.does == "claim":
            self.claim(step, seen)
        elif seen.jobs:
            job = seen.jobs[step.which % len(seen.jobs)]
            self.tell(step, job) if step.does == "tell" else self.take_over(step, job)

    def claim(self, step: Step, seen: Snapshot) -> None:
        """Claim one or two trials with a first rung each, and the next rung of a trial that was told."""
        taken = {trial.point for trial in seen.trials}
        points = [point for point in range(step.which, 100) if point not in taken][: 1 + step.which % 2]
        numbers = [len(seen.trials) + place for place in range(len(points))]
        last = {job.trial: job for job in seen.jobs}
        risen = [(trial, job.rung + 1) for trial, job in last.items() if job.scores is not None][: step.which % 3]
        jobs = [*((number, 0) for number in numbers), *risen]
        trials = [NewTrial(number, point, "a", {}) for number, point in zip(numbers, points, strict=True)]
        taken_in = self.studies.claim(self.study, worker=step.worker, lease=MINUTE, trials=trials, jobs=jobs)
        assert taken_in == self.model.claim(step.worker, numbers, points, jobs)

    def tell(self, step: Step, job: JobRecord) -> None:
        """Tell the job's scores, now and then others."""
        scores = (float(job.trial), float(step.which == 0))
        if self.model.tell((job.trial, job.rung), scores):
            self.studies.tell(self.study, job.trial, job.rung, scores, {"by": step.worker})
        else:
            with pytest.raises(ValueError, match="told other scores"):
                self.studies.tell(self.study, job.trial, job.rung, scores, {"by": step.worker})

    def take_over(self, step: Step, job: JobRecord) -> None:
        """Take the job over from whom this worker saw it with."""
        taken = self.studies.take_over(
            self.study, job.trial, job.rung, worker=step.worker, lease=MINUTE, was=job.worker
        )
        assert taken == self.model.take_over((job.trial, job.rung), step.worker, job.worker)

    def check(self) -> None:
        """Compare the whole study with the model."""
        snapshot = self.studies.snapshot(self.study)
        assert [trial.number for trial in snapshot.trials] == list(range(len(self.model.points)))
        assert [trial.point for trial in snapshot.trials] == self.model.points
        assert len(set(self.model.points)) == len(self.model.points)
        assert {(job.trial, job.rung): (job.worker, job.scores) for job in snapshot.jobs} == self.model.jobs


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(steps=st.lists(STEPS, max_size=25))
def test_two_workers_in_any_order(database: Database, steps: list[Step]) -> None:
    pair = Pair(*begin(database))
    for step in steps:
        pair.take(step)
        pair.check()
