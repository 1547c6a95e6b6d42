"""Gateways that share a Redis pay once for what both want, and each for itself where Redis is away."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from db.calls import CallStore
from db.database import Database
from db.maintenance import Maintenance
from providers import CacheMode, Gateway
from providers.redis_link import RedisLink
from providers.shared_cache import SharedCache
from providers.testing_server import ModelServer
from tests.providers.asking import book_of, request, scope
from tests.providers.redis_door import REDIS_URL, Door, needs_redis

pytestmark = needs_redis

LEASE_S = 15.0
"""Of the process that dies."""


@pytest.fixture
async def link() -> AsyncIterator[RedisLink]:
    # A machine that stands still is no Redis that is away.
    link = RedisLink(REDIS_URL, prefix=f"{{t{uuid.uuid4().hex[:8]}}}:", timeout_s=60)
    yield link
    await SharedCache(link).clear()
    await link.aclose()


@asynccontextmanager
async def gateway(
    server: ModelServer,
    folder: Path,
    link: RedisLink,
    name: str,
    *,
    cache: CacheMode = "on",
    lease_s: float = 15.0,
    expiry: timedelta | None = None,
) -> AsyncIterator[Gateway]:
    """Open a gateway with a database of its own, as one on another machine has."""
    with Database.open(f"sqlite:///{folder}/{name}.db") as database:
        store, shared = CallStore(database, expiry=expiry), SharedCache(link, home=name, lease_s=lease_s)
        async with Gateway(book_of(server, folder), store, cache=cache, shared=shared) as opened:
            yield opened
        await shared.aclose()
        store.close()


async def keys(link: RedisLink, start: str) -> list[bytes]:
    found = await link.call("KEYS", f"{link.prefix}{start}*")
    assert isinstance(found, list)
    return [key for key in found if isinstance(key, bytes)]


def calls_in(folder: Path, name: str) -> int:
    with Database.open(f"sqlite:///{folder}/{name}.db") as database:
        return len(Maintenance(database).calls(limit=1000))


async def test_two_that_want_the_same_at_once_pay_once(tmp_path: Path, link: RedisLink) -> None:
    async with (
        ModelServer(latency_s=0.1) as server,
        gateway(server, tmp_path, link, "a") as one,
        gateway(server, tmp_path, link, "b") as two,
    ):
        mine, yours = scope(run="r-1"), scope(run="r-2")
        first, second = await asyncio.gather(
            one.ask(request(), 5, scope=mine, node="x"), two.ask(request(), 7, scope=yours, node="x")
        )
        assert server.ledger.calls == 7
        assert [s.completion for s in first.samples] == [s.completion for s in second.samples][:5]
        totals = mine.totals(), yours.totals()
        assert sum(one.paid_calls for one in totals) == 7
        billed = Decimal(server.ledger.prompt_tokens + 2 * server.ledger.completion_tokens) / 1_000_000
        assert sum((one.paid_cost or Decimal(0) for one in totals), Decimal(0)) == billed
    assert (calls_in(tmp_path, "a"), calls_in(tmp_path, "b")) == (5, 7), "each can resume without the other"


async def test_what_one_has_the_other_finds_later(tmp_path: Path, link: RedisLink) -> None:
    async with ModelServer() as server:
        async with gateway(server, tmp_path, link, "a") as one:
            await one.ask(request(), 2, scope=scope(run="r-1"), node="x")
        async with gateway(server, tmp_path, link, "b", cache="read-only") as two:
            await two.ask(request(), 3, scope=scope(run="r-2"), node="x")
        assert server.ledger.calls == 3
        async with gateway(server, tmp_path, link, "c", cache="refresh") as three:
            await three.ask(request(), 2, scope=scope(run="r-3"), node="x")
        assert server.ledger.calls == 5
        async with gateway(server, tmp_path, link, "d", cache="off") as four:
            await four.ask(request(), 2, scope=scope(run="r-4"), node="x")
        assert server.ledger.calls == 7
        async with gateway(server, tmp_path, link, "e", expiry=timedelta(microseconds=1)) as five:
            await five.ask(request(), 2, scope=scope(run="r-5"), node="x")
        assert server.ledger.calls == 9
    assert calls_in(tmp_path, "b") == 0


async def test_a_call_that_fails_is_asked_again_by_the_one_that_waits(tmp_path: Path, link: RedisLink) -> None:
    async with (
        ModelServer(latency_s=0.1, script=["bad-request"]) as server,
        gateway(server, tmp_path, link, "a") as one,
        gateway(server, tmp_path, link, "b") as two,
    ):
        first, second = await asyncio.gather(
            one.ask(request(), scope=scope(run="r-1"), node="x"), two.ask(request(), scope=scope(run="r-2"), node="x")
        )
        assert sorted((len(first.samples), len(second.samples))) == [0, 1]


async def test_a_holder_that_dies_is_waited_for_no_longer_than_its_lease(tmp_path: Path, link: RedisLink) -> None:
    # The request of the one that dies gets no answer.
    async with ModelServer(script=["timeout"]) as server, gateway(server, tmp_path, link, "b") as two:
        book_of(server, tmp_path)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.providers.test_single_flight", str(tmp_path), link.prefix
        )
        while not server.ledger.faults["timeout"]:  # noqa: ASYNC110 - the server counts, it does not call
            await asyncio.sleep(0.01)
        waiting = asyncio.create_task(two.ask(request(), scope=scope(run="r-2"), node="x"))
        await asyncio.sleep(0.1)
        assert server.ledger.requests == 1, "it waits for the other"
        process.kill()
        await process.wait()
        (lock,) = await keys(link, "lock:")
        left = await link.call("PTTL", lock)
        assert isinstance(left, int)
        assert 0 < left <= 1000 * LEASE_S
        # The lease is long, since a machine may stand still; what is left of it need not be waited for.
        await link.call("PEXPIRE", lock, min(left, 200))
        asked = await asyncio.wait_for(waiting, 120)
        assert len(asked.samples) == 1
        assert not asked.samples[0].cached


async def test_where_redis_is_away_each_pays_for_itself(tmp_path: Path) -> None:
    async with Door() as door, ModelServer(latency_s=0.05) as server:
        link = RedisLink(door.url, prefix=f"{{t{uuid.uuid4().hex[:8]}}}:")
        async with gateway(server, tmp_path, link, "a") as one, gateway(server, tmp_path, link, "b") as two:
            await door.shut()
            await asyncio.gather(
                one.ask(request(), 2, scope=scope(run="r-1"), node="x"),
                two.ask(request(), 2, scope=scope(run="r-2"), node="x"),
            )
            assert server.ledger.calls == 4
        await link.aclose()


async def hold(folder: Path, prefix: str) -> None:
    """Ask for a sample with a lock of a short lease, as a process that can be killed."""
    from providers import ModelBook

    link = RedisLink(REDIS_URL, prefix=prefix, timeout_s=60)
    with Database.open(f"sqlite:///{folder}/a.db") as database:
        shared = SharedCache(link, lease_s=LEASE_S)
        async with Gateway(ModelBook.load(folder / "models.yaml", {}), CallStore(database), shared=shared) as gateway:
            await gateway.ask(request(), scope=scope(), node="x")


if __name__ == "__main__":
    asyncio.run(hold(Path(sys.argv[1]), sys.argv[2]))
