"""Batches through a provider's batch interface: level by level, at its price, in time."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from colonnade.batching import Cancelled, cancel_batch, run_batch, stored_batch_job
from db.calls import CallStore
from db.database import Database
from db.errors import ConfigError
from db.runs import RunStore
from flows.batch_job import BatchJob
from providers.testing_batch_server import BatchServer, Stages
from tests.flows.batch_support import batch_job, numbers, read_lines
from tests.providers.batching_support import Clock

THREE = {
    "name": "three",
    "layers": [
        {"generate": {"model": "m", "samples": 3, "max_tokens": 64, "seed": 1}},
        {"critique": {"model": "m", "max_tokens": 64, "temperature": 0}},
        {"fuse": {"model": "m", "max_tokens": 64, "temperature": 0}},
    ],
}


def job_of(
    folder: Path, server: BatchServer, rows: int, *, mode: str, batch: dict[str, Any], **options: Any
) -> BatchJob:
    model = {
        "transport": "openai",
        "base_url": server.url,
        "model": "test-model",
        "price": {"prompt": 1, "completion": 2},
        "capabilities": {"n": True, "seed": True},
        "batch": {"api": "openai", "poll_s": 0.05, **batch},
    }
    (folder / "models.yaml").write_text(yaml.safe_dump({"models": {"m": model}}))
    session = {"batch": mode, "batch_linger_s": 0.3}
    return batch_job(
        folder, numbers(rows), architecture=THREE, session=session, out=f"{mode}.jsonl", chunk=5_000, **options
    )


async def test_three_levels_are_three_rounds_at_half_the_price_with_the_same_answers(tmp_path: Path) -> None:
    async with BatchServer(stages=Stages(running_s=0.05), counting=False) as server:
        cheap = await run_batch(job_of(tmp_path, server, 30, mode="on", batch={}, fresh="a"), prefect=False)
        assert server.batches.batches == 3
        # Samples of their own, though with seeds they read the same.
        dear = await run_batch(job_of(tmp_path, server, 30, mode="off", batch={}, fresh="b"), prefect=False)
        assert server.batches.batches == 3
    assert cheap.spending.paid is not None
    assert dear.spending.paid is not None
    assert 2 * cheap.spending.paid == dear.spending.paid
    (saved,) = cheap.savings
    assert (saved.way, saved.dollars) == ("batch_price", cheap.spending.paid)
    rows = [read_lines(tmp_path / f"{mode}.jsonl") for mode in ("on", "off")]
    assert [row["answer"] for row in rows[0]] == [row["answer"] for row in rows[1]]


async def test_a_deadline_moves_calls_and_says_what_that_cost(tmp_path: Path) -> None:
    queue = Stages(running_s=0.05, slow_after=1, slow_s=3600)
    async with BatchServer(stages=queue, counting=False) as server:
        batch = {"expected_s": 1, "margin_s": 1}
        job = job_of(tmp_path, server, 10, mode="on", batch=batch, deadline=timedelta(seconds=6))
        async with asyncio.timeout(300):
            report = await run_batch(job, prefect=False)
    assert report.rows == 10
    moved = {saving.way: saving for saving in report.savings}["deadline"]
    assert moved.dollars is not None
    assert moved.dollars < 0
    assert "calls were made at once to meet the deadline" in moved.sentence


@pytest.mark.usefixtures("own_prefect")
@pytest.mark.xdist_group("prefect")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
async def test_a_deployment_keeps_its_deadline(tmp_path: Path) -> None:
    """A flow that opens a session of its own: a batch is expected to take an hour, and all is due in ten minutes."""
    from flows.batch_flow import batch_flow

    async with BatchServer(stages=Stages(running_s=0.05), counting=False) as server:
        job = job_of(tmp_path, server, 3, mode="on", batch={"expected_s": 3600}, deadline=timedelta(minutes=10))
        report = await batch_flow(job)
        assert (report.rows, server.batches.batches) == (3, 0)
    assert {saving.way for saving in report.savings} == {"deadline"}


async def test_a_job_that_is_under_way_is_not_cancelled(tmp_path: Path) -> None:
    """It would submit anew what is cancelled."""
    async with BatchServer(stages=Stages(running_s=3600), counting=False) as server:
        job = job_of(tmp_path, server, 2, mode="on", batch={}, deadline=timedelta(hours=20))
        running = asyncio.create_task(run_batch(job, prefect=False))
        while not server.batches.batches:
            await asyncio.wait([running], timeout=0.05)
        with Database.open(job.session.database_url) as database:
            (record,) = RunStore(database).list(kind="batch")
        with pytest.raises(ConfigError, match="would submit anew what is cancelled; stop it first"):
            await cancel_batch(record.id, job.session)
        running.cancel()
        await asyncio.wait([running])
        plain = job.model_copy(update={"session": job.session.model_copy(update={"batch": "off"}), "deadline": None})
        with pytest.raises(ConfigError, match="has 1 batches at its provider, whose rows would be paid a second time"):
            await run_batch(plain, prefect=False)
        assert server.ledger.requests == 0
        assert (await cancel_batch(record.id, job.session)).batches == 1
        assert (await run_batch(plain, prefect=False)).rows == 2
        await asyncio.to_thread(_resumable, record.id, job)


def _resumable(run_id: str, job: BatchJob) -> None:
    """A deadline belongs to batches; without them a resumption has none."""
    stored = stored_batch_job(run_id, job.session, batch="off")
    assert (stored.session.batch, stored.deadline) == ("off", None)


async def test_a_batch_that_has_not_ended_when_the_job_has_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes an hour to end once it is cancelled, so that what it answers after all is not known yet."""
    clock = Clock()
    monkeypatch.setattr("providers.batching.carrier.datetime", clock)
    async with BatchServer(stages=Stages(slow_after=0, slow_s=3600, cancelling_s=3600), counting=False) as server:
        batch = {"expected_s": 1, "margin_s": 1}
        job = job_of(tmp_path, server, 2, mode="on", batch=batch, deadline=timedelta(hours=1))
        async with asyncio.timeout(300), asyncio.TaskGroup() as tasks:
            tasks.create_task(clock.put_forward(timedelta(hours=1), lambda: server.batches.batches == 1))
            report = await run_batch(job, prefect=False)
    moved = {saving.way: saving for saving in report.savings}["deadline"]
    assert moved.sentence.startswith(f"1 batches have not ended yet ('colonnade batch cancel {report.run_id}' books")


async def test_what_stands_at_the_provider_is_cancelled_and_booked(tmp_path: Path) -> None:
    # Validated, and then out for an hour.
    async with BatchServer(stages=Stages(running_s=3600), counting=False) as server:
        job = job_of(tmp_path, server, 6, mode="on", batch={})
        running = asyncio.create_task(run_batch(job, prefect=False))
        while not server.batches.batches:
            await asyncio.wait([running], timeout=0.05)
        running.cancel()
        await asyncio.wait([running])
        with Database.open(job.session.database_url) as database:
            (record,) = RunStore(database).list(kind="batch")
        assert record.status == "stopped"
        cancelled = await cancel_batch(record.id, job.session)
        assert cancelled.batches == 1
        assert await cancel_batch(record.id, job.session) == Cancelled(0, 0, Decimal(0))
        with Database.open(job.session.database_url) as database, closing(CallStore(database)) as calls:
            assert calls.spent(record.id).calls == cancelled.calls
