"""Looking into the store of calls and clearing it: lists, statistics, pruning by age.

What is cleared was paid nevertheless: its spending moves to the table `spending`, so that the caps of days and keys
and the sums of runs stay what they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from db.spending import SpendingRecord, moment_text, spending_row

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from db.database import Database

__all__ = ["CacheLine", "CallLine", "CallStatus", "Maintenance"]

CallStatus = Literal["failed", "ok"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLine:
    """What the store holds of one model."""

    identity: str
    aliases: tuple[str, ...]
    calls: int
    bytes: int
    """Of requests and answers; the database's own overhead comes on top."""
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal | None
    """Dollars that were paid for it; None where a price is unknown."""
    oldest: datetime
    newest: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLine:
    """One call of a listing, paid or failed."""

    status: CallStatus
    created_at: datetime
    run_id: str
    item_id: str
    node: str
    alias: str
    identity: str
    sample_index: int
    key: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal | None = None
    latency_s: float | None = None
    kind: str | None = None
    """The class of the error, of a call that failed."""
    message: str | None = None
    attempts: int | None = None


_OK = (
    "SELECT 'ok', created_at, run_id, item_id, node, alias, identity, sample_index, key, prompt_tokens, "
    'completion_tokens, cost, latency_s, NULL, NULL, NULL FROM "call"'
)
_FAILED = (
    "SELECT 'failed', created_at, run_id, item_id, node, alias, identity, sample_index, NULL, 0, 0, NULL, NULL, "
    "kind, message, attempts FROM call_failure"
)
_MODELS = (
    "SELECT identity, alias, cost, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens), MIN(created_at), "
    'MAX(created_at), SUM({size}) FROM "call" GROUP BY identity, alias, cost'
)
_SIZE = {
    "sqlite": "LENGTH(CAST(request AS BLOB)) + LENGTH(CAST(response AS BLOB))",
    "postgresql": "OCTET_LENGTH(request) + OCTET_LENGTH(response)",
}
_SPENT = (
    "SELECT run_id, key_label, SUBSTR(created_at, 1, 10), cost, COUNT(*), SUM(prompt_tokens), SUM(completion_tokens), "
    'MAX(created_at) FROM "call" WHERE {where} GROUP BY run_id, key_label, SUBSTR(created_at, 1, 10), cost'
)
_SPENDING = (
    "INSERT INTO spending (run_id, key_label, calls, prompt_tokens, completion_tokens, cost, created_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)


class Maintenance:
    """What the commands `cache` and `calls` do; synchronous."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def calls(
        self,
        *,
        run_id: str | None = None,
        node: str | None = None,
        model: str | None = None,
        status: CallStatus | None = None,
        limit: int = 50,
    ) -> tuple[CallLine, ...]:
        """Return the newest calls, newest first; `model` is an alias or an identity."""
        given = (("run_id = ?", run_id), ("node = ?", node), ("(alias = ? OR identity = ?)", model))
        where = " AND ".join(condition for condition, value in given if value is not None) or "1 = 1"
        parameters = [value for value in (run_id, node, model, model) if value is not None]
        chosen = [query for query, kind in ((_OK, "ok"), (_FAILED, "failed")) if status in (None, kind)]
        found: list[CallLine] = []
        with self._database.begin() as connection:
            for query in chosen:
                sql = f"{query} WHERE {where} ORDER BY created_at DESC LIMIT ?"
                found += (_call_line(row) for row in self._execute(connection, sql, [*parameters, limit]))
        found.sort(key=lambda line: line.created_at, reverse=True)
        return tuple(found[:limit])

    def models(self) -> tuple[CacheLine, ...]:
        """Return what is stored by model, the largest first."""
        with self._database.begin() as connection:
            rows = self._execute(connection, _MODELS.format(size=_SIZE[self._database.dialect]), [])
        groups: dict[str, list[Sequence[Any]]] = {}
        for row in rows:
            groups.setdefault(row[0], []).append(row)
        lines = [_cache_line(identity, group) for identity, group in groups.items()]
        return tuple(sorted(lines, key=lambda line: (-line.bytes, line.identity)))

    def count(self, *, before: datetime | None = None, model: str | None = None) -> int:
        """Count what `clear` would take away."""
        where, parameters = _chosen(before, model)
        with self._database.begin() as connection:
            rows = self._execute(connection, f'SELECT COUNT(*) FROM "call" WHERE {where}', parameters)
        return int(rows[0][0])

    def clear(self, *, before: datetime | None = None, model: str | None = None) -> int:
        """Take stored calls away, of before a moment, of one model, or all; returns how many.

        Their spending is kept, in the same transaction. SQLite's file shrinks where nobody else uses it.
        """
        where, parameters = _chosen(before, model)
        with self._database.begin() as connection:
            if self._database.dialect == "sqlite":
                # Without it a call that is stored between the two statements would go without its spending.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql('LOCK TABLE "call" IN SHARE ROW EXCLUSIVE MODE')
            records = _spending(self._execute(connection, _SPENT.format(where=where), parameters))
            if records:
                rows = [spending_row(record) for record in records]
                connection.exec_driver_sql(self._database.sql(_SPENDING), rows)
            sql = self._database.sql(f'DELETE FROM "call" WHERE {where}')
            gone = connection.exec_driver_sql(sql, tuple(parameters)).rowcount
            connection.commit()
        if gone and self._database.dialect == "sqlite":
            self._shrink()
        return gone

    def _shrink(self) -> None:
        from sqlalchemy.exc import OperationalError

        with self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            try:
                connection.exec_driver_sql("PRAGMA busy_timeout=1000")
                connection.exec_driver_sql("VACUUM")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            except OperationalError as error:
                # The room stays in the file and is used again; another process that is at work comes first.
                if "locked" not in str(error.orig) and "busy" not in str(error.orig):
                    raise
            finally:
                connection.exec_driver_sql("PRAGMA busy_timeout=30000")

    def _execute(self, connection: Connection, sql: str, parameters: Sequence[object]) -> Sequence[Sequence[Any]]:
        return connection.exec_driver_sql(self._database.sql(sql), tuple(parameters)).fetchall()


def _chosen(before: datetime | None, model: str | None) -> tuple[str, list[object]]:
    given: list[tuple[str, list[object]]] = []
    if before is not None:
        given.append(("created_at < ?", [moment_text(before)]))
    if model is not None:
        given.append(("(alias = ? OR identity = ?)", [model, model]))
    where = " AND ".join(condition for condition, _ in given) or "1 = 1"
    return where, [value for _, values in given for value in values]


def _spending(rows: Iterable[Sequence[Any]]) -> list[SpendingRecord]:
    """Gather what is to be cleared by run, key and day, the calls of unknown price apart."""
    sums: dict[tuple[object, ...], SpendingRecord] = {}
    for run_id, key_label, day, cost, calls, prompt_tokens, completion_tokens, newest in rows:
        place = (run_id, key_label, day, cost is None)
        old = sums.get(place)
        dollars = None if cost is None else Decimal(cost) * calls
        if old is not None and old.cost is not None and dollars is not None:
            dollars += old.cost
        moment = datetime.fromisoformat(newest)
        sums[place] = SpendingRecord(
            run_id=run_id,
            key_label=key_label,
            calls=calls + (old.calls if old else 0),
            prompt_tokens=prompt_tokens + (old.prompt_tokens if old else 0),
            completion_tokens=completion_tokens + (old.completion_tokens if old else 0),
            cost=dollars,
            created_at=max(moment, old.created_at) if old else moment,
        )
    return list(sums.values())


def _cache_line(identity: str, rows: Sequence[Sequence[Any]]) -> CacheLine:
    costs = [None if row[2] is None else Decimal(row[2]) * row[3] for row in rows]
    known = [cost for cost in costs if cost is not None]
    return CacheLine(
        identity=identity,
        aliases=tuple(sorted({row[1] for row in rows})),
        calls=sum(row[3] for row in rows),
        bytes=int(sum(row[8] for row in rows)),
        prompt_tokens=int(sum(row[4] for row in rows)),
        completion_tokens=int(sum(row[5] for row in rows)),
        cost=sum(known, Decimal(0)) if len(known) == len(costs) else None,
        oldest=datetime.fromisoformat(min(row[6] for row in rows)),
        newest=datetime.fromisoformat(max(row[7] for row in rows)),
    )


def _call_line(row: Sequence[Any]) -> CallLine:
    return CallLine(
        status=row[0],
        created_at=datetime.fromisoformat(row[1]),
        run_id=row[2],
        item_id=row[3],
        node=row[4],
        alias=row[5],
        identity=row[6],
        sample_index=row[7],
        key=row[8],
        prompt_tokens=row[9],
        completion_tokens=row[10],
        cost=None if row[11] is None else Decimal(row[11]),
        latency_s=row[12],
        kind=row[13],
        message=row[14],
        attempts=row[15],
    )
