"""The store of paid samples: durable before they are used, read at once, never asked for twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from db.spending import Spent, add_up, moment_text, spending_conditions, spending_query
from db.writer import Row

if TYPE_CHECKING:
    from sqlalchemy import PoolProxiedConnection

    from db.database import Database

__all__ = ["CallRecord", "CallStore", "Spent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One paid sample as it is stored; `request` and `response` are JSON without secrets."""

    key: str
    """SHA-256 in hex of everything that determines the sample, its index included."""
    identity: str
    """The model as it enters the key."""
    alias: str
    """The model as the user named it."""
    node: str
    item_id: str
    run_id: str
    """The run that paid."""
    sample_index: int
    request: str
    response: str
    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int = 0
    tokens_estimated: bool = False
    cost: Decimal | None
    """Dollars; None where the price is unknown."""
    latency_s: float
    created_at: datetime
    """Aware, UTC."""
    key_label: str | None = None
    """What stands for the API key that paid; never the key."""


_COLUMNS = tuple(field.name for field in fields(CallRecord))
_NAMES = ", ".join(_COLUMNS)
_INSERT = f'INSERT INTO "call" ({_NAMES}) VALUES ({", ".join("?" * len(_COLUMNS))}) ON CONFLICT (key) DO '
_REPLACE = "UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
_MOVE = (
    "INSERT INTO spending (run_id, key_label, calls, prompt_tokens, completion_tokens, cost, created_at) "
    "SELECT run_id, key_label, 1, prompt_tokens, completion_tokens, cost, created_at "
    'FROM "call" WHERE key = ? AND created_at < ?'
)


class CallStore:
    """Calls by key. `put` returns after the durable commit; the first writer of a key wins.

    `expiry` hides what is older: it is not found, and a new answer takes its place. Reads on SQLite happen in the
    calling thread, which is quicker than leaving it; on PostgreSQL `find` leaves it.
    """

    def __init__(self, database: Database, *, expiry: timedelta | None = None) -> None:
        self.expiry = expiry
        self._database = database
        self._insert = database.sql(_INSERT + "NOTHING")
        self._replace = database.sql(f'{_INSERT}{_REPLACE} WHERE "call".created_at < ?')
        self._move = database.sql(_MOVE)
        self._select: dict[int, str] = {}
        self._reader: PoolProxiedConnection | None = None
        self._reading = threading.Lock()

    @property
    def database(self) -> Database:
        """The database that holds the calls."""
        return self._database

    def get(self, keys: Sequence[str]) -> dict[str, CallRecord]:
        """Return what is stored of `keys`, in one query."""
        if not keys:
            return {}
        sql = self._select.get(len(keys))
        if sql is None:
            marks = ", ".join("?" * len(keys))
            sql = self._database.sql(f'SELECT {_NAMES} FROM "call" WHERE key IN ({marks})')
            self._select[len(keys)] = sql
        rows = self._read(sql, keys)
        if self.expiry is None:
            return {row[0]: _record(row) for row in rows}
        oldest = datetime.now(UTC) - self.expiry
        return {row[0]: record for row in rows if (record := _record(row)).created_at >= oldest}

    async def find(self, keys: Sequence[str]) -> dict[str, CallRecord]:
        """Do as `get` without keeping the event loop waiting for a server."""
        if self._database.dialect == "sqlite":
            return self.get(keys)
        return await asyncio.to_thread(self.get, keys)

    async def put(self, records: Sequence[CallRecord], *, replace: bool = False) -> dict[str, CallRecord]:
        """Store records that belong together in one transaction and return after the commit.

        Returns the records that another writer had stored before under the same keys: those stand, and ours were
        dropped. With `replace` ours stand. Raises `ConfigError` where the database cannot be written.
        """
        rows = [_row(record) for record in records]
        write = self._database.writer.write
        if replace:
            await self._replace_older(rows, datetime.max.replace(tzinfo=UTC))
            return {}
        if self.expiry is not None:
            whole = await self._replace_older(rows, datetime.now(UTC) - self.expiry)
        else:
            whole = await write(self._insert, rows)
        if whole:
            return {}
        stored = await self.find([record.key for record in records])
        return {record.key: stored[record.key] for record in records if stored.get(record.key, record) != record}

    def spent(self, run_id: str | None = None, *, since: datetime | None = None, key_label: str | None = None) -> Spent:
        """Return what was paid by a run, since a moment, with a key; what no call row shows any more included."""
        conditions, parameters = spending_conditions(run_id, since, key_label)
        return add_up(self._read(self._database.sql(spending_query(conditions)), [*parameters, *parameters]))

    async def _replace_older(self, rows: Sequence[Row], moment: datetime) -> bool:
        """Store rows in the place of those of before a moment, whose spending is kept."""
        before = moment_text(moment)
        await self._database.writer.write(self._move, [(row[0], before) for row in rows])
        return await self._database.writer.write(self._replace, [(*row, before) for row in rows])

    def close(self) -> None:
        """Give back the reading connection; what `put` was given is drained by `Database.close`."""
        with self._reading:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def _read(self, sql: str, parameters: Sequence[str]) -> list[Any]:
        with self._reading:
            reader = self._reader or self._database.engine.raw_connection()
            # Kept only after a success: a connection that failed (a restarted server) is not used again.
            self._reader = None
            try:
                cursor = reader.cursor()
                cursor.execute(sql, tuple(parameters))
                rows = list(cursor.fetchall())
                cursor.close()
                if self._database.dialect != "sqlite":
                    # Ends the transaction that the driver opened, so that the next read sees what is new.
                    reader.rollback()
            except BaseException:
                reader.invalidate()
                raise
            self._reader = reader
            return rows


def _row(record: CallRecord) -> Row:
    return (
        record.key,
        record.identity,
        record.alias,
        record.node,
        record.item_id,
        record.run_id,
        record.sample_index,
        record.request,
        record.response,
        record.prompt_tokens,
        record.completion_tokens,
        record.cached_prompt_tokens,
        record.tokens_estimated,
        None if record.cost is None else format(record.cost, "f"),
        record.latency_s,
        moment_text(record.created_at),
        record.key_label,
    )


def _record(row: Sequence[Any]) -> CallRecord:
    return CallRecord(
        key=row[0],
        identity=row[1],
        alias=row[2],
        node=row[3],
        item_id=row[4],
        run_id=row[5],
        sample_index=row[6],
        request=row[7],
        response=row[8],
        prompt_tokens=row[9],
        completion_tokens=row[10],
        cached_prompt_tokens=row[11],
        tokens_estimated=bool(row[12]),
        cost=None if row[13] is None else Decimal(row[13]),
        latency_s=row[14],
        created_at=datetime.fromisoformat(row[15]),
        key_label=row[16],
    )
