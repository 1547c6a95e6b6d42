"""Write-behind with group commit: one thread, one connection, one transaction for all that has gathered.

A writer that commits every row by itself pays the commit a thousand times a second; here rows that arrive while a
commit is under way, or within `window_s` after it, share the next one. Whoever waits is released after the commit.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from db.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

__all__ = ["Row", "Writer"]

Row = tuple[object, ...]

_GROUP_ROWS = 5_000


class _Job(NamedTuple):
    sql: str
    rows: Sequence[Row]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[bool]


class _Outcome(NamedTuple):
    job: _Job
    whole: bool
    error: BaseException | None


class Writer:
    """A thread that writes rows in groups; `write` returns once its rows are committed.

    The rows of one `write` always share a transaction. An error reaches the writer whose rows caused it and no
    other: a group that fails is repeated one by one.
    """

    def __init__(self, engine: Engine, *, name: str, window_s: float = 0.005) -> None:
        self._engine = engine
        self._name = name
        self._window_s = window_s
        self._queue: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._connection: Connection | None = None
        self._thread: threading.Thread | None = None

    async def write(self, sql: str, rows: Sequence[Row]) -> bool:
        """Execute `sql` for every row, durably; False says that some row of the group was not taken (a conflict).

        Raises `ConfigError` where the database cannot be written. Cancelling the caller does not take the rows
        back: a paid answer is kept even if nobody waits for it any more.
        """
        if not rows:
            return True
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()
        with self._wake:
            if self._closing:
                raise ConfigError(f"The database {self._name} was closed while a result was to be stored.")
            self._queue.append(_Job(sql, rows, loop, done))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="colonnade-writer", daemon=True)
                self._thread.start()
            elif len(self._queue) == 1:
                self._wake.notify()
        return await done

    def close(self) -> None:
        """Commit what is queued and end the thread; harmless when repeated."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _work(self) -> None:
        last_commit = float("-inf")
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    return
                rest = last_commit + self._window_s - time.monotonic()
                if rest > 0:
                    self._wake.wait_for(lambda: self._closing, timeout=rest)
                jobs = self._take()
            _release(self._commit(jobs))
            last_commit = time.monotonic()

    def _take(self) -> list[_Job]:
        jobs: list[_Job] = []
        rows = 0
        while self._queue and rows < _GROUP_ROWS:
            jobs.append(self._queue.popleft())
            rows += len(jobs[-1].rows)
        return jobs

    def _commit(self, jobs: list[_Job]) -> list[_Outcome]:
        try:
            return self._transaction(jobs)
        except Exception as error:  # noqa: BLE001 - whatever it is, the one who waits must hear of it
            self._drop_connection()
            if len(jobs) == 1:
                return [_Outcome(jobs[0], False, self._explained(error))]
        return [outcome for job in jobs for outcome in self._commit([job])]

    def _transaction(self, jobs: list[_Job]) -> list[_Outcome]:
        if self._connection is None:
            self._connection = self._engine.connect()
        outcomes: list[_Outcome] = []
        with self._connection.begin():
            for sql, group in itertools.groupby(jobs, key=lambda job: job.sql):
                members = list(group)
                rows = [row for job in members for row in job.rows]
                taken = self._connection.exec_driver_sql(sql, rows).rowcount
                outcomes.extend(_Outcome(job, taken == len(rows), None) for job in members)
        return outcomes

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None

    def _explained(self, error: Exception) -> BaseException:
        from sqlalchemy.exc import DBAPIError

        if isinstance(error, DBAPIError):
            reason = (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0].rstrip(".")
            wrapped = ConfigError(f"The database {self._name} could not be written: {reason}.")
            wrapped.__cause__ = error
            return wrapped
        return error


def _release(outcomes: list[_Outcome]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome.job.loop, []).append(outcome)
    for loop, group in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, group)
        except RuntimeError:
            # The loop was closed meanwhile: the rows are safe, and nobody is left to be told.
            continue


def _resolve(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        if outcome.job.done.done():
            continue
        if outcome.error is not None:
            outcome.job.done.set_exception(outcome.error)
        else:
            outcome.job.done.set_result(outcome.whole)
