"""The hot cache and the single flight, on a real Redis."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import Completion, TokenLogprob, Usage
from providers.codec import Stored
from providers.redis_link import RedisLink
from providers.shared_cache import Claim, Hot, SharedCache, oldest_of, pack, unpack
from tests.providers.redis_door import REDIS_URL, Door, needs_redis

pytestmark = needs_redis

NOW = datetime(2026, 11, 22, 1, 2, 3, 456789, tzinfo=UTC)


def sample(key: str = "k", text: str = "five", **more: object) -> Stored:
    completion = Completion(text=text, finish_reason="stop", usage=Usage(7, 3, 1, True), **more)  # type: ignore[arg-type]  # logprobs
    return Stored(key=key, completion=completion, cost=Decimal("0.000000012"), latency_s=0.5, payer=("r-1", "7"))


@pytest.fixture
async def link() -> AsyncIterator[RedisLink]:
    link = RedisLink(REDIS_URL, prefix=f"{{t{uuid.uuid4().hex[:8]}*}}:", timeout_s=60)
    yield link
    await SharedCache(link).clear()
    await link.aclose()


async def left_ms(link: RedisLink, key: str) -> int:
    """Return for how long a key has still to live."""
    left = await link.call("PTTL", link.prefix + key)
    assert isinstance(left, int)
    return left


async def gone(link: RedisLink, key: str) -> None:
    """Wait until a key has expired, which one without a life never does."""
    async with asyncio.timeout(120):
        while await left_ms(link, key) > 0:  # noqa: ASYNC110 - the key is in Redis
            await asyncio.sleep(0.01)
    assert await left_ms(link, key) == -2


@given(
    text=st.text(st.characters(codec="utf-8")),
    cost=st.none() | st.decimals(0, 10, places=12),
    tokens=st.none() | st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.floats(-50, 0))),
)
def test_a_sample_comes_back_as_it_went(
    text: str, cost: Decimal | None, tokens: list[tuple[str, float]] | None
) -> None:
    logprobs = None if tokens is None else tuple(TokenLogprob(*token, top=(token,)) for token in tokens)
    completion = Completion(text=text, finish_reason="length", usage=Usage(1, 2), logprobs=logprobs)
    stored = Stored(key="k", completion=completion, cost=cost, latency_s=0.25, payer=("r", "i"))
    assert unpack("k", pack(stored, NOW, "here")) == Hot(stored=stored, created_at=NOW, home="here")


def test_what_another_version_wrote_is_not_read() -> None:
    assert unpack("k", orjson.dumps([2, "whatever"])) is None


async def test_what_one_paid_the_other_finds(link: RedisLink) -> None:
    one, two = SharedCache(link, home="a"), SharedCache(link, home="b")
    assert await one.claim(["k", "l"]) == Claim({}, frozenset({"k", "l"}))
    one.land([sample("k")], created_at=NOW)
    claim = await two.claim(["k", "l", "m"])
    assert claim == Claim({"k": Hot(stored=sample("k"), created_at=NOW, home="a")}, frozenset({"m"}))
    assert await two.clear() == 1
    assert await two.clear() == 0
    await one.aclose()
    await two.aclose()


async def test_a_failed_call_gives_its_turn_to_the_next(link: RedisLink) -> None:
    one, two = SharedCache(link), SharedCache(link)
    await one.claim(["k"])
    assert (await two.claim(["k"])).mine == frozenset()
    one.release(["k", "never held"])
    assert (await two.claim(["k"])).mine == {"k"}
    one.release(["k"])
    assert (await one.claim(["k"])).mine == frozenset(), "only the holder gives a lock up"
    await two.aclose()
    assert (await one.claim(["k"])).mine == {"k"}
    await one.aclose()


async def test_a_lock_is_kept_while_its_holder_lives_and_ends_when_it_dies(link: RedisLink) -> None:
    # What lives renews its lease after a third of it; a machine may stand still for the rest.
    alive, dead, other = (SharedCache(link, lease_s=lease_s) for lease_s in (9.0, 0.2, 9.0))
    await alive.claim(["a"])
    await dead.claim(["d"])
    assert dead._keeping is not None
    dead._keeping.cancel()
    left = await left_ms(link, "lock:a")
    while (now := await left_ms(link, "lock:a")) <= left:
        assert now > 0
        left = now
        await asyncio.sleep(0.01)
    await gone(link, "lock:d")
    assert (await other.claim(["a", "d"])).mine == {"d"}
    await alive.aclose()
    await other.aclose()


async def test_looking_locks_nothing(link: RedisLink) -> None:
    one, two = SharedCache(link), SharedCache(link)
    assert (await one.claim(["k"], lock=False)).mine == {"k"}
    assert (await two.claim(["k"])).mine == {"k"}
    await two.aclose()


async def test_what_is_too_old_does_not_count(link: RedisLink) -> None:
    cache = SharedCache(link)
    cache.land([sample()], created_at=datetime.now(UTC) - timedelta(days=8))
    assert (await cache.claim(["k"], oldest=oldest_of(timedelta(days=7)))).mine == {"k"}
    assert set((await cache.claim(["k"], oldest=oldest_of(None))).found) == {"k"}


async def test_what_is_large_stays_out(link: RedisLink) -> None:
    cache = SharedCache(link)
    cache.land([sample(text="x" * 300_000), sample("small")])
    assert set((await cache.claim(["k", "small"])).found) == {"small"}
    await cache.aclose()


async def test_samples_are_forgotten_after_their_time(link: RedisLink) -> None:
    cache, brief = SharedCache(link, life_s=60), SharedCache(link, life_s=0.05)
    cache.land([sample()])
    assert (await cache.claim(["k"])).found
    assert 0 < await left_ms(link, "call:k") <= 60_000
    brief.land([sample()])
    await gone(link, "call:k")
    assert (await cache.claim(["k"])).mine == {"k"}
    await cache.aclose()


async def test_without_redis_each_pays_for_itself() -> None:
    async with Door() as door:
        link = RedisLink(door.url, prefix=f"{{t{uuid.uuid4().hex[:8]}}}:")
        cache = SharedCache(link, lease_s=0.1)
        await cache.claim(["k"])
        await door.shut()
        assert await cache.claim(["a", "b"]) == Claim({}, frozenset({"a", "b"}))
        await asyncio.sleep(0.15)
        cache.land([sample()])
        await cache.aclose()
        await link.aclose()
