"""The store of batches at providers, so that a killed process finds them again and nothing is submitted twice.

A batch goes through these states, each written before or right after what it tells of:

    made      its calls are claimed under its mark; nothing was sent but perhaps a file
    sent      the provider is being asked to create it, so that it may be there without our knowing its id
    open      the provider gave it an id
    pulled    we asked the provider to cancel it
    ended     the provider is done with it; its calls are dropped as they are stored
    lost      it never came to be, or is closed: it holds no calls any more
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from db.spending import moment_text

if TYPE_CHECKING:
    from sqlalchemy import Connection, CursorResult

    from db.database import Database

__all__ = ["BatchCall", "BatchRecord", "BatchStatus", "BatchStore"]

BatchStatus = Literal["made", "sent", "open", "pulled", "ended", "closed", "lost"]

_LIVE: tuple[BatchStatus, ...] = ("made", "sent", "open", "pulled", "ended")
_GROUP = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """A batch at a provider."""

    mark: str
    """Ours, 32 hex digits; the provider is given it too."""
    place: str
    """The batch API and the account it belongs to."""
    alias: str
    """A model of it, by which its API is found again."""
    run_id: str
    status: BatchStatus
    provider_id: str | None
    lines: int
    """Requests in it."""
    created_at: datetime
    sent_at: datetime | None
    """When the provider was asked to create it."""
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCall:
    """A sample that is asked for in a batch."""

    key: str
    mark: str
    line: int
    """The number of its request in the batch, from 0."""
    place: int
    """Its number among the samples of the request, from 0."""
    run_id: str
    item_id: str
    node: str
    sample_index: int
    request: str
    """The canonical JSON that was hashed for its key."""


_BATCH = tuple(field.name for field in fields(BatchRecord))
_CALL = tuple(field.name for field in fields(BatchCall))
_MOMENTS = ("created_at", "sent_at", "ended_at")
_INSERT = f"INSERT INTO provider_batch ({', '.join(_BATCH)}) VALUES ({', '.join('?' * len(_BATCH))})"
_INSERT_CALL = (
    f"INSERT INTO provider_batch_call ({', '.join(_CALL)}) VALUES ({', '.join('?' * len(_CALL))}) "
    "ON CONFLICT (key) DO NOTHING"
)
# What a killed process had stored before it could drop it here. In a batch that was pulled back a call may have been
# answered a second time, which is still to be booked.
_SWEEP = (
    'DELETE FROM provider_batch_call WHERE key IN (SELECT key FROM "call") '
    "AND mark IN (SELECT mark FROM provider_batch WHERE place = ? AND status <> 'pulled')"
)
_CLOSE = (
    "UPDATE provider_batch SET status = 'closed' WHERE status = 'ended' AND NOT EXISTS "
    "(SELECT 1 FROM provider_batch_call c WHERE c.mark = provider_batch.mark)"
)


def _now() -> datetime:
    return datetime.now(UTC)


class BatchStore:
    """Batches and their calls; synchronous, and safe to use from many threads and processes.

    `clock` gives the present as an aware moment.
    """

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = _now) -> None:
        self._database = database
        self._clock = clock

    def claim(self, batch: BatchRecord, calls: Sequence[BatchCall]) -> dict[str, str]:
        """Write a batch with its calls; a line of which a call stands in another batch is left out whole.

        Returns the calls that stand elsewhere already, with the marks of their batches. Where no line is left the
        batch is not written.
        """
        with self._database.begin() as connection:
            self._execute(connection, _INSERT, _batch_row(batch))
            # In the order of keys, so that two claims on one PostgreSQL do not wait for each other.
            rows = [_call_row(call) for call in sorted(calls, key=lambda call: call.key)]
            self._many(connection, _INSERT_CALL, rows)
            marks = self._marks(connection, [call.key for call in calls])
            elsewhere = {key: mark for key, mark in marks.items() if mark != batch.mark}
            if elsewhere:
                torn = {call.line for call in calls if call.key in elsewhere}
                if len(torn) == len({call.line for call in calls}):
                    return elsewhere
                drop = "DELETE FROM provider_batch_call WHERE mark = ? AND line = ?"
                self._many(connection, drop, [(batch.mark, line) for line in sorted(torn)])
            connection.commit()
        return elsewhere

    def move(
        self,
        mark: str,
        status: BatchStatus,
        *,
        was: Sequence[BatchStatus],
        provider_id: str | None = None,
        lines: int | None = None,
    ) -> bool:
        """Bring a batch into a state; False where it is in none of those that it was to be in."""
        now = self._clock()
        sets: dict[str, object] = {"status": status}
        if status in ("sent", "ended"):
            sets[f"{status}_at"] = moment_text(now)
        sets |= {"provider_id": provider_id} if provider_id is not None else {}
        sets |= {"lines": lines} if lines is not None else {}
        sql = (
            f"UPDATE provider_batch SET {', '.join(f'{name} = ?' for name in sets)} "
            f"WHERE mark = ? AND status IN ({', '.join('?' * len(was))})"
        )
        with self._database.begin() as connection:
            moved = self._execute(connection, sql, (*sets.values(), mark, *was)).rowcount == 1
            if moved and status == "lost":
                self._execute(connection, "DELETE FROM provider_batch_call WHERE mark = ?", (mark,))
            connection.commit()
        return moved

    def drop(self, keys: Sequence[str]) -> None:
        """Forget calls that are stored, failed, or to be submitted anew; ended batches without calls are closed."""
        if not keys:
            return
        with self._database.begin() as connection:
            self._many(connection, "DELETE FROM provider_batch_call WHERE key = ?", [(key,) for key in sorted(keys)])
            self._execute(connection, _CLOSE, ())
            connection.commit()

    def sweep(self, place: str) -> None:
        """Forget the calls of a place that are stored."""
        with self._database.begin() as connection:
            self._execute(connection, _SWEEP, (place,))
            self._execute(connection, _CLOSE, ())
            connection.commit()

    def get(self, mark: str) -> BatchRecord | None:
        """Return a batch, or None."""
        found = self._select("mark = ?", (mark,))
        return found[0] if found else None

    def live(self, *, place: str | None = None, run_id: str | None = None) -> tuple[BatchRecord, ...]:
        """Return the batches that may still hold calls, the oldest first."""
        given = {"place": place, "run_id": run_id}
        chosen = {name: value for name, value in given.items() if value is not None}
        conditions = [f"status IN ({', '.join('?' * len(_LIVE))})", *(f"{name} = ?" for name in chosen)]
        return self._select(" AND ".join(conditions), (*_LIVE, *chosen.values()))

    def of_run(self, run_id: str) -> tuple[BatchRecord, ...]:
        """Return all batches of a run, the oldest first."""
        return self._select("run_id = ?", (run_id,))

    def known(self, place: str) -> frozenset[str]:
        """Return the ids that the provider gave to batches of a place."""
        with self._database.begin() as connection:
            sql = "SELECT provider_id FROM provider_batch WHERE place = ? AND provider_id IS NOT NULL"
            return frozenset(str(row[0]) for row in self._execute(connection, sql, (place,)).fetchall())

    def calls(self, mark: str) -> tuple[BatchCall, ...]:
        """Return the calls of a batch that are not stored yet, in the order of lines and places."""
        sql = f"SELECT {', '.join(_CALL)} FROM provider_batch_call WHERE mark = ? ORDER BY line, place"
        with self._database.begin() as connection:
            rows = self._execute(connection, sql, (mark,)).fetchall()
        return tuple(BatchCall(**dict(zip(_CALL, row, strict=True))) for row in rows)

    def standing(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Return those of the keys that stand in a batch, with its mark."""
        with self._database.begin() as connection:
            return self._marks(connection, keys)

    def _marks(self, connection: Connection, keys: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for group in _groups(keys):
            places = ", ".join("?" * len(group))
            sql = f"SELECT key, mark FROM provider_batch_call WHERE key IN ({places})"
            rows: Sequence[Sequence[Any]] = self._execute(connection, sql, group).fetchall()
            found.update((row[0], row[1]) for row in rows)
        return found

    def _select(self, condition: str, parameters: Sequence[object]) -> tuple[BatchRecord, ...]:
        sql = f"SELECT {', '.join(_BATCH)} FROM provider_batch WHERE {condition} ORDER BY created_at, mark"
        with self._database.begin() as connection:
            return tuple(map(_batch, self._execute(connection, sql, parameters).fetchall()))

    def _many(self, connection: Connection, sql: str, rows: Iterable[tuple[object, ...]]) -> None:
        given = list(rows)
        if given:
            connection.exec_driver_sql(self._database.sql(sql), given)

    def _execute(self, connection: Connection, sql: str, parameters: Sequence[object]) -> CursorResult[Any]:
        return connection.exec_driver_sql(self._database.sql(sql), tuple(parameters))


def _groups(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), _GROUP):
        yield keys[start : start + _GROUP]


def _batch_row(batch: BatchRecord) -> tuple[object, ...]:
    values = (getattr(batch, name) for name in _BATCH)
    return tuple(moment_text(value) if isinstance(value, datetime) else value for value in values)


def _call_row(call: BatchCall) -> tuple[object, ...]:
    values = (getattr(call, name) for name in _CALL)
    # PostgreSQL has no NUL in text.
    return tuple(value.replace("\x00", "\ufffd") if isinstance(value, str) else value for value in values)


def _batch(row: Sequence[Any]) -> BatchRecord:
    values = dict(zip(_BATCH, row, strict=True))
    for name in _MOMENTS:
        values[name] = None if values[name] is None else datetime.fromisoformat(values[name])
    if values["status"] not in get_args(BatchStatus):
        raise ValueError(f"batch {values['mark']} has the unknown status {values['status']!r}")
    return BatchRecord(**values)
