"""What a watch reads of a run: the measures of its items, the models that served it, its greedy answers.

No traces are read, which are most of a run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from db.database import Database

__all__ = ["CallsSeen", "Measure", "calls_seen", "measures"]


class Measure(NamedTuple):
    """One item of a run in numbers; a failed item scores 0."""

    score: float
    failed: bool
    calls: int
    tokens: int
    dollars: float | None
    """None where a price is unknown."""


class CallsSeen(NamedTuple):
    """What the calls show that a run paid itself, so far as they are still stored."""

    served: Mapping[str, frozenset[str]]
    """The names under which the replies say that a model answered, by alias."""
    greedy: Mapping[str, str]
    """Hash of the answer to every sample at temperature 0 or with a seed, by hash of what was asked."""


def measures(database: Database, run_id: str) -> dict[str, Measure]:
    """Return the measures of a run's items."""
    sql = (
        "SELECT item_id, score, status, calls_used, prompt_tokens_used + completion_tokens_used, cost_used "
        "FROM item_result WHERE run_id = ?"
    )
    return {
        item: Measure(score or 0.0, status == "failed", calls, tokens, None if cost is None else float(cost))
        for item, score, status, calls, tokens, cost in _read(database, sql, run_id)
    }


def calls_seen(database: Database, run_id: str) -> CallsSeen:
    """Look through the calls that a run paid."""
    served: dict[str, set[str]] = {}
    greedy: dict[str, str] = {}
    sql = 'SELECT alias, sample_index, request, response FROM "call" WHERE run_id = ?'
    for alias, index, request, response in _read(database, sql, run_id):
        replied = orjson.loads(response)
        if name := replied.get("served_model"):
            served.setdefault(alias, set()).add(name)
        if asked := _greedy(request):
            greedy[_short(b"%d %b" % (index, asked))] = _short(str(replied.get("text")).encode("utf-8", "replace"))
    return CallsSeen({alias: frozenset(names) for alias, names in served.items()}, greedy)


def _greedy(request: str) -> bytes | None:
    """Return what was asked without the name of the series of samples, or None where chance decides the answer."""
    body = orjson.loads(request)
    sampling = body.get("sampling", {})
    if (sampling.get("temperature") != 0 and "seed" not in sampling) or "score" in body:
        return None
    body.pop("fresh", None)
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _read(database: Database, sql: str, run_id: str) -> Sequence[Sequence[Any]]:
    with database.engine.connect() as connection:
        return connection.exec_driver_sql(database.sql(sql), (run_id,)).fetchall()
