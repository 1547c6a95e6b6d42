"""`colonnade models check`: what it asks, what it finds, and how the models book takes it in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from db.errors import ConfigError
from providers.book import ModelBook
from providers.found import FOUND_PATH
from providers.probe import MOST_REQUESTS, MOST_TOKENS
from tests.conftest import CommandResult, ServerProcess

Cli = Callable[..., CommandResult]
Servers = Callable[..., ServerProcess]


def write(workplace: Path, *urls: str, more: str = "{}") -> None:
    endpoints = ", ".join(f"{{base_url: '{url}'}}" for url in urls)
    (workplace / "models.yaml").write_text(
        f"models:\n  m: {{transport: openai, model: test-model, endpoints: [{endpoints}], capabilities: {more}}}\n"
    )


def test_it_finds_what_a_server_can_do(cli: Cli, workplace: Path, model_server: Servers) -> None:
    server = model_server("--stateless")
    write(workplace, server.url, more="{prefix_continuation: true}")
    done = cli("models", "check", "m", "--json")
    assert done.code == 0
    assert f"at most {MOST_REQUESTS} requests with {MOST_TOKENS} tokens" in done.err
    (record,) = done.records
    assert record["ok"] is True
    assert record["address"] == server.url
    assert record["capabilities"] == {
        "logit_bias": False,
        "logprobs": True,
        "n": True,
        "prefix_continuation": False,
        "seed": True,
        "stop": True,
        "top_logprobs": True,
        "usage": True,
    }
    assert record["contradicted"] == ["prefix_continuation"]
    ledger = server.ledger()
    assert ledger["requests"] <= MOST_REQUESTS
    assert ledger["completion_tokens"] <= MOST_TOKENS
    assert "says otherwise of prefix_continuation" in cli("models", "check", "m").out
    capabilities = ModelBook.load().resolve("m").capabilities
    assert capabilities.prefix_continuation, "what models.yaml states stands"
    assert not capabilities.logit_bias


def test_what_was_found_takes_the_place_of_what_was_assumed(cli: Cli, workplace: Path, model_server: Servers) -> None:
    one, other = model_server(), model_server("--faults", "fewer-choices", "--fault-rate", "1")
    write(workplace, one.url, other.url)
    assert ModelBook.load().resolve("m").capabilities.n, "assumed of compatible servers"
    first, second = cli("models", "check", "m", "--json").records
    assert (first["capabilities"]["n"], second["capabilities"]["n"]) == (True, False)
    assert not ModelBook.load().resolve("m").capabilities.n, "a pool can do what all of it can"
    write(workplace, one.url, other.url, more="{n: true}")
    assert ModelBook.load().resolve("m").capabilities.n
    write(workplace, one.url)
    assert ModelBook.load().resolve("m").capabilities.n


def test_the_lists_alone(cli: Cli, workplace: Path, model_server: Servers) -> None:
    server = model_server()
    write(workplace, server.url)
    done = cli("models", "check", "m", "--no-probe")
    assert done.code == 0
    assert done.out == f"ok     m at {server.url}\n"
    assert done.err == ""
    assert server.ledger()["requests"] == 0
    assert not FOUND_PATH.exists()


def test_what_is_wrong_is_said_of_each_endpoint(cli: Cli, workplace: Path, model_server: Servers) -> None:
    server = model_server()
    write(workplace, server.url, "http://127.0.0.1:9/v1")
    done = cli("models", "check", "m")
    assert done.code == 1
    good, bad = done.out.splitlines()
    assert good.startswith(f"ok     m at {server.url}  ")
    assert "WRONG  m at http://127.0.0.1:9/v1  The endpoint of the model 'm'" in bad
    write(workplace, model_server("--faults", "bad-request", "--fault-rate", "1").url)
    done = cli("models", "check", "m")
    assert done.code == 1
    assert "Invalid value" in done.out
    (workplace / "models.yaml").write_text("models: {m: {use: openai/gpt-4o-mini}}")
    done = cli("models", "check", "m")
    assert done.code == 1
    assert "OPENAI_API_KEY" in done.out


def test_embedded_models_are_not_probed(cli: Cli, workplace: Path) -> None:
    done = cli("models", "check", "--json")
    assert done.code == 0
    assert {record["model"] for record in done.records} == {"embedded/judge", "embedded/mini", "embedded/nano"}
    assert done.err == ""


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 3}', '{"a": {"capabilities": {"n": "yes"}}}'])
def test_a_damaged_file_is_named(workplace: Path, text: str) -> None:
    FOUND_PATH.parent.mkdir()
    FOUND_PATH.write_text(text)
    with pytest.raises(ConfigError, match=r"capabilities\.json is damaged"):
        ModelBook.load()


def test_listing_shows_a_price_by_the_hour(cli: Cli, workplace: Path) -> None:
    write(workplace, "http://127.0.0.1:9/v1")
    text = (workplace / "models.yaml").read_text().replace("{transport", "{usd_per_hour: 2.5, transport")
    (workplace / "models.yaml").write_text(text)
    assert "$2.5 per hour and endpoint" in cli("models").out
    assert json.loads(cli("models", "--json").out.splitlines()[0])["usd_per_hour"] == "2.5"
