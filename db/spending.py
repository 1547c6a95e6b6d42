"""What was paid: by the rows of `call`, and by those of `spending` for what no call row shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from db.writer import Row

if TYPE_CHECKING:
    from db.database import Database

__all__ = [
    "FailureRecord",
    "Ledger",
    "SpendingRecord",
    "Spent",
    "add_up",
    "moment_text",
    "spending_conditions",
    "spending_query",
]


class Spent(NamedTuple):
    """What was paid for."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal
    """Dollars of the calls whose price is known."""
    unpriced_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureRecord:
    """One sample that did not come, after all attempts; the message is clean of keys."""

    run_id: str
    item_id: str
    node: str
    alias: str
    identity: str
    sample_index: int
    kind: str
    """The error's class, as in `providers.errors`."""
    message: str
    attempts: int
    """Requests that were sent for it."""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendingRecord:
    """Something paid that is not stored as a call: the cache was off, the answer was withheld, another was first."""

    run_id: str
    key_label: str | None
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal | None
    """Dollars; None where the price is unknown."""
    created_at: datetime


_FAILURE = (
    "INSERT INTO call_failure (run_id, item_id, node, alias, identity, sample_index, kind, message, attempts, "
    "created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SPENDING = (
    "INSERT INTO spending (run_id, key_label, calls, prompt_tokens, completion_tokens, cost, created_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)


class Ledger:
    """The failures and the spending that the call store does not hold; written through the same group commit."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._failure = database.sql(_FAILURE)
        self._spending = database.sql(_SPENDING)

    async def put(self, *, failures: Sequence[FailureRecord] = (), spending: Sequence[SpendingRecord] = ()) -> None:
        """Store what failed and what was paid for nothing, durably; raises `ConfigError` as the call store does."""
        write = self._database.writer.write
        await write(self._failure, [_failure_row(one) for one in failures])
        await write(self._spending, [spending_row(one) for one in spending])


def spending_row(record: SpendingRecord) -> Row:
    """Return the row of `spending`, in the order of the insert above."""
    return (
        record.run_id,
        record.key_label,
        record.calls,
        record.prompt_tokens,
        record.completion_tokens,
        None if record.cost is None else format(record.cost, "f"),
        moment_text(record.created_at),
    )


def _failure_row(record: FailureRecord) -> Row:
    return (
        record.run_id,
        record.item_id,
        record.node,
        record.alias,
        record.identity,
        record.sample_index,
        record.kind,
        # PostgreSQL has no NUL in text.
        record.message.replace("\x00", "\ufffd"),
        record.attempts,
        moment_text(record.created_at),
    )


def moment_text(moment: datetime) -> str:
    """Write an aware moment as the tables hold it: ISO 8601 in UTC, which sorts as it reads."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def spending_conditions(run_id: str | None, since: datetime | None, key_label: str | None) -> tuple[str, list[str]]:
    """Return an SQL condition and its parameters."""
    given = (
        ("run_id = ?", run_id),
        ("created_at >= ?", None if since is None else moment_text(since)),
        ("key_label = ?", key_label),
    )
    chosen = [(condition, value) for condition, value in given if value is not None]
    return " AND ".join(condition for condition, _ in chosen) or "1 = 1", [value for _, value in chosen]


def spending_query(conditions: str) -> str:
    """Return the query that `add_up` reads: exact text of a cost, and how often it was paid.

    It takes the parameters of the condition twice.
    """
    return (
        "SELECT cost, COUNT(*), COUNT(*), SUM(prompt_tokens), SUM(completion_tokens) "
        f'FROM "call" WHERE {conditions} GROUP BY cost '
        "UNION ALL SELECT cost, COUNT(*), SUM(calls), SUM(prompt_tokens), SUM(completion_tokens) "
        f"FROM spending WHERE {conditions} GROUP BY cost"
    )


def add_up(rows: Iterable[Sequence[Any]]) -> Spent:
    """Add up what `spending_query` found."""
    calls = prompt = completion = unpriced = 0
    total = Decimal(0)
    for cost, times, samples, prompt_tokens, completion_tokens in rows:
        calls += samples
        prompt += prompt_tokens
        completion += completion_tokens
        if cost is None:
            unpriced += samples
        else:
            total += Decimal(cost) * times
    return Spent(calls, prompt, completion, total, unpriced)
