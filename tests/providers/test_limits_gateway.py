"""Limits as `models.yaml` says them and a gateway keeps them."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from pathlib import Path

import pytest

from db.errors import SpecError
from providers import Gateway, ModelBook
from providers.limiters import limiter_for, rates_of, tokens_asked
from providers.rates import RateLimits
from providers.redis_link import RedisLink
from providers.testing_server import ModelServer
from providers.testing_window import RateWindow
from tests.providers.asking import book_of, request, scope
from tests.providers.redis_door import REDIS_URL, needs_redis
from tests.providers.standstill import Standstill


async def test_rates_of_the_file_are_kept(tmp_path: Path) -> None:
    limits = "limits: {requests_per_minute: 1200, tokens_per_minute: 1000000, retries: 8}"
    async with ModelServer() as server:
        async with Gateway(book_of(server, tmp_path, limits), None) as gateway:
            began = time.monotonic()
            async with Standstill() as stood, asyncio.TaskGroup() as tasks:
                for number in range(50):
                    tasks.create_task(gateway.ask(request(f"q{number}", max_tokens=50), scope=scope(), node="n"))
            took = time.monotonic() - began
            limiter = gateway.status().replicas[0].limiters[0]
        assert server.ledger.answered == 50
    # 24 go at once, the others at 19 a second
    assert 1.2 <= took <= 6 + stood.total_s
    assert (limiter.model, limiter.in_flight, limiter.waiting) == ("test-model", 0, 0)


async def test_a_refusal_is_waited_out_and_shown(tmp_path: Path) -> None:
    began = time.monotonic()

    def clock() -> float:
        """Tell the time; it stands until as many are refused as were sent together beyond the 20 of the window."""
        return time.monotonic() if server.ledger.faults["rate"] >= 12 else began

    server = ModelServer(window=RateWindow(20, window_s=0.7, clock=clock))
    async with server:
        async with Gateway(book_of(server, tmp_path, "limits: {in_flight: 32, retries: 8}"), None) as gateway:
            async with asyncio.TaskGroup() as tasks:
                for number in range(40):
                    tasks.create_task(gateway.ask(request(f"q{number}"), scope=scope(), node="n"))
            status = gateway.status()
        assert server.ledger.answered == 40
    refused = server.ledger.faults["rate"]
    history = status.replicas[0].limiters[0].history
    assert status.retries == refused > 0
    # What was sent together is refused together, and is one episode.
    assert [change.reason for change in history].count("cut") < refused
    assert {"start", "cut", "retry-after"} <= {change.reason for change in history}
    assert history[0].limit == 32
    assert min(change.limit for change in history) < 32


async def test_a_pause_beyond_patience_fails_the_call_and_those_behind_it(tmp_path: Path) -> None:
    async with ModelServer(script=["429-retry-after"], retry_after_s=3600) as server:
        async with Gateway(book_of(server, tmp_path, "limits: {in_flight: 1, patience_s: 5}"), None) as gateway:
            asked = await asyncio.gather(
                *(gateway.ask(request(f"q{number}"), scope=scope(), node="n") for number in range(3))
            )
            status = gateway.status()
        assert server.ledger.requests == 1
    assert [one.failures[0].kind for one in asked] == ["rate_limit"] * 3
    assert re.search(r"a pause of 3[56]\d\d s", str(asked[1].failures[0]))
    assert status.replicas[0].limiters[0].paused_s > 3000


def test_a_rate_is_a_whole_number_above_zero(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("models:\n  m: {use: vllm/x, limits: {requests_per_minute: 0}}\n")
    with pytest.raises(SpecError, match="requests_per_minute"):
        ModelBook.load(path, {})


async def test_aliases_of_a_model_share_the_strictest_limits_and_other_models_have_their_own(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(
        "models:\n"
        "  one: {use: vllm/x, limits: {in_flight: 8, tokens_per_minute: 100}}\n"
        "  two: {use: vllm/x, limits: {in_flight: 4, requests_per_minute: 10, tokens_per_minute: 200}}\n"
        "  other: {use: vllm/y}\n"
    )
    async with Gateway(ModelBook.load(path, {}), None) as gateway:
        one, two, other = (gateway._endpoints.of(name).pool.replicas[0] for name in ("one", "two", "other"))
        assert one is two is other
        limiter = one.limiter_of("x")
        assert limiter.limit == 4
        assert limiter._governor.rates == RateLimits(requests=10, tokens=100)
        assert other.limiter_of("y").limit == 64
        assert not other.limiter_of("y").counts_tokens


def test_a_provider_is_approached_slowly_and_an_own_server_is_not(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(
        "models:\n  own: {use: vllm/x}\n  hosted: {use: openai/gpt-4o-mini}\n  small: {use: embedded/nano}\n"
    )
    book = ModelBook.load(path, {"OPENAI_API_KEY": "k"})
    assert limiter_for(book.resolve("own"), None, "").limit == 64
    assert limiter_for(book.resolve("hosted"), None, "").limit == 16
    assert limiter_for(book.resolve("small"), None, "").limit == book.resolve("small").limits.in_flight
    assert rates_of(book.resolve("own")) == RateLimits()
    asked = tokens_asked(book.resolve("own"), request("x" * 400).messages, 50, 3)
    assert asked == 100 + 4 + 150
    assert tokens_asked(book.resolve("hosted"), request("x").messages, None, 1) == 1 + 4 + 16_384


@needs_redis
async def test_a_gateway_with_a_link_shares_its_limits(tmp_path: Path) -> None:
    name = f"test-limits-gateway-{uuid.uuid4().hex[:8]}"
    link = RedisLink(REDIS_URL, prefix=f"{{{name}}}:", timeout_s=60)
    async with ModelServer(latency_s=0.01) as server:
        book = book_of(server, tmp_path, "limits: {in_flight: 4}")
        async with Gateway(book, None, link=link) as first, Gateway(book, None, link=link) as second:
            async with asyncio.TaskGroup() as tasks:
                for number in range(40):
                    gateway = (first, second)[number % 2]
                    tasks.create_task(gateway.ask(request(f"q{number}"), scope=scope(), node="n"))
            reasons = [change.reason for change in first.status().replicas[0].limiters[0].history]
        assert server.ledger.answered == 40
        assert server.ledger.most_at_once <= 4
    assert reasons == ["start", "shared"]
    keys = await link.call("KEYS", f"*{name}*")
    assert isinstance(keys, list)
    await link.call("DEL", *(key for key in keys if isinstance(key, bytes)))
    await link.aclose()
