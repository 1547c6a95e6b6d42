"""Several endpoints of one model, each a real server: affinity, balance, death and return."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path

import pytest

from db.calls import CallStore
from db.errors import BudgetExceeded, ConfigError
from providers import Budget, Gateway, ModelBook, Request
from providers.base import Message, Reply, Transport, WireRequest
from providers.errors import ConnectionFailed, Overloaded
from providers.limits import Limiter
from providers.replicas import Replica, ReplicaPool, Route
from providers.testing_server import Asking, ModelServer
from tests.conftest import ServerProcess
from tests.providers.asking import request, scope
from tests.providers.virtual_time import run_virtually

QUICK = "limits: {in_flight: 4, retries: 6}"


def pool_book(servers: Sequence[str], folder: Path, more: str = QUICK) -> ModelBook:
    """Return a book with one alias `m` that lives on several servers."""
    endpoints = "".join(f"\n      - base_url: {url}" for url in servers)
    text = f"models:\n  m:\n    transport: openai\n    model: test-model\n    endpoints:{endpoints}\n    {more}\n"
    (folder / "models.yaml").write_text(text, encoding="utf-8")
    return ModelBook.load(folder / "models.yaml", {})


def asked_by(servers: Sequence[ModelServer]) -> list[set[str]]:
    """Return the questions that each server saw, which `noting` wrote down."""
    return [seen[id(server)] for server in servers]


seen: dict[int, set[str]] = {}


def noting(**settings: object) -> ModelServer:
    """Return a server that notes what it is asked."""
    found: set[str] = set()

    def reply(asking: Asking) -> str:
        found.add(asking.messages[0][1])
        return f"{asking.prompt} {asking.sample}"

    server = ModelServer(reply=reply, **settings)  # type: ignore[arg-type]  # the names are those of ModelServer
    seen[id(server)] = found
    return server


async def test_a_question_stays_on_one_replica_and_the_load_is_even(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(noting()) for _ in range(3)]
        gateway = await stack.enter_async_context(
            Gateway(pool_book([server.url for server in servers], tmp_path), None)
        )
        for number in range(12):
            item = scope(str(number))
            for turn in range(3):
                messages = (Message("user", f"question {number}"), Message("user", f"turn {turn}"))
                await gateway.ask(Request(model="m", messages=messages), scope=item, node="a")
        homes = asked_by(servers)
        assert [len(questions) for questions in homes] == [4, 4, 4]
        assert sum(server.ledger.requests for server in servers) == 36


async def test_round_robin_spreads_the_calls_of_a_question(tmp_path: Path) -> None:
    async with noting() as one, noting() as other:
        book = pool_book([one.url, other.url], tmp_path, "routing: round-robin")
        async with Gateway(book, None) as gateway:
            for turn in range(6):
                await gateway.ask(request(f"turn {turn}"), scope=scope("same"), node="a")
        assert (one.ledger.requests, other.ledger.requests) == (3, 3)


async def test_a_busy_replica_passes_calls_on(tmp_path: Path) -> None:
    async with ModelServer(meet=4) as one, ModelServer(meet=4) as other:
        async with Gateway(pool_book([one.url, other.url], tmp_path), None) as gateway, asyncio.TaskGroup() as tasks:
            for number in range(8):
                tasks.create_task(gateway.ask(request(f"q{number}"), scope=scope("same"), node="a"))
        assert {one.ledger.requests, other.ledger.requests} == {4}, "four fit, the others go to the least busy"
        assert max(one.ledger.most_at_once, other.ledger.most_at_once) == 4


async def test_where_one_is_told_to_wait_the_other_goes_on(tmp_path: Path) -> None:
    async with ModelServer(script=["429-retry-after"] * 9, retry_after_s=250) as one, ModelServer() as other:
        async with Gateway(pool_book([one.url, other.url], tmp_path), None) as gateway:
            started = time.monotonic()
            for turn in range(6):
                assert (await gateway.ask(request(f"turn {turn}"), scope=scope("same"), node="a")).samples
            assert time.monotonic() - started < 250, "nobody waits out the pause"
        assert one.ledger.requests == 1
        assert other.ledger.calls == 6


async def test_a_killed_replica_loses_nothing_and_is_taken_back(tmp_path: Path, store: CallStore) -> None:
    with ServerProcess("--latency", "0.05") as stays:
        dies = ServerProcess("--latency", "0.05")
        port = dies.url.rsplit(":", 1)[1].removesuffix("/v1")
        book = pool_book([stays.url, dies.url], tmp_path, "limits: {in_flight: 8, retries: 6}")
        async with Gateway(book, store) as gateway:

            async def one(number: int) -> None:
                asked = await gateway.ask(request(f"q{number}"), 2, scope=scope(str(number)), node="a")
                assert len(asked.samples) == 2
                assert not asked.failures

            async with asyncio.TaskGroup() as tasks:
                for number in range(60):
                    tasks.create_task(one(number))
                await asyncio.sleep(0.12)
                dies._process.kill()
            states = {status.name: status for status in gateway.status().replicas}
            assert states[dies.url].state == "down"
            assert states[dies.url].failures > 0
            assert states[stays.url].state == "up"
            dies.__exit__()
            with ServerProcess("--port", port) as back:
                await _until(lambda: all(status.state == "up" for status in gateway.status().replicas))
                async with asyncio.TaskGroup() as tasks:
                    for number in range(100, 120):
                        tasks.create_task(one(number))
                assert back.ledger()["calls"] > 0


async def test_a_run_starts_with_one_of_two_endpoints(tmp_path: Path) -> None:
    async with ModelServer() as server:
        gone = "http://127.0.0.1:9/v1"
        async with Gateway(pool_book([gone, server.url], tmp_path), None) as gateway:
            await gateway.preflight(["m"])
            for number in range(4):
                assert (await gateway.ask(request(f"q{number}"), scope=scope(str(number)), node="a")).samples
            assert [status.state for status in gateway.status().replicas] == ["down", "up"]
            assert gateway.status().retries == 0, "the look before the run had found the dead one"
        async with Gateway(pool_book([gone, "http://127.0.0.1:19/v1"], tmp_path), None) as gateway:
            with pytest.raises(ConfigError, match=r"\(http://127\.0\.0\.1:9/v1\) cannot be reached"):
                await gateway.preflight(["m"])
        async with Gateway(pool_book([server.url, gone], tmp_path, "model: other-model"), None) as gateway:
            with pytest.raises(ConfigError, match="does not serve"):
                await gateway.preflight(["m"])


async def test_a_failed_call_goes_elsewhere_and_where_all_are_down_it_still_goes(tmp_path: Path) -> None:
    pool, (one, other) = _pool(_Scripted(), _Scripted())
    route = Route(pool, "q")
    first = route.next()
    assert route.next() is not first
    assert pool.choose("q") is first, "the home stays"
    one.found_gone()
    other.found_gone()
    assert not route.lost(), "nowhere is better"
    assert pool.choose("q") in (one, other)
    await _until(lambda: {_state(one), _state(other)} == {"up"})
    one.found_gone()
    assert pool.choose("q") is other
    await one.aclose()
    await other.aclose()


async def test_a_replica_found_gone_gives_up_what_waits_for_it() -> None:
    silent = _Scripted(hangs=True, lists=ConnectionFailed("refused"))
    pool, (replica, _) = _pool(silent, _Scripted())
    call = asyncio.create_task(_call(replica))
    await asyncio.sleep(0.01)
    replica.found_gone()
    with pytest.raises(ConnectionFailed, match="went away"):
        await call
    assert pool.choose("q") is not replica
    silent.lists = None
    await _until(lambda: _state(replica) == "up")
    await replica.aclose()


async def test_silence_is_no_death_until_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.replicas._FIRST_WAIT_S", 0.01)
    slow = _Scripted(fails=Overloaded("503"), lists=Overloaded("503"))
    _, (replica, _) = _pool(slow, _Scripted())
    with pytest.raises(Overloaded):
        await _call(replica)
    assert _state(replica) == "suspect", "it is used as long as it may only be slow"
    await _until(lambda: _state(replica) == "down")
    slow.lists = None
    await _until(lambda: _state(replica) == "up")
    await replica.aclose()


def test_one_that_answers_checks_but_no_calls_is_rested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.replicas._FIRST_WAIT_S", 0.05)

    async def main() -> None:
        _, (replica, _) = _pool(_Scripted(fails=ConnectionFailed("reset")), _Scripted())
        for _ in range(6):
            with pytest.raises(ConnectionFailed):
                await _call(replica)
        await asyncio.sleep(0.1)
        assert _state(replica) == "down", "it answers, but six failures in a row have it wait"
        await _until(lambda: _state(replica) == "up")
        await replica.aclose()

    run_virtually(main)


async def test_a_silent_machine_is_found_by_the_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.replicas._HEARTBEAT_S", 0.02)
    _, (replica, _) = _pool(_Scripted(hangs=True, lists=ConnectionFailed("no route")), _Scripted())
    with pytest.raises(ConnectionFailed, match="went away"):
        await asyncio.wait_for(_call(replica), 120)
    await replica.aclose()


async def test_samples_survive_a_further_endpoint_and_each_has_its_key(tmp_path: Path, store: CallStore) -> None:
    async with ModelServer(api_key="k-one") as one, ModelServer(api_key="k-two") as two:
        path = tmp_path / "models.yaml"
        head = "models:\n  m:\n    transport: openai\n    model: test-model\n"
        path.write_text(f"{head}    base_url: {one.url}\n    api_key_env: ONE\n", encoding="utf-8")
        keys = {"ONE": "k-one", "TWO": "k-two"}
        async with Gateway(ModelBook.load(path, keys), store) as gateway:
            await gateway.ask(request(), scope=scope(), node="a")
        path.write_text(
            f"{head}    api_key_env: ONE\n    endpoints:\n      - base_url: {one.url}\n"
            f"      - {{base_url: {two.url}, api_key_env: TWO, limits: {{in_flight: 2}}}}\n"
            "    limits: {timeout_s: 9}\n",
            encoding="utf-8",
        )
        book = ModelBook.load(path, keys)
        first, second = book.resolve("m").replicas()
        assert (first.limits.in_flight, second.limits.in_flight, second.limits.timeout_s) == (64, 2, 9)
        async with Gateway(book, store) as gateway:
            await gateway.preflight(["m"])
            again = await gateway.ask(request(), scope=scope(run="r-2"), node="a")
            assert again.samples[0].cached
            for number in range(4):
                await gateway.ask(request(f"q{number}"), scope=scope(str(number)), node="a")
        assert two.ledger.answered == 2
        with pytest.raises(ConfigError, match="TWO"):
            ModelBook.load(path, {"ONE": "k-one"}).check(["m"])


async def test_a_machine_by_the_hour_costs_its_busy_time(tmp_path: Path) -> None:
    async with ModelServer(latency_s=0.1) as server:
        book = pool_book(
            [server.url], tmp_path, "usd_per_hour: 36\n    limits: {timeout_s: 10}\n    defaults: {max_tokens: 32}"
        )
        began = time.perf_counter()
        async with Gateway(book, None, budget=Budget(Decimal("1.00"))) as gateway:
            mine = scope()
            async with asyncio.TaskGroup() as tasks:
                for number in range(5):
                    tasks.create_task(gateway.ask(request(f"q{number}"), 2, scope=mine, node="a"))
            (status,) = gateway.status().replicas
        took = time.perf_counter() - began
        assert status.rent is not None
        assert status.busy_s is not None
        # They were out together: what they took one by one would be more than the time that passed.
        assert 0.1 <= status.busy_s <= took
        paid = mine.totals().paid_cost
        assert paid is not None
        assert abs(paid - status.rent) < Decimal("1e-7"), "the calls together pay the busy time, no more"
        async with Gateway(book, None, budget=Budget(Decimal("0.09"))) as gateway:
            with pytest.raises(BudgetExceeded):
                # 10 s at 36 dollars an hour are 10 cents, which one request may come to.
                await gateway.ask(request("more"), scope=scope(), node="a")


async def _call(replica: Replica) -> Reply:
    wire = WireRequest(model="m", messages=(), sampling=request().sampling, indices=(0,), seeds=(0,))
    answered = await replica.call(lambda transport: transport.complete(wire), samples=1, timeout_s=30)
    return answered.reply


def _state(replica: Replica) -> str:
    return replica.state


def _pool(*transports: Transport) -> tuple[ReplicaPool, list[Replica]]:
    replicas = [Replica(f"r{place}", transport, Limiter(4)) for place, transport in enumerate(transports)]
    return ReplicaPool(replicas), replicas


class _Scripted:
    """A transport of its own, as a third party's might be: it hangs, fails, or refuses to be looked at."""

    def __init__(self, *, hangs: bool = False, fails: Exception | None = None, lists: Exception | None = None) -> None:
        self.hangs, self.fails, self.lists = hangs, fails, lists

    async def complete(self, request: WireRequest) -> Reply:
        if self.hangs:
            await asyncio.Event().wait()
        raise self.fails or ConnectionFailed("nobody there")

    async def list_models(self) -> tuple[str, ...]:
        if self.lists is not None:
            raise self.lists
        return ()

    def count_tokens(self, messages: Sequence[Message]) -> int | None:
        return None

    async def aclose(self) -> None:
        return None


async def _until(holds: object, seconds: float = 120.0) -> None:
    assert callable(holds)
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what is awaited has no event to wait for
            await asyncio.sleep(0.01)
