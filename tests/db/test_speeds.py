"""How fast models answered, by the calls of either database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from db.calls import CallRecord, CallStore
from db.database import Database
from db.speeds import MeasuredSpeed, measured_speeds

CALL = CallRecord(
    key="0",
    identity="m",
    alias="m",
    node="n",
    item_id="i",
    run_id="r",
    sample_index=0,
    request="{}",
    response="{}",
    prompt_tokens=5,
    completion_tokens=30,
    cost=Decimal(1),
    latency_s=2.0,
    created_at=datetime.now(UTC),
)


async def test_speeds_are_those_of_the_stored_calls(database: Database) -> None:
    store = CallStore(database)
    others = [replace(CALL, key="1", latency_s=1.0), replace(CALL, key="2", alias="x", latency_s=0.0)]
    await store.put([CALL, *others])
    store.close()
    assert measured_speeds(database, ["m", "x", "y"]) == {"m": MeasuredSpeed(2, 1.5, 20.0)}
    assert measured_speeds(database, []) == {}
