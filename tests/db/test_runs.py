"""Runs, architectures and item results."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import IntegrityError

from db.database import Database
from db.errors import ConfigError
from db.runs import ItemRecord, RunStore, new_run_id
from db.tables import UtcText

NOW = datetime(2026, 11, 21, 23, 59, 59, 5, tzinfo=UTC)


def item(run_id: str, item_id: str, **changes: object) -> ItemRecord:
    values: dict[str, object] = {"run_id": run_id, "architecture_id": "arch", "item_id": item_id, "created_at": NOW}
    return ItemRecord(**{**values, **changes})  # type: ignore[arg-type]  # changes are named in the tests below


def test_ids_are_short_and_sort_by_time() -> None:
    start = datetime(2026, 11, 21, 0, 0, tzinfo=UTC)
    ids = [new_run_id(start + timedelta(minutes=7 * step)) for step in range(200)]
    assert ids == sorted(ids)
    assert ids[0].startswith("r-20261121-0000")
    assert {len(made) for made in ids} == {17}
    assert new_run_id(datetime(2026, 11, 22, 1, 0, tzinfo=timezone(timedelta(hours=2)))).startswith("r-20261121-")


def test_a_run_from_beginning_to_end(database: Database) -> None:
    runs = RunStore(database)
    run = runs.create(kind="evaluate", name="vote", architecture_id="arch", task="gsm8k", config='{"n":1}')
    assert runs.get(run.id) == run
    assert run.status == "running"
    stopped = runs.finish(run.id, "stopped", totals='{"items":3}')
    assert (stopped.status, stopped.totals) == ("stopped", '{"items":3}')
    assert stopped.ended_at is not None
    again = runs.finish(run.id, "running")
    assert (again.ended_at, again.totals) == (None, '{"items":3}')


def test_no_note_is_lost_to_another_that_is_written_at_once(database: Database) -> None:
    runs = RunStore(database)
    run = runs.create(kind="search", name="x")
    barrier = threading.Barrier(4)

    def note(worker: int) -> None:
        barrier.wait(300)
        for number in range(10):
            runs.note(run.id, {f"{worker} {number}": number, "last": worker})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(note, range(4)))
    noted = json.loads(runs.get(run.id).totals or "")
    assert len(noted) == 41
    assert noted["3 9"] == 9
    assert runs.get(run.id).status == "running"


def test_a_run_of_a_given_id_is_created_once(database: Database) -> None:
    runs = RunStore(database)
    first = runs.create(kind="batch", name="one", run_id="r-mine")
    assert runs.create(kind="batch", name="two", run_id="r-mine") == first


def test_an_unknown_run_names_the_nearest(database: Database) -> None:
    runs = RunStore(database)
    runs.create(kind="run", name="x", run_id="r-20261121-abcdef")
    with pytest.raises(ConfigError, match=r"no run 'r-20261121-abcdee'.*Did you mean 'r-20261121-abcdef'"):
        runs.get("r-20261121-abcdee")


def test_runs_are_listed_newest_first(database: Database) -> None:
    runs = RunStore(database)
    made = [runs.create(kind="search" if number % 2 else "run", name=str(number)).id for number in range(5)]
    assert [run.id for run in runs.list(limit=3)] == made[:1:-1]
    assert [run.name for run in runs.list(kind="search")] == ["3", "1"]


def test_an_architecture_is_stored_once(database: Database) -> None:
    runs = RunStore(database)
    assert runs.architecture("h") is None
    runs.save_architecture("h", name="vote", canonical='{"a":1}')
    runs.save_architecture("h", name="other", canonical="{}")
    assert runs.architecture("h") == '{"a":1}'


async def test_items_come_back_exactly_and_a_repeat_replaces(database: Database) -> None:
    runs = RunStore(database)
    run = runs.create(kind="evaluate", name="x").id
    full = item(
        run,
        "b",
        answer="42",
        output="so \x00 it is 42",
        score=0.5,
        correct=True,
        calls_used=3,
        calls_paid=2,
        prompt_tokens_used=30,
        cost_used=Decimal("0.00000012345678901234"),
        cost_paid=None,
        latency_s=1.5,
        trace='{"nodes":{}}',
    )
    runs.put_items([full, item(run, "a", status="failed", error_class="InsufficientCandidates", correct=False)])
    got = runs.items(run)
    assert [found.item_id for found in got] == ["a", "b"]
    assert got[1] == replace(full, output="so \ufffd it is 42")
    await runs.save_items([item(run, "a", correct=True)])
    runs.put_items([])
    assert [found.correct for found in runs.items(run)] == [True, True]
    assert len(runs.items(run, "arch")) == 2
    assert runs.items(run, "other") == ()


def test_done_items(database: Database) -> None:
    runs = RunStore(database)
    run = runs.create(kind="evaluate", name="x").id
    runs.put_items([item(run, "a"), item(run, "b", status="failed"), item(run, "c", architecture_id="other")])
    assert runs.done_item_ids(run) == {"a", "b", "c"}
    assert runs.done_item_ids(run, "arch") == {"a", "b"}
    assert runs.done_item_ids(run, "arch", include_failed=False) == {"a"}


def test_an_item_needs_its_run(database: Database) -> None:
    with pytest.raises(IntegrityError):
        RunStore(database).put_items([item("r-nobody", "a")])


def test_a_moment_without_a_zone_is_refused(database: Database) -> None:
    runs = RunStore(database)
    run = runs.create(kind="evaluate", name="x").id
    naive = NOW.replace(tzinfo=None)
    with pytest.raises(ValueError, match="no time zone"):
        runs.put_items([item(run, "a", created_at=naive)])
    with pytest.raises(ValueError, match="no time zone"):
        UtcText().process_bind_param(naive, sqlite.dialect())


def test_rows_of_sqlmodel_read_the_same_moments(database: Database) -> None:
    from sqlmodel import Session, select

    from db.tables import ItemResultRow, RunRow

    runs = RunStore(database)
    run = runs.create(kind="evaluate", name="x")
    runs.put_items([item(run.id, "a")])
    with Session(database.engine) as session:
        assert session.exec(select(ItemResultRow)).one().created_at == NOW
        row = session.exec(select(RunRow)).one()
        assert (row.started_at, row.ended_at) == (run.started_at, None)
        session.add(RunRow(id="r-2", kind="run", status="done", name="y", config="{}", started_at=NOW, ended_at=NOW))
        session.commit()
    assert runs.get("r-2").ended_at == NOW
