"""The call store: durable, grouped, first writer wins."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text

from db.calls import CallRecord, CallStore
from db.database import Database
from db.errors import ConfigError
from db.writer import Writer


def record(key: str, **changes: object) -> CallRecord:
    plain = CallRecord(
        key=key,
        identity="openai/m",
        alias="m",
        node="draft",
        item_id="7",
        run_id="r-1",
        sample_index=0,
        request='{"messages":[["user","héllo \\u0000"]]}',
        response='{"text":"ok"}',
        prompt_tokens=11,
        completion_tokens=3,
        cost=Decimal("0.000000123456789012345"),
        latency_s=0.25,
        created_at=datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # changes are named in the tests below


async def test_what_is_put_is_got_back_exactly(database: Database) -> None:
    store = CallStore(database)
    records = [record("a"), record("b", cost=None, tokens_estimated=True, cached_prompt_tokens=4, sample_index=9)]
    assert await store.put(records) == {}
    assert store.get(["a", "b", "c"]) == {"a": records[0], "b": records[1]}
    assert await store.find(["b"]) == {"b": records[1]}
    assert store.get([]) == {}
    assert await store.put([]) == {}
    store.close()


async def test_the_first_writer_of_a_key_wins_and_the_second_is_told(database: Database) -> None:
    store = CallStore(database)
    first, second = record("a", response="1"), record("a", response="2")
    await store.put([first])
    assert await store.put([second, record("b")]) == {"a": first}
    assert store.get(["a", "b"])["a"] == first
    assert await store.put([first]) == {}
    store.close()


async def test_replace_overwrites(database: Database) -> None:
    store = CallStore(database)
    await store.put([record("a", response="1")])
    assert await store.put([record("a", response="2")], replace=True) == {}
    assert store.get(["a"])["a"].response == "2"
    store.close()


async def test_a_thousand_waiters_share_few_transactions(database: Database) -> None:
    store, commits = CallStore(database), 0

    from sqlalchemy import event

    def count(_connection: object) -> None:
        nonlocal commits
        commits += 1

    event.listen(database.engine, "commit", count)
    async with asyncio.TaskGroup() as tasks:
        for number in range(1000):
            tasks.create_task(store.put([record(f"{number}:{part}") for part in range(2)]))
    assert len(store.get([f"{number}:0" for number in range(1000)])) == 1000
    assert 1 <= commits <= 100
    store.close()


async def test_a_result_is_committed_before_it_is_released(database: Database, url: str) -> None:
    store = CallStore(database)
    await store.put([record("a")])
    with Database.open(url) as other:
        assert CallStore(other).get(["a"])
    store.close()


async def test_a_cancelled_caller_does_not_take_its_rows_back(database: Database) -> None:
    store = CallStore(database)
    task = asyncio.create_task(store.put([record("a")]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    database.writer.close()
    assert "a" in store.get(["a"])
    store.close()


async def test_an_error_reaches_whom_it_concerns_and_nobody_else(database: Database) -> None:
    store = CallStore(database)
    bad = record("bad", item_id=None)
    async with asyncio.TaskGroup() as tasks:
        good = [tasks.create_task(store.put([record(f"g{number}")])) for number in range(20)]
        failing = tasks.create_task(_caught(store, [record("beside"), bad]))
    assert all(task.result() == {} for task in good)
    assert "could not be written" in str(failing.result())
    assert len(store.get([f"g{number}" for number in range(20)])) == 20
    assert store.get(["bad", "beside"]) == {}, "records of one put are stored together or not at all"
    store.close()


async def _caught(store: CallStore, records: list[CallRecord]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        await store.put(records)
    return caught.value


async def test_a_value_that_no_column_takes_is_refused(database: Database) -> None:
    with pytest.raises(ConfigError, match="could not be written"):
        await database.writer.write(database.sql("INSERT INTO run (id) VALUES (?)"), [(object(),)])


async def test_after_close_nothing_is_taken(database: Database) -> None:
    store = CallStore(database)
    database.close()
    with pytest.raises(ConfigError, match="was closed"):
        await store.put([record("a")])
    database.close()


def test_a_loop_that_is_gone_does_not_stop_the_writer(database: Database) -> None:
    store = CallStore(database)

    async def leave() -> None:
        task = asyncio.ensure_future(store.put([record("a")]))
        await asyncio.sleep(0)
        task.cancel()

    with database.engine.connect() as holder:
        if database.dialect == "sqlite":
            holder.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            holder.execute(text('LOCK TABLE "call" IN ACCESS EXCLUSIVE MODE'))
        asyncio.run(leave())
        holder.rollback()
    asyncio.run(_put(store, "b"))
    assert set(store.get(["a", "b"])) == {"a", "b"}
    store.close()


async def _put(store: CallStore, key: str) -> None:
    await store.put([record(key)])


def test_loops_of_several_threads_share_the_writer(database: Database) -> None:
    store = CallStore(database)
    threads = [threading.Thread(target=lambda n=n: asyncio.run(_put(store, f"t{n}"))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.get([f"t{n}" for n in range(4)])) == 4
    store.close()


async def test_spent_sums_what_a_run_paid(database: Database) -> None:
    store = CallStore(database)
    await store.put([record("a", cost=Decimal("0.1")), record("b", cost=Decimal("0.2")), record("c", cost=None)])
    await store.put([record("d", run_id="r-2")])
    spent = store.spent("r-1")
    assert (spent.calls, spent.prompt_tokens, spent.completion_tokens) == (3, 33, 9)
    assert spent.cost == Decimal("0.3")
    assert spent.unpriced_calls == 1
    assert store.spent("nobody").calls == 0
    store.close()


async def test_a_reader_that_failed_is_replaced(database: Database) -> None:
    store = CallStore(database)
    await store.put([record("a")])
    assert store.get(["a"])
    with pytest.raises(Exception, match="nowhere"):
        store._read("SELECT * FROM nowhere", [])
    assert store.get(["a"])
    store.close()


_LOAD = """
import asyncio, sys
sys.path.insert(0, {folder!r})
from test_calls import record
from db.calls import CallStore
from db.database import Database

async def main():
    store = CallStore(Database.open({url!r}))
    async def one(number):
        await store.put([record(f"{{number}}:{{part}}") for part in range(3)])
        print(number, flush=True)
    for start in range(0, 100000, 16):
        async with asyncio.TaskGroup() as tasks:
            for number in range(start, start + 16):
                tasks.create_task(one(number))
asyncio.run(main())
"""


def test_kill_9_loses_nothing_that_was_released(url: str) -> None:
    Database.open(url).close()
    program = _LOAD.format(folder=str(Path(__file__).parent), url=url)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(40)]
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate()
    said += [int(line) for line in rest.splitlines() if line.strip().isdigit() and rest.endswith("\n")]
    with Database.open(url) as database:
        store = CallStore(database)
        kept = store.get([f"{number}:{part}" for number in said for part in range(3)])
        assert len(kept) == 3 * len(set(said))
        with database.engine.connect() as connection:
            keys = connection.execute(text('SELECT key FROM "call"')).scalars().all()
        groups = [key.split(":")[0] for key in keys]
        assert all(groups.count(group) == 3 for group in set(groups)), "a put was torn apart"
        store.close()


def test_the_writer_can_be_closed_before_it_was_used(database: Database) -> None:
    Writer(database.engine, name="unused").close()
