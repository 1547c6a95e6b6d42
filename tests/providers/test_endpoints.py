"""`endpoints:` in models.yaml, prices by the hour and in batches, and what they come to."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import ConfigError, SpecError
from providers import ModelBook
from providers.prices import BatchPrice
from providers.rent import Rent

FOREIGN = "http://127.0.0.1:9/v1"
OTHER = "http://127.0.0.1:19/v1"


def load(folder: Path, text: str, **env: str) -> ModelBook:
    (folder / "models.yaml").write_text(f"models:\n  m: {text}\n", encoding="utf-8")
    return ModelBook.load(folder / "models.yaml", env)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{{transport: openai, base_url: '{FOREIGN}', endpoints: [{{base_url: '{OTHER}'}}]}}", "either 'base_url' or"),
        (f"{{transport: openai, endpoints: [{{base_url: '{FOREIGN}'}}, {{base_url: '{FOREIGN}/'}}]}}", "are the same"),
        ("{transport: embedded, model: mini, endpoints: [{}]}", "'embedded' has no endpoints"),
        ("{transport: openai, endpoints: [{base_ur: x}]}", "Did you mean 'base_url'?"),
        ("{transport: openai, endpoints: [{base_url: 'gpu-1:8000'}]}", "must begin with http"),
        ("{transport: openai, endpoints: [{base_url: 'http://a:b@c/v1'}]}", "no user name or password"),
        ("{transport: openai, endpoints: [{api_key_env: 'sk-123 4'}]}", "not a key"),
        ("{transport: openai, endpoints: [{api_key: 'sk-1'}]}", "a key must not stand in the file"),
        ("{transport: openai, endpoints: 3}", "'endpoints'"),
        (
            f"{{transport: openai, base_url: '{FOREIGN}', price: {{prompt: 1, completion: 1}}, usd_per_hour: 2}}",
            "either 'price' or 'usd_per_hour'",
        ),
        (f"{{transport: openai, base_url: '{FOREIGN}', usd_per_hour: 0}}", "usd_per_hour"),
        ("{transport: openai, routing: random}", "routing"),
        ("{transport: openai, price: {prompt: 1, completion: 1, batch: {prompt: 1}}}", "price.batch.completion"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SpecError, match="model 'm'") as found:
        load(tmp_path, text)
    assert said in str(found.value)


def test_a_key_goes_to_no_address_that_it_was_not_meant_for(tmp_path: Path) -> None:
    book = load(tmp_path, f"{{use: openai/gpt-4o-mini, endpoints: [{{}}, {{base_url: '{FOREIGN}'}}]}}")
    own, foreign = book.resolve("m").replicas()
    assert (own.api_key_env, foreign.api_key_env) == ("OPENAI_API_KEY", None)
    assert (own.base_url, foreign.base_url) == (None, FOREIGN)
    assert book.resolve("m").price is None, "somewhere else it has another price"
    book = load(tmp_path, f"{{transport: openai, model: x, endpoints: [{{}}, {{base_url: '{FOREIGN}'}}]}}")
    assert [one.api_key_env for one in book.resolve("m").replicas()] == ["OPENAI_API_KEY", None]
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        book.check(["m"])


def test_two_keys_of_one_provider_keep_its_price(tmp_path: Path) -> None:
    endpoints = "endpoints: [{api_key_env: ONE}, {api_key_env: TWO}]"
    book = load(tmp_path, f"{{use: openai/gpt-4o-mini, {endpoints}}}", ONE="k1", TWO="k2")
    spec = book.resolve("m")
    assert spec.price is not None
    assert spec.price.batch == BatchPrice(prompt=Decimal("0.075"), completion=Decimal("0.3"))
    assert spec.identity == "openai/gpt-4o-mini", "the same model, the same samples"
    book.check(["m"])
    assert [book.api_key(one) for one in spec.replicas()] == ["k1", "k2"]


def test_the_most_that_a_request_can_cost_by_the_hour(tmp_path: Path) -> None:
    endpoints = f"[{{base_url: '{FOREIGN}'}}, {{base_url: '{OTHER}', usd_per_hour: 7.2, limits: {{timeout_s: 5}}}}]"
    spec = load(
        tmp_path, f"{{transport: openai, usd_per_hour: 3.6, limits: {{timeout_s: 20}}, endpoints: {endpoints}}}"
    ).resolve("m")
    assert spec.priced
    assert spec.dearest_request == Decimal("0.02"), "20 s at 3.6 dollars an hour; 5 s at 7.2 are half of it"
    assert not load(tmp_path, f"{{transport: openai, base_url: '{FOREIGN}'}}").resolve("m").priced
    partly = f"[{{base_url: '{FOREIGN}'}}, {{base_url: '{OTHER}', usd_per_hour: 7.2}}]"
    assert not load(tmp_path, f"{{transport: openai, endpoints: {partly}}}").resolve("m").priced
    assert load(tmp_path, "{use: openai/gpt-4o-mini, usd_per_hour: 2}").resolve("m").price is None


@given(
    st.lists(
        st.tuples(st.integers(1, 8), st.floats(0, 100, width=32), st.floats(0.015625, 50, width=32)),
        min_size=1,
        max_size=20,
    )
)
def test_calls_together_pay_the_busy_time(calls: list[tuple[int, float, float]]) -> None:
    events = sorted(
        [(start, 1, place) for place, (_, start, _) in enumerate(calls)]
        + [(start + length, 0, place) for place, (_, start, length) in enumerate(calls)]
    )
    now = 0.0
    rent = Rent(Decimal("3600"), clock=lambda: now)
    since: dict[int, float] = {}
    paid = Decimal(0)
    for moment, begins, place in events:
        now = moment
        samples = calls[place][0]
        if begins:
            since[place] = rent.begin(samples)
        else:
            share = rent.end(samples, since.pop(place))
            assert share <= Decimal(calls[place][2]) + Decimal("1e-6"), "never more than alone"
            paid += share
    assert rent.in_flight == 0
    assert abs(paid - rent.dollars) < Decimal("1e-6")
    covered, end = 0.0, float("-inf")
    for _, start, length in sorted(calls, key=lambda call: call[1]):
        covered += max(0.0, start + length - max(start, end))
        end = max(end, start + length)
    assert rent.busy_s == pytest.approx(covered, abs=1e-6)
