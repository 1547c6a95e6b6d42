"""Evaluations against a real server: done, repeated, resumed, stopped at a cap."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from colonnade.tables import evaluation_table
from db.errors import ConfigError
from flows.evaluate import Chunk, ChunkDone, EvaluateJob, TaskChoice, evaluate, items_left, run_chunk
from flows.session import Caps, SessionSettings, open_session
from providers.testing_server import ModelServer
from tests.helpers import write_models, write_task

VOTE = {"name": "vote", "layers": [{"generate": {"model": "m", "samples": 3, "max_tokens": 64}}, "vote"]}


def job(folder: Path, *, items: int = 12, caps: Caps | None = None, **settings: Any) -> EvaluateJob:
    session = SessionSettings(
        models=folder / "models.yaml", database_url=f"sqlite:///{folder}/db.sqlite", caps=caps or Caps()
    )
    return EvaluateJob(
        architecture=VOTE, task=TaskChoice(name=str(write_task(folder, items))), session=session, **settings
    )


async def test_a_job_is_done_once_and_then_shown_again(tmp_path: Path) -> None:
    async with ModelServer() as server:
        write_models(tmp_path, server.url)
        first_job = job(tmp_path, chunk=5)
        async with open_session(first_job.session) as session:
            first = await evaluate(first_job, session)
            served = server.ledger.calls
            again = await evaluate(first_job, session)
        assert (first.status, len(first.results), served) == ("done", 12, 36)
        assert not first.reused
        assert again.reused
        assert server.ledger.calls == served
        assert again.results == first.results
        assert again.run_id == first.run_id
        assert again.seconds == first.seconds > 0
        assert first.summary is not None
        assert first.summary.calls_used == first.summary.calls_paid == 36


async def test_a_repetition_is_a_run_of_its_own_with_the_same_samples(tmp_path: Path) -> None:
    async with ModelServer() as server:
        write_models(tmp_path, server.url)
        first_job, second_job = job(tmp_path), job(tmp_path, again=1)
        async with open_session(first_job.session) as session:
            first = await evaluate(first_job, session)
            second = await evaluate(second_job, session)
        assert second.run_id != first.run_id
        assert [r.answer for r in second.results] == [r.answer for r in first.results]
        assert second.summary is not None
        assert (second.summary.calls_used, second.summary.calls_paid) == (36, 0)
        assert server.ledger.calls == 36


async def test_fresh_samples_are_paid_anew(tmp_path: Path) -> None:
    async with ModelServer() as server:
        write_models(tmp_path, server.url)
        async with open_session(job(tmp_path).session) as session:
            await evaluate(job(tmp_path), session)
            await evaluate(job(tmp_path, fresh="held-out"), session)
        assert server.ledger.calls == 72


async def test_a_cap_stops_at_or_under_it_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    async with ModelServer(latency_s=0.01) as server:
        write_models(tmp_path, server.url)
        capped = job(tmp_path, items=20, caps=Caps(calls=31), concurrency=64)
        async with open_session(capped.session) as session:
            stopped = await evaluate(capped, session)
        assert stopped.status == "over_budget"
        assert "31" in stopped.reason
        assert server.ledger.calls <= 31
        assert 0 < len(stopped.results) < 20
        free = job(tmp_path, items=20)
        async with open_session(free.session) as session:
            assert items_left(free, session) == 20 - len(stopped.results)
            done = await evaluate(free, session)
        assert done.run_id == stopped.run_id
        assert (done.status, len(done.results)) == ("done", 20)
        assert server.ledger.calls == 60
        assert max(server.ledger.by_sample.values()) == 1


async def test_a_dollar_cap_holds(tmp_path: Path) -> None:
    async with ModelServer() as server:
        write_models(tmp_path, server.url)
        cap = Decimal("0.002")
        capped = job(tmp_path, items=20, caps=Caps(dollars=cap))
        async with open_session(capped.session) as session:
            stopped = await evaluate(capped, session)
        assert stopped.status == "over_budget"
        spent = (server.ledger.prompt_tokens + 2 * server.ledger.completion_tokens) * Decimal("1e-6")
        assert 0 < spent <= cap


async def test_a_server_that_is_not_there_is_said_before_anything_is_stored(tmp_path: Path) -> None:
    write_models(tmp_path, "http://127.0.0.1:9/v1")
    async with open_session(job(tmp_path).session) as session:
        with pytest.raises(ConfigError, match=r"127\.0\.0\.1:9"):
            await evaluate(job(tmp_path), session)


async def test_an_error_of_a_chunk_ends_the_run_as_failed(tmp_path: Path) -> None:
    async with ModelServer() as server:
        write_models(tmp_path, server.url)
        broken = job(tmp_path, chunk=4)

        async def runner(chunk: Chunk) -> ChunkDone:
            if chunk.number == 1:
                raise ConfigError("the second chunk is broken")
            return await run_chunk(chunk)

        async with open_session(broken.session) as session:
            with pytest.raises(ConfigError, match="second chunk"):
                await evaluate(broken, session, runner=runner)
            (record,) = session.runs.list()
            assert record.status == "failed"
            done = await evaluate(broken, session)
        assert (done.status, len(done.results)) == ("done", 12)


@pytest.mark.parametrize("change", [{"task": "other"}, {"architecture": "other"}, {"model": "other"}])
async def test_what_makes_a_run_another_one(tmp_path: Path, change: dict[str, str]) -> None:
    async with ModelServer(models=("test-model", "other")) as server:
        write_models(tmp_path, server.url)
        async with open_session(job(tmp_path).session) as session:
            first = await evaluate(job(tmp_path), session)
        other = job(tmp_path)
        if "task" in change:
            other = job(tmp_path, items=13)
        elif "architecture" in change:
            layers = [{"generate": {"model": "m", "samples": 4, "max_tokens": 64}}, "vote"]
            other = other.model_copy(update={"architecture": {"name": "vote", "layers": layers}})
        else:
            write_models(tmp_path, server.url, model="other")
        async with open_session(other.session) as session:
            second = await evaluate(other, session)
        assert second.run_id != first.run_id


async def test_a_limit_that_was_cut_is_recorded_with_the_run_and_shown(tmp_path: Path) -> None:
    async with ModelServer(script=[None] * 6 + ["429"]) as server:
        write_models(tmp_path, server.url)
        async with open_session(job(tmp_path).session) as session:
            done = await evaluate(job(tmp_path, items=40), session)
            stored = json.loads(session.runs.get(done.run_id).totals or "")
    assert (done.status, done.summary.failed if done.summary else None) == ("done", 0)
    (history,) = done.limits
    assert [list(change) for change in history["changes"]] == stored["limits"][0]["changes"]
    assert min(limit for _, limit, _ in history["changes"]) < 64
    assert f"Calls in flight to test-model at {history['endpoint']}" in evaluation_table([done])
