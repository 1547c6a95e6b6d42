"""What a watch reads of a run, from both kinds of database."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import orjson

from db.calls import CallRecord, CallStore
from db.database import Database
from db.looks import calls_seen, measures
from db.runs import ItemRecord, RunStore

NOW = datetime(2026, 11, 22, 6, tzinfo=UTC)


def call(number: int, *, index: int = 0, text: str = "4", served: str | None = "m-1", **body: object) -> CallRecord:
    """Make the record of a call of run `r`."""
    request = {"identity": "m", "messages": [["user", "2 + 2"]], **body}
    response = {"text": text, "finish_reason": "stop", **({"served_model": served} if served else {})}
    return CallRecord(
        key=f"{number:064x}",
        identity="m",
        alias="m",
        node="generate",
        item_id="i",
        run_id="r",
        sample_index=index,
        request=orjson.dumps(request).decode(),
        response=orjson.dumps(response).decode(),
        prompt_tokens=1,
        completion_tokens=1,
        cost=None,
        latency_s=0.1,
        created_at=NOW,
    )


def test_items_are_read_in_numbers(database: Database) -> None:
    runs = RunStore(database)
    runs.create(kind="evaluate", name="x", run_id="r")
    plain = ItemRecord(
        run_id="r",
        architecture_id="a",
        item_id="i1",
        score=0.5,
        calls_used=3,
        prompt_tokens_used=20,
        completion_tokens_used=5,
        cost_used=Decimal("0.0000125"),
        created_at=NOW,
    )
    broken = ItemRecord(run_id="r", architecture_id="a", item_id="i2", status="failed", created_at=NOW)
    runs.put_items([plain, broken])
    assert measures(database, "r") == {"i1": (0.5, False, 3, 25, 0.0000125), "i2": (0.0, True, 0, 0, None)}
    assert measures(database, "another") == {}


async def test_greedy_answers_are_known_by_what_was_asked_whatever_the_series(database: Database) -> None:
    calls = CallStore(database)
    cold = {"temperature": 0.0}
    await calls.put(
        [
            call(1, sampling=cold, fresh="look 1"),
            call(2, sampling=cold, fresh="look 2", served="m-2"),
            call(3, sampling={"seed": 7, "temperature": 1.0}, index=1, text="5", served=None),
            call(4, sampling={"temperature": 1.0}),
            call(5),
            call(6, sampling=cold, score="yes"),
        ]
    )
    calls.close()
    seen = calls_seen(database, "r")
    assert seen.served == {"m": {"m-1", "m-2"}}
    assert len(seen.greedy) == 2
    assert len(set(seen.greedy.values())) == 2
    assert calls_seen(database, "another") == ({}, {})
