"""A server that misbehaves on purpose: every call is answered once or reported as failed with its class."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from db.calls import CallStore
from db.database import Database
from providers import Budget, Gateway
from providers.base import Message, Sampling, WireRequest
from providers.errors import (
    AuthError,
    BadRequest,
    CallTimeout,
    ConnectionFailed,
    ContextLengthExceeded,
    MalformedReply,
    Overloaded,
    ProviderError,
    RateLimited,
)
from providers.litellm_transport import LiteLLMTransport
from providers.openai_transport import OpenAITransport
from providers.testing_server import Fault, ModelServer
from tests.providers.asking import book_of, request, scope, small_evaluation
from tests.providers.standstill import Standstill

KEY = "sk-planted-0123456789abcdef"
FAULTS: list[tuple[Fault, type[ProviderError]]] = [
    ("401", AuthError),
    ("429", RateLimited),
    ("429-retry-after", RateLimited),
    ("500", Overloaded),
    ("503", Overloaded),
    ("bad-request", BadRequest),
    ("context-length", ContextLengthExceeded),
    ("empty-choices", MalformedReply),
    ("reset", ConnectionFailed),
    ("timeout", CallTimeout),
    ("truncated", MalformedReply),
]


def wire(model: str = "test-model", timeout_s: float = 60.0) -> WireRequest:
    return WireRequest(
        model=model,
        messages=(Message("user", "hello"),),
        sampling=Sampling(),
        indices=(0,),
        seeds=(0,),
        timeout_s=timeout_s,
    )


@pytest.mark.parametrize(("fault", "expected"), FAULTS)
async def test_every_fault_has_its_class_through_the_openai_sdk(fault: Fault, expected: type[ProviderError]) -> None:
    async with ModelServer(script=(fault,), hang_s=2.0) as server:
        transport = OpenAITransport(server.url, KEY)
        with pytest.raises(ProviderError) as caught:
            await transport.complete(wire(timeout_s=0.3 if fault == "timeout" else 60.0))
        assert type(caught.value) is expected
        assert caught.value.retry_after == (0.05 if fault == "429-retry-after" else None)
        assert KEY not in str(caught.value)
        assert (await transport.complete(wire())).completions[0].text
        await transport.aclose()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_every_fault_has_its_class_through_litellm() -> None:
    """In one test, since litellm's clients outlive a transport and belong to the loop that made them."""
    for fault, expected in FAULTS:
        async with ModelServer(script=(fault,), hang_s=2.0) as server:
            transport = LiteLLMTransport(server.url, KEY)
            with pytest.raises(ProviderError) as caught:
                await transport.complete(wire("hosted_vllm/test-model", timeout_s=0.3 if fault == "timeout" else 60.0))
            assert caught.value.retryable == expected.retryable, (fault, caught.value)
            if fault not in ("reset", "empty-choices"):
                assert type(caught.value) is expected, (fault, caught.value)
            assert KEY not in str(caught.value)
            await transport.aclose()


async def test_a_refused_connection_is_named() -> None:
    transport = OpenAITransport("http://127.0.0.1:9/v1", None)
    with pytest.raises(ConnectionFailed, match=r"connection to http://127.0.0.1:9/v1/ failed"):
        await transport.complete(wire())
    with pytest.raises(ConnectionFailed):
        await transport.list_models()
    await transport.aclose()


async def test_a_server_that_echoes_the_key_does_not_get_it_into_the_message() -> None:
    async with ModelServer(api_key="other") as server:
        transport = OpenAITransport(server.url, KEY)
        with pytest.raises(AuthError, match=r"answered 401: Incorrect API key provided: Bearer \[key\]"):
            await transport.complete(wire())
        await transport.aclose()


@pytest.mark.parametrize("fault", ["no-usage", "wrong-usage"])
async def test_usage_that_is_no_usage_is_estimated_and_marked(fault: Fault) -> None:
    async with ModelServer(script=(fault,)) as server:
        transport = OpenAITransport(server.url, None)
        usage = (await transport.complete(wire())).completions[0].usage
        assert usage.estimated
        assert usage.prompt_tokens == 2
        assert usage.completion_tokens > 0
        await transport.aclose()


async def test_a_server_that_trickles_is_timed_out(tmp_path: Path, store: CallStore) -> None:
    more = "limits: {timeout_s: 0.3, retries: 20}"
    async with (
        ModelServer(script=("trickle",)) as server,
        Gateway(book_of(server, tmp_path, more), store) as gateway,
    ):
        asked = await gateway.ask(request(), scope=scope(), node="a")
        assert len(asked.samples) == 1
        status = gateway.status()
        # One retry, unless the machine stood still in the next attempt as well.
        assert status.retries == status.uncertain == status.requests - 1 >= 1


async def test_retries_end_and_are_reported(tmp_path: Path, store: CallStore) -> None:
    more = "limits: {retries: 2}"
    async with (
        ModelServer(script=["429-retry-after"] * 3, retry_after_s=0.01) as server,
        Gateway(book_of(server, tmp_path, more), store) as gateway,
    ):
        asked = await gateway.ask(request(), scope=scope(), node="a")
        assert [type(error) for error in asked.failures] == [RateLimited]
        assert server.ledger.requests == 3
        assert gateway.status().retries == 2


async def test_retry_after_is_waited_for(tmp_path: Path, store: CallStore) -> None:
    async with (
        ModelServer(script=["429-retry-after"], retry_after_s=0.4) as server,
        Gateway(book_of(server, tmp_path), store) as gateway,
    ):
        start = asyncio.get_running_loop().time()
        async with Standstill() as stood:
            await gateway.ask(request(), scope=scope(), node="a")
            took = asyncio.get_running_loop().time() - start
        assert 0.4 <= took < 1.0 + stood.total_s
        assert gateway.status().uncertain == 0


async def test_under_faults_every_call_is_answered_once_and_the_books_agree(tmp_path: Path, store: CallStore) -> None:
    faults: tuple[Fault, ...] = (
        "429-retry-after",
        "reset",
        "truncated",
        "empty-choices",
        "fewer-choices",
        "bad-request",
        "context-length",
        "content-filter",
    )
    budget = Budget(dollars=Decimal(1))
    more = "price: {prompt: 1, completion: 2}\n    limits: {retries: 3, timeout_s: 120, in_flight: 32}"
    server = ModelServer(fault_rate=0.2, faults=faults, retry_after_s=0.01, latency_s=0.002)
    async with server, Gateway(book_of(server, tmp_path, more), store, budget=budget) as gateway:
        scopes = [scope(str(item)) for item in range(250)]

        async def item(number: int) -> tuple[int, int]:
            asked = await gateway.ask(
                request(f"q{number}", max_tokens=60), 1 + number % 3, scope=scopes[number], node="a"
            )
            assert sorted(s.index for s in asked.samples) == [s.index for s in asked.samples]
            return len(asked.samples), len(asked.failures)

        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(item(number)) for number in range(250)]
        for number, task in enumerate(asked):
            assert sum(task.result()) == 1 + number % 3
        status = gateway.status()
        failed = sum(task.result()[1] for task in asked)
        assert failed == status.failures == sum(one.totals().failures for one in scopes) > 0
        assert status.retries > 0
        assert status.uncertain > 0
        ledger, paid = server.ledger, status.paid
        assert paid.paid_calls == ledger.calls
        assert (paid.paid_prompt_tokens, paid.paid_completion_tokens) == (
            ledger.prompt_tokens,
            ledger.completion_tokens,
        )
        assert budget.settled.dollars == paid.paid_cost
        assert budget.settled.tokens == ledger.prompt_tokens + ledger.completion_tokens
        assert budget.reserved.calls == 0
        assert max(ledger.by_sample.values()) == 1


def test_no_planted_key_is_left_in_the_database(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"

    async def main() -> list[str]:
        said: list[str] = []
        script: list[Fault | None] = ["bad-request", "reset", "500", None]
        async with ModelServer(api_key=KEY, script=script) as server:
            with Database.open(f"sqlite:///{path}") as database:
                book = book_of(server, tmp_path, "api_key_env: K\n    limits: {retries: 0}", env={"K": KEY})
                async with Gateway(book, CallStore(database)) as gateway:
                    for number in range(4):
                        mine = scope(str(number))
                        await gateway.ask(request(str(number)), scope=mine, node="a")
                        said += [str(failure.error) for failure in mine.failures]
        return said

    said = asyncio.run(main())
    assert len(said) == 3
    assert KEY not in "".join(said)
    everything = b"".join(file.read_bytes() for file in tmp_path.glob("calls.db*"))
    assert b"test-model" in everything
    assert KEY.encode() not in everything


async def test_killed_and_resumed_nothing_committed_is_asked_again(tmp_path: Path) -> None:
    items = 120
    async with ModelServer(latency_s=0.01) as server:
        book = book_of(server, tmp_path, "limits: {in_flight: 64}")
        with Database.open(f"sqlite:///{tmp_path}/undisturbed.db") as database:
            undisturbed = await small_evaluation(book, database, items)
        server.ledger.by_sample.clear()

        path, committed = tmp_path / "killed.db", 0
        command = [sys.executable, "-m", "tests.providers.asking", str(tmp_path / "models.yaml"), f"sqlite:///{path}"]
        for round_ in range(2):
            process = await asyncio.create_subprocess_exec(*command, str(items))
            before = server.ledger.calls
            while server.ledger.calls < before + 100 + 30 * round_:  # noqa: ASYNC110 - a count sets no event
                await asyncio.sleep(0.002)
            process.kill()
            await process.wait()
            await server.left()
            assert _keys(path) > committed, "nothing was kept"
            committed = _keys(path)
        answered = sum(server.ledger.by_sample.values())
        with Database.open(f"sqlite:///{path}") as database:
            resumed = await small_evaluation(book, database, items)
        assert resumed == undisturbed
        asked_again = sum(server.ledger.by_sample.values()) - answered
        assert asked_again == 3 * items - committed, "a committed sample was asked for again"
        repeats = sum(count - 1 for count in server.ledger.by_sample.values())
        assert repeats <= 2 * 16 * 3, "more was repeated than was in flight at the kills"


def _keys(path: Path) -> int:
    connection = sqlite3.connect(path)
    count = int(connection.execute("SELECT count(*) FROM call").fetchone()[0])
    connection.close()
    return count
