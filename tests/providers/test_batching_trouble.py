"""What goes wrong on the way to a batch and back: refusals, crashes at the worst moment, other processes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from db.batches import BatchStatus, BatchStore
from db.calls import CallStore
from db.database import Database
from providers import Amount, Budget, Gateway, ModelBook
from providers.batching import Batching
from providers.errors import AuthError
from providers.testing_batch_server import BatchServer, Hang, Refused, Stages
from tests.providers.asking import request, scope
from tests.providers.batching_support import RUN, ask_twice, at_once, database, models, paid

QUICK = Batching(linger_s=0.1)
STAGES = Stages(validating_s=0.02, running_s=0.05)


@pytest.mark.parametrize("api", ["openai", "anthropic"])
async def test_a_provider_with_hiccups_is_asked_again(tmp_path: Path, api: str) -> None:
    refuse: list[Refused] = [("create", 429), ("look", 500), ("look", 503), ("results", 500), ("create", 429)]
    if api == "openai":
        refuse = [("upload", 500), *refuse]
    async with BatchServer(stages=STAGES, counting=False, refuse=refuse) as server:
        path = models(tmp_path, server.url, api=api)
        done = await ask_twice(path, database(tmp_path), 4, batching=QUICK)
        assert not server.refuse
        assert (server.batches.batches, done.spent.cost) == (2, paid(server))
        assert done.answers == (await at_once(server, path, 4)).answers


@pytest.mark.parametrize("api", ["openai", "anthropic"])
@pytest.mark.parametrize("trouble", ["hang", "refuse"])
async def test_after_a_creation_that_broke_off_the_batch_is_looked_for(tmp_path: Path, api: str, trouble: str) -> None:
    """Once it was created and once it was not."""
    settings = {"hang": ["create"]} if trouble == "hang" else {"refuse": [("create", 502)]}
    async with BatchServer(stages=STAGES, counting=False, **settings) as server:
        # Longer than a machine may stand still, which would be another creation that broke off.
        path = models(tmp_path, server.url, api=api, create_s=3)
        done = await ask_twice(path, database(tmp_path), 4, batching=QUICK)
        assert (server.batches.batches, done.spent.cost) == (2, paid(server))
        assert done.spent.calls == 12


@pytest.mark.parametrize("api", ["openai", "anthropic"])
@pytest.mark.parametrize(("where", "status"), [("create", 401), ("create", 400), ("look", 404)])
async def test_a_refusal_for_good_fails_the_calls(tmp_path: Path, api: str, where: str, status: int) -> None:
    async with BatchServer(stages=Stages(running_s=0.5), refuse=[(where, status)] * 9) as server:  # type: ignore[list-item]  # a literal
        path = models(tmp_path, server.url, api=api)
        with Database.open(database(tmp_path)) as opened:
            calls = CallStore(opened)
            async with Gateway(ModelBook.load(path, {}), calls, batching=QUICK) as gateway:
                if status == 401:
                    with pytest.raises(AuthError):
                        await gateway.ask(request(), scope=scope(), node="a")
                else:
                    asked = await gateway.ask(request(), scope=scope(), node="a")
                    assert [failure.kind for failure in asked.failures] == ["bad_request"]
                    server.refuse.clear()
                    again = await gateway.ask(request(), scope=scope("2"), node="a")
                    assert (len(again.samples), server.batches.batches) == (1, 1)
            assert BatchStore(opened).live() == ()
            calls.close()


@pytest.mark.parametrize("status", ["made", "sent"])
async def test_a_batch_that_a_killed_process_did_not_create_is_made_good(tmp_path: Path, status: BatchStatus) -> None:
    async with BatchServer(stages=STAGES, counting=False) as server:
        path = models(tmp_path, server.url, create_s=60)
        await _interrupted(path, tmp_path, status)
        done = await ask_twice(path, database(tmp_path), 1, batching=QUICK)
        assert (server.batches.batches, done.spent.calls) == (2, 3)
        with Database.open(database(tmp_path)) as opened:
            assert sorted(one.status for one in BatchStore(opened).of_run(RUN)) == ["closed", "closed", "lost"]


async def _interrupted(path: Path, folder: Path, status: BatchStatus) -> None:
    """Leave the rows of a process that died two minutes ago, before its first batch was at the provider."""
    job = asyncio.create_task(ask_twice(path, database(folder), 1, batching=QUICK))
    with Database.open(database(folder)) as opened:
        store = BatchStore(opened)
        while not (left := store.live()):  # noqa: ASYNC110 - rows are all there is to look at
            await asyncio.sleep(0)
        job.cancel()
        await asyncio.wait({job})
        with opened.begin() as connection:
            sent = (datetime.now(UTC) - timedelta(minutes=2)).isoformat() if status == "sent" else None
            row = (status, sent, left[0].mark)
            connection.exec_driver_sql("UPDATE provider_batch SET status = ?, sent_at = ? WHERE mark = ?", row)
            connection.commit()


async def test_a_batch_of_somebody_else_is_not_taken_for_ours(tmp_path: Path) -> None:
    """Anthropic keeps no marks: of the batches with as many requests the ids in the results tell."""
    async with BatchServer(stages=STAGES, counting=False) as server:
        path = models(tmp_path, server.url, api="anthropic", create_s=60)
        await _interrupted(path, tmp_path, "sent")
        params = {"model": "test-model", "max_tokens": 5, "messages": [{"role": "user", "content": "theirs"}]}
        theirs = {"requests": [{"custom_id": f"mine-{n}", "params": params} for n in range(2)]}
        async with httpx.AsyncClient() as client:
            await client.post(f"{server.url}/messages/batches", json=theirs)
        done = await ask_twice(path, database(tmp_path), 1, batching=QUICK)
        assert server.batches.batches == 3
        assert done.spent.calls == 3


async def test_two_processes_submit_a_sample_once(tmp_path: Path) -> None:
    async with BatchServer(stages=Stages(running_s=0.3), counting=False) as server:
        path = models(tmp_path, server.url)
        both = await asyncio.gather(
            *(ask_twice(path, database(tmp_path), 10, batching=Batching(linger_s=linger)) for linger in (0.1, 0.3))
        )
        assert both[0].answers == both[1].answers
        assert server.batches.rows == 20
        assert both[0].spent.cost == both[1].spent.cost == paid(server)


async def test_what_two_processes_read_out_of_one_batch_is_booked_once(tmp_path: Path) -> None:
    """The second wants one of ten samples that stand in the first one's batch, whose results it reads as a whole."""
    async with BatchServer(stages=Stages(running_s=1.0), counting=False) as server:
        path = models(tmp_path, server.url)
        first = asyncio.create_task(_ask(path, tmp_path, range(10)))
        while not server.batches.batches:  # noqa: ASYNC110 - the server's books are all there is
            await asyncio.sleep(0.01)
        await asyncio.gather(first, _ask(path, tmp_path, range(9, 15)))
        assert server.batches.rows == server.batches.answered == 15
        with Database.open(database(tmp_path)) as opened:
            calls = CallStore(opened)
            spent = calls.spent()
            calls.close()
        assert (spent.calls, spent.cost) == (15, paid(server))


async def _ask(path: Path, folder: Path, numbers: range) -> None:
    with Database.open(database(folder)) as opened:
        calls = CallStore(opened)
        async with Gateway(ModelBook.load(path, {}), calls, batching=QUICK) as gateway, asyncio.TaskGroup() as tasks:
            for n in numbers:
                tasks.create_task(gateway.ask(request(f"q{n}", max_tokens=64), scope=scope(str(n)), node="a"))
        calls.close()


class UntilAnother(BatchServer):
    """Hangs until somebody has created a batch."""

    async def _maybe_hang(self, where: Hang) -> None:
        if where in self.hang:
            self.hang.remove(where)
            while not self.batches.batches:  # noqa: ASYNC110 - the server's books are all there is
                await asyncio.sleep(0.01)


async def test_a_batch_that_another_process_took_for_abandoned_is_not_created(tmp_path: Path) -> None:
    """The first process hangs while it uploads its file; the second one wants the same and does not wait for it."""
    async with UntilAnother(stages=STAGES, counting=False, hang=["upload"]) as server:
        path = models(tmp_path, server.url)
        both = await asyncio.gather(
            *(ask_twice(path, database(tmp_path), 5, batching=Batching(linger_s=linger)) for linger in (0.1, 0.5))
        )
        assert both[0].answers == both[1].answers
        assert server.batches.rows == 10
        with Database.open(database(tmp_path)) as opened:
            assert CallStore(opened).spent(RUN).cost == paid(server)
            assert "lost" in {one.status for one in BatchStore(opened).of_run(RUN)}


async def test_results_that_the_provider_keeps_no_more_are_asked_for_again(tmp_path: Path) -> None:
    async with BatchServer(stages=STAGES, counting=False, refuse=[("results", 404)]) as server:
        done = await ask_twice(models(tmp_path, server.url), database(tmp_path), 3, batching=QUICK)
        assert done.report is not None
        assert (done.report.again, server.batches.rows, done.spent.calls) == (3, 9, 9)


async def test_a_sample_of_a_line_can_be_wanted_alone(tmp_path: Path) -> None:
    """A killed job asked for three samples in one line; the next one wants four, and one of them alone first."""
    async with BatchServer(stages=Stages(running_s=0.3, seen=True), counting=False) as server:
        path = models(tmp_path, server.url)
        with Database.open(database(tmp_path)) as opened:
            calls, book = CallStore(opened), ModelBook.load(path, {})
            async with Gateway(book, calls, batching=QUICK) as gateway:
                job = asyncio.create_task(gateway.ask(request(), 3, scope=scope(), node="a"))
                while not server.batches.looks["in_progress"]:  # noqa: ASYNC110 - the server's books are all there is
                    await asyncio.sleep(0.01)
                job.cancel()
                await asyncio.wait({job})
            async with Gateway(book, calls, batching=QUICK) as gateway, asyncio.TaskGroup() as tasks:
                one = tasks.create_task(gateway.ask(request(), 1, scope=scope(), node="a", first=1))
                four = tasks.create_task(gateway.ask(request(), 4, scope=scope(), node="a", first=0))
            texts = [sample.completion.text for sample in four.result().samples]
            assert [sample.completion.text for sample in one.result().samples] == texts[1:2]
            assert (server.batches.rows, calls.spent("r-1").calls) == (2, 4)
            immediate = Gateway(book, None)
            async with immediate:
                again = await immediate.ask(request(), 4, scope=scope(), node="a")
            assert texts == [sample.completion.text for sample in again.samples]
            calls.close()


async def test_a_cap_holds_at_the_whole_price_and_is_settled_at_half(tmp_path: Path) -> None:
    """What fits at the whole price goes out; when it is settled at half, there is room for more."""
    async with BatchServer(stages=STAGES, counting=False) as server:
        path = models(tmp_path, server.url)
        one = Decimal("0.00016")
        with Database.open(database(tmp_path)) as opened:
            calls = CallStore(opened)
            budget = Budget(dollars=5 * one)
            async with Gateway(ModelBook.load(path, {}), calls, budget=budget, batching=QUICK) as gateway:
                async with asyncio.TaskGroup() as tasks:
                    asked = [
                        tasks.create_task(gateway.ask(request(f"q{n}", max_tokens=64), scope=scope(str(n)), node="a"))
                        for n in range(8)
                    ]
                assert all(len(task.result().samples) == 1 for task in asked)
                assert gateway.collector is not None
                assert gateway.collector.report.batches >= 2
                assert budget.settled.dollars == calls.spent().cost == paid(server)
                assert budget.reserved == Amount()
            calls.close()


@pytest.mark.parametrize("cache", ["off", "read-only"])
async def test_without_a_cache_each_asking_is_a_new_sample(tmp_path: Path, cache: str) -> None:
    async with BatchServer(stages=STAGES, counting=False) as server:
        path = models(tmp_path, server.url)
        with Database.open(database(tmp_path)) as opened:
            calls = CallStore(opened)
            async with Gateway(ModelBook.load(path, {}), calls, cache=cache, batching=QUICK) as gateway:  # type: ignore[arg-type]  # a literal
                for _ in range(2):
                    await gateway.ask(request(), scope=scope(), node="a")
            assert (server.batches.batches, calls.spent().calls) == (
                2 if cache == "off" else 1,
                2 if cache == "off" else 1,
            )
            assert calls.spent().cost == paid(server)
            calls.close()


async def test_what_cannot_go_into_a_batch_is_asked_at_once(tmp_path: Path) -> None:
    async with BatchServer(stages=STAGES, counting=False) as server:
        path = models(tmp_path, server.url, api="anthropic")
        with Database.open(database(tmp_path)) as opened:
            calls = CallStore(opened)
            async with Gateway(ModelBook.load(path, {}), calls, batching=QUICK) as gateway:
                asked = await gateway.ask(request(top_logprobs=0), scope=scope(), node="a")
            assert asked.samples[0].completion.logprobs is not None
            assert (server.ledger.requests, server.batches.batches) == (1, 0)
            calls.close()


def test_batches_need_a_store() -> None:
    with pytest.raises(ValueError, match="batches need a store"):
        Gateway(ModelBook(env={}), None, batching=QUICK)
