"""Samples that are cancelled: what a race pays equals what the server counts."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest

from architectures import compile_architecture
from architectures.outcome import Outcome
from architectures.parse import parse
from db.calls import CallStore
from providers import Budget, Gateway, Scope
from providers.errors import ProviderError
from providers.testing_server import Asking, Ledger
from providers.testing_stream import StreamingServer
from tests.providers.asking import book_of, request, scope

RACE = {
    "name": "race",
    "layers": [{"short_m_at_k": {"model": "m", "k": 6, "m": 2, "temperature": 0.8, "max_tokens": 200}}],
}
QUESTIONS = 12
ALL_AT_ONCE = f"price: {{prompt: 1, completion: 2}}\n    limits: {{retries: 8, in_flight: {6 * QUESTIONS}}}"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever hangs up waits for the server's last words, also where the machine stands still meanwhile."""
    monkeypatch.setattr("providers.hangup._HEADERS_S", 60.0)
    monkeypatch.setattr("providers.hangup.LINGER_S", 60.0)


def of_many_lengths(asking: Asking) -> str:
    """Write between 5 and 60 tokens, by question and sample."""
    return "step " * (4 + (len(asking.prompt) * 7 + asking.sample * 11) % 44) + f"\nAnswer: {asking.sample % 2}"


def tokens_of(ledger: Ledger) -> tuple[int, int]:
    return ledger.prompt_tokens, ledger.completion_tokens


async def raced(gateway: Gateway, questions: int = QUESTIONS) -> list[tuple[Outcome, Scope]]:
    """Run the race on questions of different lengths, all at once."""
    compiled = compile_architecture(parse(RACE))

    async def one(number: int) -> tuple[Outcome, Scope]:
        mine = scope(str(number))
        return await compiled.run(f"What is {10**number}?", gateway=gateway, scope=mine), mine

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(number)) for number in range(questions)]
    return [task.result() for task in running]


async def test_the_accounts_of_a_race_equal_the_servers_ledger(tmp_path: Path, store: CallStore) -> None:
    budget = Budget(dollars=Decimal(10))
    async with (
        StreamingServer(token_s=0.003, reply=of_many_lengths, meet=6 * QUESTIONS) as server,
        Gateway(book_of(server, tmp_path, ALL_AT_ONCE), store, budget=budget) as gateway,
    ):
        ran = await raced(gateway)
        await server.idle()
        status = gateway.status()
    totals = [mine.totals() for _, mine in ran]
    billed = tokens_of(server.ledger)
    assert server.hung_up > QUESTIONS
    # Mostly two of six finish; now and then a third comes with the second.
    assert sum(one.cancelled for one in totals) == status.paid.cancelled
    assert sum(len(mine.samples) for _, mine in ran) + status.paid.cancelled == 6 * QUESTIONS
    # One that comes whole in the moment of the cancelling is no loss: nobody used it, and it is kept.
    assert server.hung_up + server.ledger.calls == 6 * QUESTIONS
    assert (sum(t.paid_prompt_tokens for t in totals), sum(t.paid_completion_tokens for t in totals)) == billed
    assert (status.paid.prompt_tokens, status.paid.completion_tokens) == billed
    assert sum(t.paid_calls for t in totals) == server.ledger.requests == 6 * QUESTIONS
    dollars = (Decimal(billed[0]) + 2 * Decimal(billed[1])) / 10**6
    assert sum(t.paid_cost or Decimal(-1) for t in totals) == dollars == budget.settled.dollars
    assert budget.settled.tokens == sum(billed)
    assert not budget.reserved.dollars
    spent = store.spent("r-1")
    assert (spent.prompt_tokens, spent.completion_tokens, spent.cost) == (*billed, dollars)
    assert status.uncertain == 0


async def test_the_first_that_finish_vote_and_a_repeated_race_pays_nothing(tmp_path: Path, store: CallStore) -> None:
    async with StreamingServer(token_s=0.003, reply=of_many_lengths, meet=3 * 6) as server:
        async with Gateway(book_of(server, tmp_path), store) as gateway:
            first = await raced(gateway, 3)
            requests = server.ledger.requests
        async with Gateway(book_of(server, tmp_path), store) as gateway:
            again = await raced(gateway, 3)
            assert server.ledger.requests == requests
            assert gateway.status().paid.calls == 0
    assert [outcome.answer for outcome, _ in again] == [outcome.answer for outcome, _ in first]
    for outcome, _ in first:
        measures = outcome.trace["short_m_at_k"].measures
        assert measures["finished"] == 2
        assert measures["cancelled"] == 4


@pytest.mark.parametrize("usage", ["final", "refused"])
async def test_a_server_that_does_not_count_as_it_goes_is_counted_by_its_chunks(
    usage: Literal["final", "refused"], tmp_path: Path, store: CallStore
) -> None:
    async with (
        StreamingServer(token_s=0.003, usage=usage, reply=of_many_lengths, meet=4 * 6) as server,
        Gateway(book_of(server, tmp_path), store) as gateway,
    ):
        ran = await raced(gateway, 4)
        whole = await gateway.ask(request("last"), scope=scope(), node="a", cancellable=True)
        await server.idle()
    assert whole.samples[0].completion.usage.estimated == (usage == "refused")
    written = sum(mine.totals().paid_completion_tokens for _, mine in ran)
    cut = [one for _, mine in ran for one in mine.cancelled]
    assert cut
    # One that comes whole in the moment of the cancelling brings the server's own count.
    whole_too = server.ledger.calls - 1 - sum(len(mine.samples) for _, mine in ran)
    assert sum(not one.usage.estimated for one in cut) == (whole_too if usage == "final" else 0)
    if usage == "final":
        own = whole.samples[0].completion.usage.completion_tokens
        assert written + own == server.ledger.completion_tokens


async def first_was_asked_whole(store: CallStore) -> None:
    """Wait until one sample is kept."""
    async with asyncio.timeout(120):
        while store.spent("r-1").calls == 0:  # noqa: ASYNC110 - a database tells nobody of its own accord
            await asyncio.sleep(0.005)


async def test_what_came_before_the_cancelling_is_kept_and_counted(tmp_path: Path, store: CallStore) -> None:
    def slow_second(asking: Asking) -> str:
        return "word " * (400 if asking.sample else 2)

    async with (
        StreamingServer(token_s=0.05, reply=slow_second) as server,
        Gateway(book_of(server, tmp_path), store) as gateway,
    ):
        mine = scope()
        task = asyncio.create_task(gateway.ask(request(), 2, scope=mine, node="a", cancellable=True))
        await first_was_asked_whole(store)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.idle()
        totals = mine.totals()
        assert (totals.calls, totals.cancelled, len(mine.samples)) == (2, 2, 0)
        assert (totals.paid_prompt_tokens, totals.paid_completion_tokens) == tokens_of(server.ledger)
        # The first came whole: it is kept, and whoever asks for it in this scope has paid already.
        kept = await gateway.stored(request(), 2, scope=mine)
        assert kept == {0}
        before = server.ledger.requests
        again = await gateway.ask(request(), scope=mine, node="a", first=0)
        assert server.ledger.requests == before
        assert again.samples[0].cached


async def test_a_stream_that_breaks_off_is_asked_again(tmp_path: Path, store: CallStore) -> None:
    async with (
        StreamingServer(breaks=2, reply=of_many_lengths) as server,
        Gateway(book_of(server, tmp_path), store) as gateway,
    ):
        asked = await gateway.ask(request(), scope=scope(), node="a", cancellable=True)
    assert len(asked.samples) == 1
    assert server.ledger.requests == 3
    assert server.ledger.calls == 1


async def test_a_refused_stream_is_the_error_that_it_says(tmp_path: Path, store: CallStore) -> None:
    more = "limits: {retries: 0}"
    async with (
        StreamingServer(script=["context-length", "429"]) as server,
        Gateway(book_of(server, tmp_path, more), store) as gateway,
    ):
        kinds: list[str] = []
        for number in range(2):
            asked = await gateway.ask(request(f"q{number}"), scope=scope(), node="a", cancellable=True)
            assert isinstance(asked.failures[0], ProviderError)
            kinds.append(asked.failures[0].kind)
    assert kinds == ["context_length", "rate_limit"]


async def test_a_whole_stream_equals_the_unstreamed_answer(tmp_path: Path) -> None:
    texts = []
    for cancellable in (False, True):
        async with (
            StreamingServer(reply=of_many_lengths) as server,
            Gateway(book_of(server, tmp_path), None) as gateway,
        ):
            asked = await gateway.ask(request(), scope=scope(), node="a", cancellable=cancellable)
            completion = asked.samples[0].completion
            texts.append((completion.text, completion.finish_reason, completion.usage.prompt_tokens))
            assert completion.usage.completion_tokens == server.ledger.completion_tokens
    assert texts[0] == texts[1]
