"""The store of paid samples: durable before they are used, read at once, never asked for twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

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


class Spent(NamedTuple):
    """What a run has paid for."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal
    """Dollars of the calls whose price is known."""
    unpriced_calls: int


_COLUMNS = tuple(field.name for field in fields(CallRecord))
_NAMES = ", ".join(_COLUMNS)
_INSERT = f'INSERT INTO "call" ({_NAMES}) VALUES ({", ".join("?" * len(_COLUMNS))}) ON CONFLICT (key) DO '
_REPLACE = "UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])


class CallStore:
    """Calls by key. `put` returns after the durable commit; the first writer of a key wins.

    Reads on SQLite happen in the calling thread, which is quicker than leaving it; on PostgreSQL `find` leaves it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = database.sql(_INSERT + "NOTHING")
        self._replace = database.sql(_INSERT + _REPLACE)
        self._select: dict[int, str] = {}
        self._reader: PoolProxiedConnection | None = None
        self._reading = threading.Lock()

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
        return {row[0]: _record(row) for row in rows}

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
        whole = await self._database.writer.write(self._replace if replace else self._insert, rows)
        if whole or replace:
            return {}
        stored = await self.find([record.key for record in records])
        return {record.key: stored[record.key] for record in records if stored.get(record.key, record) != record}

    def spent(self, run_id: str) -> Spent:
        """Return what a run has paid for so far, for a budget that goes on after an interruption."""
        sql = self._database.sql('SELECT prompt_tokens, completion_tokens, cost FROM "call" WHERE run_id = ?')
        rows = self._read(sql, [run_id])
        costs = [Decimal(cost) for _, _, cost in rows if cost is not None]
        return Spent(
            calls=len(rows),
            prompt_tokens=sum(row[0] for row in rows),
            completion_tokens=sum(row[1] for row in rows),
            cost=sum(costs, Decimal(0)),
            unpriced_calls=len(rows) - len(costs),
        )

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
        record.created_at.astimezone(UTC).isoformat(timespec="microseconds"),
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
    )
