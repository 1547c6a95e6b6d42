"""The store of runs, architectures and item results; idempotent, so that a repeated chunk changes nothing."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from db.errors import ConfigError, did_you_mean
from db.writer import Row

if TYPE_CHECKING:
    from db.database import Database

__all__ = ["ItemRecord", "ItemStatus", "RunKind", "RunRecord", "RunStatus", "RunStore", "Used", "new_run_id"]

RunKind = Literal["batch", "evaluate", "run", "search", "watch"]
RunStatus = Literal["done", "failed", "over_budget", "running", "stopped"]
ItemStatus = Literal["failed", "ok"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One evaluation, search, batch, watch or single question."""

    id: str
    kind: RunKind
    status: RunStatus
    name: str
    architecture_id: str | None = None
    task: str | None = None
    config: str = "{}"
    """JSON: what is needed to resume the run."""
    totals: str | None = None
    """JSON: what the run came to, once it has ended."""
    started_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRecord:
    """What one architecture made of one item; used counts every sample, paid only those bought for this item."""

    run_id: str
    architecture_id: str
    item_id: str
    status: ItemStatus = "ok"
    answer: str | None = None
    output: str | None = None
    score: float | None = None
    correct: bool | None = None
    calls_used: int = 0
    calls_paid: int = 0
    prompt_tokens_used: int = 0
    completion_tokens_used: int = 0
    prompt_tokens_paid: int = 0
    completion_tokens_paid: int = 0
    cost_used: Decimal | None = None
    """Dollars; None where a price is unknown."""
    cost_paid: Decimal | None = None
    latency_s: float = 0.0
    error_class: str | None = None
    error_message: str | None = None
    trace: str = "{}"
    """JSON: the state after every node."""
    created_at: datetime


class Used(NamedTuple):
    """What the items of a run used, paid now or long before."""

    calls: int
    tokens: int
    dollars: Decimal | None
    """None where a price is unknown."""


_ITEM = tuple(field.name for field in fields(ItemRecord))
_RUN = tuple(field.name for field in fields(RunRecord))
_ITEM_KEY = ("run_id", "architecture_id", "item_id")
_PUT_ITEM = (
    f"INSERT INTO item_result ({', '.join(_ITEM)}) VALUES ({', '.join('?' * len(_ITEM))}) "
    f"ON CONFLICT ({', '.join(_ITEM_KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _ITEM if name not in _ITEM_KEY)
)
_CREATE_RUN = f"INSERT INTO run ({', '.join(_RUN)}) VALUES ({', '.join('?' * len(_RUN))}) ON CONFLICT (id) DO NOTHING"
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_run_id(now: datetime | None = None) -> str:
    """Return a short id such as `r-20261121-ab12cd` that sorts by the time of its making (to a tenth of a second)."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    tenths = int((moment.hour * 3600 + moment.minute * 60 + moment.second) * 10 + moment.microsecond // 100_000)
    clock = "".join(_ALPHABET[(tenths >> shift) & 31] for shift in (15, 10, 5, 0))
    chance = "".join(secrets.choice(_ALPHABET) for _ in range(2))
    return f"r-{moment:%Y%m%d}-{clock}{chance}"


class RunStore:
    """Runs and their item results; synchronous and quick, save `save_items`, which shares the group commit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._put_item = database.sql(_PUT_ITEM)

    def create(
        self,
        *,
        kind: RunKind,
        name: str,
        architecture_id: str | None = None,
        task: str | None = None,
        config: str = "{}",
        run_id: str | None = None,
    ) -> RunRecord:
        """Begin a run; with `run_id` an existing run of that id is returned instead (a chunk that starts twice)."""
        while True:
            record = RunRecord(
                id=run_id or new_run_id(),
                kind=kind,
                status="running",
                name=name,
                architecture_id=architecture_id,
                task=task,
                config=config,
                started_at=datetime.now(UTC),
            )
            if self._write(_CREATE_RUN, [_values(record)]) == 1:
                return record
            if run_id is not None:
                return self.get(run_id)

    def finish(self, run_id: str, status: RunStatus, *, totals: str | None = None) -> RunRecord:
        """Set a run's status and, unless it is `running` again, the moment of its end; `totals` None keeps the old."""
        ended = None if status == "running" else _moment(datetime.now(UTC))
        self._write(
            "UPDATE run SET status = ?, ended_at = ?, totals = COALESCE(?, totals) WHERE id = ?",
            [(status, ended, totals, run_id)],
        )
        return self.get(run_id)

    def note(self, run_id: str, notes: Mapping[str, object]) -> None:
        """Put notes into a run's totals, each in the place of what stood there under its name, whoever else writes."""
        read, write = "SELECT totals FROM run WHERE id = ?", "UPDATE run SET totals = ? WHERE id = ?"
        with self._database.engine.begin() as connection:
            # A change of nothing locks the row, so that what others note at the same moment is not lost.
            connection.exec_driver_sql(self._database.sql("UPDATE run SET totals = totals WHERE id = ?"), (run_id,))
            (before,) = connection.exec_driver_sql(self._database.sql(read), (run_id,)).one()
            after = orjson.dumps({**orjson.loads(before or "{}"), **notes}, default=str)
            connection.exec_driver_sql(self._database.sql(write), (after.decode(), run_id))

    def find(self, run_id: str) -> RunRecord | None:
        """Return a run, None where there is none of this id."""
        rows = self._read(f"SELECT {', '.join(_RUN)} FROM run WHERE id = ?", (run_id,))
        return _run(rows[0]) if rows else None

    def get(self, run_id: str) -> RunRecord:
        """Return a run; raises `ConfigError` with the nearest id where there is none."""
        found = self.find(run_id)
        if found is None:
            near = did_you_mean(run_id, (record.id for record in self.list(limit=200)))
            raise ConfigError(f"There is no run '{run_id}' in {self._database.url_without_password}.{near}")
        return found

    def list(self, *, limit: int = 20, kind: RunKind | None = None) -> tuple[RunRecord, ...]:
        """Return the newest runs, newest first."""
        where, parameters = ("WHERE kind = ? ", (kind, limit)) if kind else ("", (limit,))
        sql = f"SELECT {', '.join(_RUN)} FROM run {where}ORDER BY started_at DESC, id DESC LIMIT ?"
        return tuple(_run(row) for row in self._read(sql, parameters))

    def save_architecture(self, architecture_id: str, *, name: str, canonical: str) -> None:
        """Store an architecture under its hash; a second time changes nothing."""
        self._write(
            "INSERT INTO architecture (id, name, canonical, created_at) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (id) DO NOTHING",
            [(architecture_id, name, canonical, _moment(datetime.now(UTC)))],
        )

    def architecture(self, architecture_id: str) -> str | None:
        """Return the canonical JSON of a stored architecture, or None."""
        rows = self._read("SELECT canonical FROM architecture WHERE id = ?", (architecture_id,))
        return str(rows[0][0]) if rows else None

    def put_items(self, items: Iterable[ItemRecord]) -> None:
        """Store item results in one transaction; a repeated item replaces its earlier result."""
        rows = [_values(item) for item in items]
        if rows:
            self._write(_PUT_ITEM, rows)

    async def save_items(self, items: Sequence[ItemRecord]) -> None:
        """Do as `put_items` through the writer thread: the event loop stays free and the commit is shared."""
        await self._database.writer.write(self._put_item, [_values(item) for item in items])

    def items(self, run_id: str, architecture_id: str | None = None) -> tuple[ItemRecord, ...]:
        """Return a run's item results in the order of their ids."""
        where, parameters = _of(run_id, architecture_id)
        sql = f"SELECT {', '.join(_ITEM)} FROM item_result WHERE {where} ORDER BY architecture_id, item_id"
        return tuple(_item(row) for row in self._read(sql, parameters))

    def done_item_ids(
        self, run_id: str, architecture_id: str | None = None, *, include_failed: bool = True
    ) -> frozenset[str]:
        """Return the ids of the items that need not be done again."""
        where, parameters = _of(run_id, architecture_id)
        if not include_failed:
            where, parameters = f"{where} AND status = ?", (*parameters, "ok")
        return frozenset(row[0] for row in self._read(f"SELECT item_id FROM item_result WHERE {where}", parameters))

    def used(self, run_id: str) -> Used:
        """Add up what the items of a run used."""
        sums = "COALESCE(SUM(calls_used), 0), COALESCE(SUM(prompt_tokens_used + completion_tokens_used), 0)"
        calls, tokens = self._read(f"SELECT {sums} FROM item_result WHERE run_id = ?", (run_id,))[0]
        # Dollars are exact text, which no database adds up.
        costs = [row[0] for row in self._read("SELECT cost_used FROM item_result WHERE run_id = ?", (run_id,))]
        known = None if None in costs else sum(map(Decimal, costs), Decimal(0))
        return Used(int(calls), int(tokens), known)

    def scores(self, task: str, *, without: Collection[str] = ()) -> dict[str, dict[str, float]]:
        """Return what evaluations and searches on a task scored, save some of them, by architecture and item."""
        sql = (
            "SELECT r.id, i.architecture_id, i.item_id, i.score FROM item_result i JOIN run r ON r.id = i.run_id "
            "WHERE r.task = ? AND r.kind IN ('evaluate', 'search') AND i.score IS NOT NULL"
        )
        found: dict[str, dict[str, float]] = {}
        for run, architecture, item, score in self._read(sql, (task,)):
            if run not in without:
                found.setdefault(architecture, {})[item] = score
        return found

    def _read(self, sql: str, parameters: Row) -> Sequence[Sequence[Any]]:
        with self._database.engine.connect() as connection:
            return connection.exec_driver_sql(self._database.sql(sql), parameters).fetchall()

    def _write(self, sql: str, rows: Sequence[Row]) -> int:
        with self._database.engine.begin() as connection:
            return connection.exec_driver_sql(self._database.sql(sql), list(rows)).rowcount


def _of(run_id: str, architecture_id: str | None) -> tuple[str, Row]:
    if architecture_id is None:
        return "run_id = ?", (run_id,)
    return "run_id = ? AND architecture_id = ?", (run_id, architecture_id)


def _values(record: RunRecord | ItemRecord) -> Row:
    return tuple(_value(getattr(record, name)) for name in (_ITEM if isinstance(record, ItemRecord) else _RUN))


def _value(value: object) -> object:
    if isinstance(value, str):
        # PostgreSQL has no NUL in text, and a byte-level model can write one.
        return value.replace("\x00", "\ufffd")
    if isinstance(value, Decimal):
        return format(value, "f")
    return _moment(value) if isinstance(value, datetime) else value


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError(f"the moment {value.isoformat()} has no time zone")
    return value.astimezone(UTC).isoformat(timespec="microseconds")


def _run(row: Sequence[Any]) -> RunRecord:
    values = dict(zip(_RUN, row, strict=True))
    values["started_at"] = datetime.fromisoformat(values["started_at"])
    if values["ended_at"] is not None:
        values["ended_at"] = datetime.fromisoformat(values["ended_at"])
    return RunRecord(**values)


def _item(row: Sequence[Any]) -> ItemRecord:
    values = dict(zip(_ITEM, row, strict=True))
    values["created_at"] = datetime.fromisoformat(values["created_at"])
    for name in ("cost_used", "cost_paid"):
        if values[name] is not None:
            values[name] = Decimal(values[name])
    if values["correct"] is not None:
        values["correct"] = bool(values["correct"])
    return ItemRecord(**values)
