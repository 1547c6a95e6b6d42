"""Graphs through batch APIs: rounds, cost, answers; what expires, fails, is refused, comes late or is cancelled."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import openai
import pytest

from db.database import Database
from providers.batching import Batching
from providers.testing_batch_server import BatchServer, Limits, Stages
from tests.providers.batching_support import ask_twice, at_once, database, models, paid, run
from tests.providers.standstill import Standstill

QUICK = Batching(linger_s=0.1)
STAGES = Stages(validating_s=0.02, running_s=0.05)
PROGRAM = [sys.executable, "-m", "tests.providers.run_batch_program"]


@pytest.mark.parametrize(("api", "rows"), [("openai", 500), ("anthropic", 100)])
async def test_three_levels_are_three_rounds_at_half_the_price(tmp_path: Path, api: str, rows: int) -> None:
    async with BatchServer(stages=STAGES, counting=False) as server:
        path = models(tmp_path, server.url, api=api)
        async with Standstill() as stood:
            batched = await run(path, database(tmp_path), rows, batching=Batching(linger_s=1.0))
        assert server.ledger.requests == 0
        assert batched.spent.cost == paid(server)
        immediate = await run(path, database(tmp_path, "at_once"), rows)
    assert batched.report is not None
    # A machine that stands still is quiet: what waits goes out before the rest has come.
    rounds = batched.report.rounds
    assert rounds == 3 or (rounds > 3 and stood.longest_s > 0.5)
    assert batched.report.batches == server.batches.batches == rounds
    assert batched.answers == immediate.answers
    assert batched.spent.cost * 2 == immediate.spent.cost
    assert batched.report.saved == batched.spent.cost
    assert batched.report.rows == server.batches.rows == rows * (4 if api == "anthropic" else 3)


@pytest.mark.parametrize("discount", [None, 0.25])
async def test_the_price_of_batches_is_used_where_no_share_is_stated(tmp_path: Path, discount: float | None) -> None:
    price = {"prompt": 1, "completion": 2, "batch": {"prompt": 0.5, "completion": 1.5}}
    stated: dict[str, Any] = {} if discount is None else {"discount": discount}
    async with BatchServer(stages=STAGES, counting=False) as server:
        path = models(tmp_path, server.url, price=price, **stated)
        done = await run(path, database(tmp_path), 3, batching=QUICK)
        books = server.batches
    whole = Decimal(books.prompt_tokens + 2 * books.completion_tokens)
    stands = (Decimal(books.prompt_tokens) + 3 * Decimal(books.completion_tokens)) / 2
    billed = stands if discount is None else whole * Decimal(str(discount))
    assert done.report is not None
    assert done.spent.cost == billed / 1_000_000
    assert done.report.saved == (whole - billed) / 1_000_000


@pytest.mark.parametrize("api", ["openai", "anthropic"])
@pytest.mark.parametrize("what", ["expire", "fail"])
async def test_only_what_is_missing_is_submitted_again(tmp_path: Path, api: str, what: str) -> None:
    # Of the first batch three in ten lines.
    shares = {"expire_share": 0.3} if what == "expire" else {"fail_share": 0.3}
    async with BatchServer(stages=STAGES, counting=False, **shares) as server:  # type: ignore[arg-type]  # one of two
        path = models(tmp_path, server.url, api=api)
        async with Standstill() as stood:
            done = await ask_twice(path, database(tmp_path), 20, batching=Batching(linger_s=0.5))
        lines, per_row = (20, 2) if api == "openai" else (40, 3)
        assert done.report is not None
        again = done.report.again
        assert (again, done.report.batches) == (0.3 * lines, 3) or (0 < again <= 0.3 * lines and stood.longest_s > 0.25)
        assert server.batches.rows == 20 * per_row + again
        assert server.batches.answered == 20 * per_row
        assert done.spent.cost == paid(server)
        assert done.answers == (await at_once(server, path, 20)).answers


async def test_a_line_that_fails_in_every_batch_fails(tmp_path: Path) -> None:
    async with BatchServer(stages=STAGES, fail_share=1.0, fail_batches=100) as server:
        with pytest.raises(ExceptionGroup) as caught:
            await ask_twice(models(tmp_path, server.url), database(tmp_path), 2, batching=QUICK)
        assert caught.group_contains(IndexError), "a row without samples"
        assert max(server.batches.by_request.values()) == 5


async def test_a_batch_is_cut_by_rows_and_bytes(tmp_path: Path) -> None:
    async with BatchServer(stages=STAGES, limits=Limits(rows=8), counting=False) as server:
        path = models(tmp_path, server.url, rows=8)
        done = await ask_twice(path, database(tmp_path), 20, batching=QUICK)
        assert server.batches.rows == 40
        assert server.batches.batches >= 6
        small = models(tmp_path, server.url, bytes=2_000)
        again = await ask_twice(small, database(tmp_path, "small"), 20, batching=QUICK)
        assert again.answers == done.answers
        assert server.batches.batches >= 6 + 2 * 4


async def test_a_full_queue_is_found_out_and_waited_for(tmp_path: Path) -> None:
    """Each row asks for some 150 tokens, so that the queue holds about four."""
    async with BatchServer(stages=STAGES, limits=Limits(tokens=600), counting=False) as server:
        path = models(tmp_path, server.url)
        async with Standstill() as stood:
            done = await ask_twice(path, database(tmp_path), 12, batching=QUICK)
        assert server.batches.rows == 24
        refused = sum(batch.status == "failed" for batch in await _listed(server))
        assert refused >= 2 or stood.longest_s > 0.05
        known = models(tmp_path, server.url, tokens=500)
        assert (await ask_twice(known, database(tmp_path, "known"), 12, batching=QUICK)).answers == done.answers
        assert sum(batch.status == "failed" for batch in await _listed(server)) == refused


async def test_a_batch_that_the_provider_refuses_ends_in_its_words(tmp_path: Path) -> None:
    async with BatchServer(stages=STAGES, limits=Limits(rows=5)) as server:
        async with Standstill() as stood:
            await ask_twice(models(tmp_path, server.url), database(tmp_path), 20, batching=QUICK)
        with Database.open(database(tmp_path)) as opened, opened.begin() as connection:
            said = {row[0] for row in connection.exec_driver_sql("SELECT message FROM call_failure")}
            left = connection.exec_driver_sql("SELECT COUNT(*) FROM provider_batch_call").scalar()
        sentence = "The provider refused a batch of 'm': The file holds {} requests; at most 5 are allowed."
        if stood.longest_s < 0.05:
            assert said == {sentence.format(20)}
        assert said <= {sentence.format(requests) for requests in range(6, 21)}
        assert left == 0


async def _listed(server: BatchServer) -> list[openai.types.Batch]:
    async with openai.AsyncOpenAI(base_url=server.url, api_key="none") as client:
        return [batch async for batch in client.batches.list()]
