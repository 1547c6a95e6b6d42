"""Batches at providers: claimed, moved, dropped, swept, by one process and by two at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import Session, select

from db.batches import BatchCall, BatchRecord, BatchStatus, BatchStore
from db.calls import CallRecord, CallStore
from db.database import Database
from db.tables import ProviderBatchCallRow, ProviderBatchRow

NOW = datetime(2026, 11, 22, 3, 4, 5, 6, tzinfo=UTC)


def batch(mark: str = "m", **changes: object) -> BatchRecord:
    values: dict[str, object] = {
        "mark": mark,
        "place": "openai",
        "alias": "fast",
        "run_id": "r",
        "status": "made",
        "provider_id": None,
        "lines": 1,
        "created_at": NOW,
        "sent_at": None,
        "ended_at": None,
    }
    return BatchRecord(**{**values, **changes})  # type: ignore[arg-type]  # changes are named in the tests below


def call(key: str, mark: str = "m", line: int = 0, place: int = 0) -> BatchCall:
    return BatchCall(
        key=key,
        mark=mark,
        line=line,
        place=place,
        run_id="r",
        item_id="i",
        node="draft",
        sample_index=place,
        request='{"messages":[]}',
    )


@pytest.fixture
def store(database: Database) -> BatchStore:
    return BatchStore(database, clock=lambda: NOW)


def test_what_was_claimed_is_there(store: BatchStore, database: Database) -> None:
    calls = [call("a"), call("b", place=1), call("c", line=1)]
    assert store.claim(batch(lines=2), calls[::-1]) == {}
    assert store.get("m") == batch(lines=2)
    assert store.calls("m") == tuple(calls)
    assert store.standing(["a", "c", "x"]) == {"a": "m", "c": "m"}
    assert store.get("other") is None
    assert store.calls("other") == ()
    with Session(database.engine) as session:
        assert session.exec(select(ProviderBatchRow)).one().created_at == NOW
        assert {row.key for row in session.exec(select(ProviderBatchCallRow))} == {"a", "b", "c"}


def test_a_line_stands_in_one_batch_only(store: BatchStore) -> None:
    store.claim(batch(), [call("a"), call("b", place=1)])
    torn = [call("b", "n"), call("c", "n", place=1), call("d", "n", line=1)]
    assert store.claim(batch("n", lines=2), torn) == {"b": "m"}
    assert [one.key for one in store.calls("n")] == ["d"]
    assert store.standing(["c"]) == {}
    assert store.claim(batch("o"), [call("a", "o")]) == {"a": "m"}
    assert store.get("o") is None, "nothing was left of it"


def test_two_claims_at_once_share_nothing(store: BatchStore) -> None:
    keys = [f"k{n:03}" for n in range(200)]

    def claim(mark: str, order: list[str]) -> dict[str, str]:
        return store.claim(batch(mark), [call(key, mark, line) for line, key in enumerate(order)])

    with ThreadPoolExecutor(2) as threads:
        one, two = threads.submit(claim, "m", keys), threads.submit(claim, "n", keys[::-1])
        lost = [one.result(), two.result()]
    assert sorted(map(len, lost)) == [0, 200]
    assert len(set(store.standing(keys).values())) == 1


def test_a_batch_moves_only_from_where_it_is_thought_to_be(store: BatchStore) -> None:
    store.claim(batch(), [call("a")])
    assert not store.move("m", "open", was=("sent",), provider_id="p")
    assert store.move("m", "sent", was=("made",), lines=1)
    assert not store.move("m", "lost", was=("made",))
    assert store.move("m", "open", was=("sent",), provider_id="p")
    assert store.get("m") == batch(status="open", provider_id="p", sent_at=NOW)
    assert store.known("openai") == {"p"}
    assert store.known("other") == frozenset()
    assert store.move("m", "ended", was=("open", "pulled"))
    assert store.get("m") == batch(status="ended", provider_id="p", sent_at=NOW, ended_at=NOW)


def test_a_lost_batch_holds_nothing(store: BatchStore) -> None:
    store.claim(batch(), [call("a")])
    assert store.move("m", "lost", was=("made",))
    assert (store.calls("m"), store.live()) == ((), ())
    assert store.claim(batch("n"), [call("a", "n")]) == {}


def test_an_ended_batch_is_closed_with_its_last_call(store: BatchStore) -> None:
    store.claim(batch(), [call("a"), call("b", line=1)])
    store.drop(["b"])
    store.move("m", "ended", was=("made",))
    assert [one.status for one in store.live()] == ["ended"]
    store.drop([])
    store.drop(["a", "not there"])
    found = store.get("m")
    assert found is not None
    assert found.status == "closed"
    assert store.live() == ()
    assert store.of_run("r") == (found,)


def test_live_batches_by_place_and_run_in_their_order(store: BatchStore) -> None:
    later = NOW + timedelta(seconds=1)
    for one in (batch("b", created_at=later), batch("a"), batch("c", place="vllm"), batch("d", run_id="s")):
        store.claim(one, [call(f"key {one.mark}", one.mark)])
    assert [one.mark for one in store.live(place="openai")] == ["a", "d", "b"]
    assert [one.mark for one in store.live(run_id="s")] == ["d"]
    assert [one.mark for one in store.live(place="vllm", run_id="s")] == []


@pytest.mark.parametrize(("status", "left"), [("open", {"b"}), ("ended", {"b"}), ("pulled", {"a", "b"})])
async def test_what_is_stored_is_swept_away(
    store: BatchStore, database: Database, status: BatchStatus, left: set[str]
) -> None:
    """In a batch that was pulled back a stored call may have been paid a second time, which is still to be booked."""
    store.claim(batch(), [call("a"), call("b", line=1)])
    store.move("m", status, was=("made",))
    record = CallRecord(
        key="a",
        identity="openai/x",
        alias="fast",
        node="draft",
        item_id="i",
        run_id="r",
        sample_index=0,
        request="{}",
        response="{}",
        prompt_tokens=1,
        completion_tokens=1,
        cost=None,
        latency_s=1.0,
        created_at=NOW,
    )
    calls = CallStore(database)
    await calls.put([record])
    store.sweep("other")
    assert len(store.calls("m")) == 2
    store.sweep("openai")
    assert {one.key for one in store.calls("m")} == left
    calls.close()


def test_texts_without_nul(store: BatchStore) -> None:
    store.claim(batch(), [replace(call("a"), item_id="a\0")])
    assert store.calls("m")[0].item_id == "a\ufffd"


def test_a_status_of_a_newer_program_is_no_batch(store: BatchStore, database: Database) -> None:
    store.claim(batch(), [call("a")])
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE provider_batch SET status = 'frozen'")
        connection.commit()
    with pytest.raises(ValueError, match="unknown status 'frozen'"):
        store.get("m")
