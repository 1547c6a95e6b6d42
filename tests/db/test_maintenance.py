"""What is cleared away stays counted; lists and statistics say what is there."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from db.calls import CallStore
from db.database import Database
from db.maintenance import Maintenance
from db.spending import FailureRecord, Ledger, SpendingRecord, Spent
from tests.db.test_calls import record

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def failure(message: str = "The server said no.", **changes: object) -> FailureRecord:
    plain = {
        "run_id": "r-1",
        "item_id": "7",
        "node": "draft",
        "alias": "m",
        "identity": "openai/m",
        "sample_index": 2,
        "kind": "overloaded",
        "attempts": 3,
        "created_at": NOON,
    }
    return FailureRecord(message=message, **{**plain, **changes})  # type: ignore[arg-type]  # named above


async def filled(database: Database) -> CallStore:
    store = CallStore(database)
    days = [NOON - timedelta(days=age) for age in (0, 1, 40)]
    records = [
        record(f"{name}{age}", alias=name, identity=f"openai/{name}", created_at=day, run_id=run, key_label=label)
        for age, day in enumerate(days)
        for name, run, label in (("small", "r-1", "A_KEY#1"), ("large", "r-2", None))
    ]
    await store.put([*records, record("unpriced", identity="x", alias="x", cost=None, created_at=NOON, run_id="r-2")])
    return store


async def test_what_is_cleared_stays_counted(database: Database) -> None:
    store = await filled(database)
    since = NOON - timedelta(days=2)
    questions: tuple[dict[str, Any], ...] = (
        {"run_id": "r-1"},
        {"run_id": "r-2"},
        {"since": since},
        {"key_label": "A_KEY#1"},
        {},
    )
    before = [store.spent(**question) for question in questions]
    care = Maintenance(database)
    assert care.count(before=NOON - timedelta(days=30)) == 2
    assert care.clear(before=NOON - timedelta(days=30)) == 2
    assert care.clear(model="small") == 2
    assert care.clear(model="openai/nobody") == 0
    assert set(store.get(["small0", "large0", "large1", "large2", "unpriced"])) == {"large0", "large1", "unpriced"}
    assert [store.spent(**question) for question in questions] == before
    assert care.clear() == 3
    assert care.models() == ()
    assert [store.spent(**question) for question in questions] == before
    assert before[-1] == Spent(7, 77, 21, 6 * Decimal("0.000000123456789012345"), 1)
    with database.begin() as connection:
        rows = connection.execute(text("SELECT COUNT(*) FROM spending")).scalar()
    assert rows == 7, "one row for each run, key and day, the unpriced apart"
    store.close()


async def test_what_a_replaced_answer_cost_stays_counted(database: Database) -> None:
    store = CallStore(database)
    await store.put([record("a"), record("b")])
    await store.put([record("a", response='{"text":"new"}')], replace=True)
    assert store.spent("r-1").calls == 3
    assert store.get(["a"])["a"].response == '{"text":"new"}'
    store.close()


async def test_what_has_expired_is_not_found_and_gives_way(database: Database) -> None:
    now = datetime.now(UTC)
    old, young = record("a", created_at=now - timedelta(days=8)), record("b", created_at=now - timedelta(days=6))
    plain = CallStore(database)
    await plain.put([old, young])
    store = CallStore(database, expiry=timedelta(days=7))
    assert await store.find(["a", "b"]) == {"b": young}
    new = record("a", created_at=now, response='{"text":"new"}')
    assert await store.put([new, record("b", created_at=now)]) == {"b": young}
    assert plain.get(["a", "b"]) == {"a": new, "b": young}
    assert store.spent("r-1").calls == 3, "the expired answer was paid for, the second answer to b was not kept"
    store.close()
    plain.close()


async def test_the_ledger_holds_what_no_call_shows(database: Database) -> None:
    ledger, store = Ledger(database), CallStore(database)
    paid = SpendingRecord(
        run_id="r-1",
        key_label="A_KEY#1",
        calls=2,
        prompt_tokens=10,
        completion_tokens=5,
        cost=Decimal("0.25"),
        created_at=NOON,
    )
    await asyncio.gather(ledger.put(spending=[paid]), ledger.put(failures=[failure("with \x00 in it")]), ledger.put())
    assert store.spent("r-1") == store.spent(key_label="A_KEY#1") == Spent(2, 10, 5, Decimal("0.25"), 0)
    (line,) = Maintenance(database).calls()
    assert (line.status, line.kind, line.message, line.attempts) == ("failed", "overloaded", "with \ufffd in it", 3)
    store.close()


async def test_calls_are_listed_newest_first_and_chosen(database: Database) -> None:
    store = await filled(database)
    await Ledger(database).put(failures=[failure(), failure(run_id="r-9", node="rank", created_at=NOON)])
    care = Maintenance(database)
    lines = care.calls()
    assert len(lines) == 9
    assert [line.created_at for line in lines] == sorted((line.created_at for line in lines), reverse=True)
    assert {line.status for line in care.calls(run_id="r-1")} == {"ok", "failed"}
    assert {line.run_id for line in care.calls(status="failed")} == {"r-1", "r-9"}
    assert [line.run_id for line in care.calls(node="rank")] == ["r-9"]
    assert len(care.calls(model="large")) == len(care.calls(model="openai/large")) == 3
    assert len(care.calls(limit=2)) == 2
    paid = care.calls(status="ok", model="small", limit=1)[0]
    assert (paid.key, paid.prompt_tokens, paid.cost) == ("small0", 11, Decimal("0.000000123456789012345"))
    store.close()


async def test_models_are_listed_with_size_age_and_dollars(database: Database) -> None:
    store = await filled(database)
    lines = {line.identity: line for line in Maintenance(database).models()}
    small = lines["openai/small"]
    assert (small.calls, small.aliases, small.prompt_tokens, small.completion_tokens) == (3, ("small",), 33, 9)
    assert small.cost == 3 * Decimal("0.000000123456789012345")
    assert (small.oldest, small.newest) == (NOON - timedelta(days=40), NOON)
    one = record("x")
    assert small.bytes == 3 * len((one.request + one.response).encode())
    assert lines["x"].cost is None
    store.close()


async def test_clearing_leaves_the_file_to_one_that_reads_it(database: Database) -> None:
    store = await filled(database)
    if database.dialect == "postgresql":
        assert Maintenance(database).clear() == 7
    else:
        with database.begin() as reader:
            reader.exec_driver_sql("BEGIN")
            reader.execute(text('SELECT * FROM "call"')).fetchone()
            assert Maintenance(database).clear() == 7
    store.close()
