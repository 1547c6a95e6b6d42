"""How fast models answered, by the calls that are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from db.database import Database

__all__ = ["MeasuredSpeed", "measured_speeds"]


class MeasuredSpeed(NamedTuple):
    """What the calls of one model took."""

    calls: int
    seconds_per_call: float
    tokens_per_s: float
    """Tokens of an answer in a second of its call, the wait for the first one included."""


def measured_speeds(database: Database, aliases: Sequence[str]) -> dict[str, MeasuredSpeed]:
    """Return how fast models answered, by alias; those without a stored call are left out."""
    if not aliases:
        return {}
    marks = ", ".join("?" * len(aliases))
    sql = (
        "SELECT alias, COUNT(*), SUM(latency_s), SUM(completion_tokens) "
        f'FROM "call" WHERE alias IN ({marks}) AND latency_s > 0 GROUP BY alias'
    )
    with database.engine.connect() as connection:
        rows = connection.exec_driver_sql(database.sql(sql), tuple(aliases)).fetchall()
    return {
        alias: MeasuredSpeed(calls, float(seconds) / calls, max(1, int(tokens)) / float(seconds))
        for alias, calls, seconds, tokens in rows
    }
