"""The store of studies: the trials and jobs of a search, on which workers of many processes agree through the database.

No lock is held while a worker thinks. It reads a snapshot, decides, and claims what it decided; a claim that rests on
an older state meets a row that is there already and fails as a whole, and the worker reads again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from db.spending import moment_text
from db.writer import Row

if TYPE_CHECKING:
    from sqlalchemy import Connection, CursorResult

    from db.database import Database

__all__ = ["JobRecord", "NewTrial", "Snapshot", "StudyRecord", "StudyStore", "TrialRecord"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """A search over architectures; its run has the same id."""

    id: str
    domain: str
    """SHA-256 of the points that may be proposed, in hex."""
    data: str
    """SHA-256 of what they are measured on, the task and the models, in hex."""
    seed: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One architecture that is tried."""

    study_id: str
    number: int
    point: int
    """Its place in the domain; a study tries a point once."""
    architecture_id: str
    values: Mapping[str, object]
    """The point's value of each parameter, as JSON holds it."""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One rung of a trial: some items of the study's order, scored on one architecture."""

    study_id: str
    trial: int
    """The number of the trial; -1 for work of the study as a whole."""
    rung: int
    worker: str
    leased_until: datetime
    """Until when nobody else takes it over; the worker renews it."""
    scores: tuple[float, ...] | None
    """One for each item; None until told."""
    totals: Mapping[str, object] | None
    """What the job used and paid, as JSON holds it; None until told."""
    created_at: datetime
    told_at: datetime | None


class NewTrial(NamedTuple):
    """A trial that is to be claimed."""

    number: int
    point: int
    architecture_id: str
    values: Mapping[str, object]


class Snapshot(NamedTuple):
    """All of a study at one moment."""

    trials: tuple[TrialRecord, ...]
    """In the order of their numbers."""
    jobs: tuple[JobRecord, ...]
    """In the order of trial and rung."""


_STUDY = tuple(field.name for field in fields(StudyRecord))
_TRIAL = ("study_id", "number", "point", "architecture_id", "label", "created_at")
_JOB = tuple(field.name for field in fields(JobRecord))
_NEW_JOB = ("study_id", "trial", "rung", "worker", "leased_until", "created_at")
_GET = f"SELECT {', '.join(_STUDY)} FROM study WHERE id = ?"
_ONE_JOB = "study_id = ? AND trial = ? AND rung = ?"
# By default PostgreSQL shows each query a moment of its own, and SQLite's driver begins no transaction for a SELECT.
_ONE_MOMENT = {"sqlite": "BEGIN", "postgresql": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"}
# SQLite has one writer at a time anyway. PostgreSQL would see a deadlock where two claims cross on numbers and points.
_LOCK = {
    "sqlite": "SELECT id FROM study WHERE id = ?",
    "postgresql": "SELECT id FROM study WHERE id = ? FOR NO KEY UPDATE",
}


def _put(table: str, names: Sequence[str]) -> str:
    places = ", ".join("?" * len(names))
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places}) ON CONFLICT DO NOTHING"


def _now() -> datetime:
    return datetime.now(UTC)


class StudyStore:
    """Studies, trials and jobs; synchronous and quick, and safe to use from many threads and processes.

    `clock` gives the present as an aware moment: the store stamps rows and counts leases by it.
    """

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = _now) -> None:
        self._database = database
        self._clock = clock

    def create(self, study_id: str, *, domain: str, data: str, seed: int) -> StudyRecord:
        """Begin the study of the run of this id; an existing one is returned as it is.

        Raises SQLAlchemy's `IntegrityError` where there is no such run.
        """
        with self._database.begin() as connection:
            self._execute(connection, _put("study", _STUDY), (study_id, domain, data, seed, self._clock()))
            row = self._execute(connection, _GET, (study_id,)).one()
            connection.commit()
        return _study(row)

    def get(self, study_id: str) -> StudyRecord | None:
        """Return a study, or None."""
        with self._database.begin() as connection:
            row = self._execute(connection, _GET, (study_id,)).one_or_none()
        return None if row is None else _study(row)

    def snapshot(self, study_id: str) -> Snapshot:
        """Return the trials and jobs as they were at one moment; nothing where there is no such study."""
        trials_sql = f"SELECT {', '.join(_TRIAL)} FROM trial WHERE study_id = ? ORDER BY number"
        jobs_sql = f"SELECT {', '.join(_JOB)} FROM study_job WHERE study_id = ? ORDER BY trial, rung"
        with self._database.begin() as connection:
            connection.exec_driver_sql(_ONE_MOMENT[self._database.dialect])
            trials = self._execute(connection, trials_sql, (study_id,)).fetchall()
            jobs = self._execute(connection, jobs_sql, (study_id,)).fetchall()
        return Snapshot(tuple(map(_trial, trials)), tuple(map(_job, jobs)))

    def claim(
        self,
        study_id: str,
        *,
        worker: str,
        lease: timedelta,
        trials: Sequence[NewTrial] = (),
        jobs: Sequence[tuple[int, int]],
    ) -> bool:
        """Add these trials and these jobs (trial, rung), which the worker holds for the time of the lease.

        Returns False and adds nothing where a number, a point or a job is there already. Raises `ValueError` where
        there is no such study and where the claim is at odds with itself, which no new snapshot would heal.
        """
        now = self._clock()
        named: tuple[Sequence[object], ...] = ([one.number for one in trials], [one.point for one in trials], jobs)
        if any(len(set(names)) < len(names) for names in named):
            raise ValueError(f"a claim of study '{study_id}' names a number, a point or a job twice")
        new_trials = [
            (study_id, trial.number, trial.point, trial.architecture_id, _json(dict(trial.values)), now)
            for trial in trials
        ]
        new_jobs = [(study_id, trial, rung, worker, now + lease, now) for trial, rung in jobs]
        with self._database.begin() as connection:
            self._lock(connection, study_id)
            taken = self._insert(connection, _put("trial", _TRIAL), new_trials) and self._insert(
                connection, _put("study_job", _NEW_JOB), new_jobs
            )
            if taken:
                connection.commit()
        return taken

    def take_over(self, study_id: str, trial: int, rung: int, *, worker: str, lease: timedelta, was: str) -> bool:
        """Hold a job in the place of `was`; False where it is told or somebody else holds it by now.

        Whether the lease has passed is for the caller to see in its snapshot.
        """
        return self._update(
            f"UPDATE study_job SET worker = ?, leased_until = ? WHERE {_ONE_JOB} AND worker = ? AND told_at IS NULL",
            (worker, self._clock() + lease, study_id, trial, rung, was),
        )

    def renew(self, study_id: str, *, worker: str, lease: timedelta) -> None:
        """Let the lease of all untold jobs of the worker count from now."""
        self._lease(study_id, worker, self._clock() + lease)

    def release(self, study_id: str, *, worker: str) -> None:
        """Let go of the untold jobs of the worker: their lease ends now."""
        self._lease(study_id, worker, self._clock())

    def tell(self, study_id: str, trial: int, rung: int, scores: Sequence[float], totals: Mapping[str, object]) -> None:
        """Keep what a job came to, whoever holds it; a second time changes nothing, the first totals and time stay.

        Raises `ValueError` where there is no such job, where other scores were told, and for a score that is no finite
        number.
        """
        told = tuple(map(float, scores))
        if not all(map(math.isfinite, told)):
            raise ValueError(f"trial {trial} of study '{study_id}' has a score on rung {rung} that is no finite number")
        job: Row = (study_id, trial, rung)
        sql = f"UPDATE study_job SET scores = ?, totals = ?, told_at = ? WHERE {_ONE_JOB} AND told_at IS NULL"
        if self._update(sql, (_json(told), _json(dict(totals)), self._clock(), *job)):
            return
        with self._database.begin() as connection:
            rows = self._execute(connection, f"SELECT scores FROM study_job WHERE {_ONE_JOB}", job).fetchall()
        if not rows:
            raise ValueError(f"study '{study_id}' has no job for rung {rung} of trial {trial}")
        if tuple(json.loads(rows[0][0])) != told:
            raise ValueError(f"trial {trial} of study '{study_id}' was told other scores on rung {rung} before")

    def _lease(self, study_id: str, worker: str, until: datetime) -> None:
        with self._database.begin() as connection:
            # A renewal and a release of one worker, in two threads, could take the same rows in different order.
            self._lock(connection, study_id)
            sql = "UPDATE study_job SET leased_until = ? WHERE study_id = ? AND worker = ? AND told_at IS NULL"
            self._execute(connection, sql, (until, study_id, worker))
            connection.commit()

    def _lock(self, connection: Connection, study_id: str) -> None:
        if not self._execute(connection, _LOCK[self._database.dialect], (study_id,)).fetchall():
            raise ValueError(f"there is no study '{study_id}'")

    def _insert(self, connection: Connection, sql: str, rows: Sequence[Row]) -> bool:
        return all(self._execute(connection, sql, row).rowcount == 1 for row in rows)

    def _update(self, sql: str, parameters: Row) -> bool:
        with self._database.begin() as connection:
            changed = self._execute(connection, sql, parameters).rowcount == 1
            connection.commit()
        return changed

    def _execute(self, connection: Connection, sql: str, parameters: Row) -> CursorResult[Any]:
        return connection.exec_driver_sql(self._database.sql(sql), tuple(map(_value, parameters)))


def _value(value: object) -> object:
    if isinstance(value, str):
        # PostgreSQL has no NUL in text.
        return value.replace("\x00", "\ufffd")
    return moment_text(value) if isinstance(value, datetime) else value


def _json(value: object) -> str:
    return json.dumps(value, allow_nan=False)


def _study(row: Sequence[Any]) -> StudyRecord:
    values = dict(zip(_STUDY, row, strict=True))
    return StudyRecord(**{**values, "created_at": datetime.fromisoformat(values["created_at"])})


def _trial(row: Sequence[Any]) -> TrialRecord:
    values = dict(zip(_TRIAL, row, strict=True))
    values["values"] = json.loads(values.pop("label"))
    return TrialRecord(**{**values, "created_at": datetime.fromisoformat(values["created_at"])})


def _job(row: Sequence[Any]) -> JobRecord:
    values = dict(zip(_JOB, row, strict=True))
    for name in ("leased_until", "created_at", "told_at"):
        if values[name] is not None:
            values[name] = datetime.fromisoformat(values[name])
    if values["told_at"] is not None:
        values["scores"] = tuple(json.loads(values["scores"]))
        values["totals"] = json.loads(values["totals"])
    return JobRecord(**values)
