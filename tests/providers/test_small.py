"""The small laws: prices, retries, scrubbing, tallies, scopes, memory."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import Completion, Sample, Usage
from providers.codec import Stored
from providers.errors import AuthError, CallTimeout, ConnectionFailed, Overloaded, RateLimited
from providers.memory import Memory
from providers.prices import BatchPrice, Price, cost, known_providers, listed
from providers.retry import RetryPolicy, is_uncertain
from providers.scope import Scope
from providers.scrub import scrub
from providers.tally import Tally, Totals


def test_a_cost_is_exact_and_the_cached_prompt_has_its_price() -> None:
    price = Price(prompt=Decimal("0.15"), completion=Decimal("0.6"), cached_prompt=Decimal("0.075"))
    assert cost(Usage(1000, 500, 400), price) == Decimal("0.00042")
    assert cost(Usage(1000, 500), price.model_copy(update={"cached_prompt": None})) == Decimal("0.00045")
    assert cost(Usage(1000, 500), None) is None


def test_the_table_knows_a_model_and_says_none_where_it_does_not() -> None:
    mini = listed("openai", "gpt-4o-mini")
    assert mini is not None
    batch = BatchPrice(prompt=Decimal("0.075"), completion=Decimal("0.3"))
    assert mini.price == Price(
        prompt=Decimal("0.15"), completion=Decimal("0.6"), cached_prompt=Decimal("0.075"), batch=batch
    )
    assert (mini.context, mini.max_output) == (128000, 16384)
    haiku = listed("anthropic", "claude-haiku-4-5")
    assert haiku is not None
    assert haiku.price is not None
    assert listed("openai", "claude-haiku-4-5") is None
    vectors = listed("openai", "text-embedding-3-small")
    assert vectors is not None
    assert vectors.price is not None
    assert (vectors.price.prompt, vectors.price.completion) == (Decimal("0.02"), Decimal(0))
    assert listed("openai", "dall-e-3") is None
    assert listed("nobody", "nothing") is None
    assert {"anthropic", "gemini", "groq", "together_ai", "bedrock"} <= known_providers()


def test_waits_grow_with_jitter_and_end() -> None:
    policy = RetryPolicy(retries=4, base_s=1.0, cap_s=4.0, patience_s=100.0)
    error = Overloaded("busy")
    for attempt, ceiling in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 4.0)):
        waits = [policy.wait(error, attempt=attempt, waited_s=0.0) for _ in range(200)]
        assert all(wait is not None and 0 <= wait <= ceiling for wait in waits)
        assert max(wait or 0 for wait in waits) > 0.8 * ceiling
    assert policy.wait(error, attempt=5, waited_s=0.0) is None
    assert policy.wait(error, attempt=1, waited_s=100.5) is None
    assert policy.wait(AuthError("no"), attempt=1, waited_s=0.0) is None


@given(st.floats(0, 60), st.integers(1, 5))
def test_retry_after_is_honoured(after: float, attempt: int) -> None:
    wait = RetryPolicy().wait(RateLimited("slow", retry_after=after), attempt=attempt, waited_s=0.0)
    assert wait is not None
    assert after <= wait <= after + 30.0


def test_what_broke_off_is_uncertain() -> None:
    assert is_uncertain(CallTimeout("x"))
    assert is_uncertain(ConnectionFailed("x"))
    assert not is_uncertain(RateLimited("x"))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("key my-own-secret-1 refused", "key [key] refused"),
        ("Incorrect API key provided: sk-proj-abcDEF123456ghi.", "Incorrect API key provided: [key]."),
        ("Authorization: Bearer abcdef1234567", "Authorization: Bearer [key]"),
        ("two\n  lines", "two lines"),
        ("x" * 500, "x" * 399 + "…"),
        ("task-12 and sky are words", "task-12 and sky are words"),
    ],
)
def test_keys_are_scrubbed(text: str, kept: str) -> None:
    assert scrub(text, "my-own-secret-1", None) == kept


def sample(key: str, run: str, item: str, scope: Scope, dollars: Decimal | None = Decimal("0.01")) -> Sample:
    completion = Completion(text="x", finish_reason="stop", usage=Usage(10, 5))
    cached = not scope.claims(key, (run, item))
    return Sample(key=key, model="m", index=0, completion=completion, cached=cached, cost=dollars, latency_s=0.1)


def test_a_scope_counts_requests_and_tells_paid_from_cached() -> None:
    scope = Scope("r", "1")
    assert [scope.take(b"a", 2), scope.take(b"b", 1), scope.take(b"a", 3)] == [range(2), range(1), range(2, 5)]
    for key, run, item in (("k1", "r", "1"), ("k1", "r", "1"), ("k2", "other", "1"), ("k3", "r", "2")):
        scope.use("node", sample(key, run, item, scope))
    scope.fail("node", RateLimited("x"))
    totals = scope.totals()
    assert (totals.calls, totals.paid_calls, totals.cached_calls, totals.failures) == (4, 1, 3, 1)
    assert (totals.prompt_tokens, totals.paid_prompt_tokens) == (40, 10)
    assert (totals.cost, totals.paid_cost) == (Decimal("0.04"), Decimal("0.01"))
    assert [use.node for use in scope.samples] == ["node"] * 4


def test_an_unknown_price_stays_unknown_in_every_sum() -> None:
    tally = Tally()
    tally.add(Usage(1, 1), Decimal("0.5"), paid=True)
    tally.add(Usage(1, 1), None, paid=False)
    assert (tally.totals().cost, tally.totals().paid_cost) == (None, Decimal("0.5"))
    known = Totals(calls=1, cost=Decimal(1), paid_cost=Decimal(1))
    assert known.plus(tally.totals()).cost is None
    assert known.plus(tally.totals()).paid_cost == Decimal("1.5")
    tally.add(Usage(1, 1), None, paid=True)
    assert tally.totals().paid_cost is None
    assert known.plus(tally.totals()).paid_cost is None


def test_memory_keeps_the_samples_used_last_within_its_limit() -> None:
    def stored(key: str, text: str = "x" * 400) -> Stored:
        completion = Completion(text=text, finish_reason="stop", usage=Usage(1, 1))
        return Stored(key=key, completion=completion, cost=None, latency_s=0.0, payer=("r", "1"))

    memory = Memory(limit=3500)
    for key in "abc":
        memory.put(stored(key))
    assert memory.get("a") is not None
    memory.put(stored("d"))
    memory.put(stored("d"))
    assert [key for key in "abcd" if memory.get(key)] == ["a", "c", "d"]
    memory.put(stored("huge", "x" * 5000))
    assert len(memory) == 0
