"""`cache` and `calls`, caps of days, runs and keys, and answers that expire: as commands, against a real server."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest

from colonnade.cli.console import duration, size
from tests.conftest import CommandResult, ServerProcess
from tests.helpers import write_architecture, write_models
from tests.providers.redis_door import REDIS_URL, needs_redis

Cli = Callable[..., CommandResult]
Servers = Callable[..., ServerProcess]


@pytest.fixture
def asked(cli: Cli, workplace: Path, model_server: Servers) -> ServerProcess:
    """A database with one run of three calls."""
    server = model_server()
    write_models(workplace, server.url)
    assert cli("run", write_architecture(workplace), "What is 2 + 2?").code == 0
    return server


def ask(cli: Cli, question: str = "What is 2 + 2?", *more: str) -> CommandResult:
    return cli("run", "vote.yaml", question, *more)


def age(days: int) -> None:
    """Make every stored call older, as time would."""
    with sqlite3.connect(".colonnade/colonnade.db") as database:
        database.execute(
            "UPDATE call SET created_at = strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now', ?)", (f"-{days} days",)
        )
    database.close()


def test_calls_are_listed(cli: Cli, asked: ServerProcess) -> None:
    listed = cli("calls")
    assert listed.code == 0
    assert listed.out.count("  ok  ") == 3
    (first, *_) = records = cli("calls", "--json", "--status", "ok", "--model", "m", "--node", "generate").records
    assert len(records) == 3
    assert sum(record["prompt_tokens"] for record in records) > 0
    assert first["cost"] > 0
    assert cli("calls", "--run", first["run_id"], "--limit", 2, "--json").records == records[:2]
    assert cli("calls", "--run", "nobody").out == "No such calls.\n"
    assert cli("calls", "--status", "fialed").code == 2
    assert cli("calls", "--status", "faild").err.strip().endswith("Did you mean 'failed'?")


def test_failed_calls_are_listed_with_their_reason(cli: Cli, workplace: Path, model_server: Servers) -> None:
    write_models(workplace, model_server("--fault-rate", 1, "--faults", "500").url)
    assert cli("run", write_architecture(workplace), "What is 2 + 2?").code == 1
    records = cli("calls", "--json").records
    assert [record["status"] for record in records] == ["failed"] * 3
    assert {(record["kind"], record["attempts"]) for record in records} == {("overloaded", 2)}
    assert {record["sample_index"] for record in records} == {0, 1, 2}
    assert "overloaded after 2 attempts" in cli("calls", "--status", "failed").out
    assert cli("calls", "--status", "ok", "--json").records == []


def test_the_cache_is_shown_and_cleared(cli: Cli, asked: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = cli("cache", "list", "--json").records
    assert (line["calls"], line["aliases"]) == (3, ["m"])
    (stats,) = cli("cache", "stats", "--json").records
    assert stats["dollars"] == pytest.approx(line["cost"])
    assert "3" in cli("cache", "list").out
    assert "3 calls of 1 models" in cli("cache", "stats").out

    monkeypatch.setattr("sys.stdin", StringIO(""))
    refused = cli("cache", "clear")
    assert refused.code == 1
    assert "3 stored answers would go" in refused.err
    assert cli("cache", "prune", "--older-than", "1d", "--yes").out == "0 stored answers cleared away.\n"
    age(40)
    assert (
        cli("cache", "prune", "--older-than", "30d", "--model", "other", "--yes", "--json").records[0]["cleared"] == 0
    )
    assert cli("cache", "prune", "--older-than", "30d", "--yes", "--json").records[0]["cleared"] == 3
    assert cli("cache", "list").out == cli("cache", "stats").out == "Nothing is stored yet.\n"
    assert cli("cache", "clear", "--yes").out == "0 stored answers cleared away.\n"
    assert cli("cache", "prune", "--older-than", "soon").code == 2


def test_answers_that_have_expired_are_paid_again_and_then_kept(cli: Cli, asked: ServerProcess) -> None:
    age(8)
    assert "3 of 3 calls came from the cache" in ask(cli).err
    assert "came from the cache" not in ask(cli, "What is 2 + 2?", "--cache-expiry", "7d").err
    assert asked.ledger()["calls"] == 6
    assert "3 of 3 calls came from the cache" in ask(cli, "What is 2 + 2?", "--cache-expiry", "7d").err
    assert asked.ledger()["calls"] == 6
    assert ask(cli, "What is 2 + 2?", "--cache-expiry", "-1d").code == 2


@pytest.mark.parametrize("redis", [False, pytest.param(True, marks=needs_redis)])
def test_the_day_has_a_cap_that_clearing_the_cache_does_not_lift(
    cli: Cli, asked: ServerProcess, workplace: Path, monkeypatch: pytest.MonkeyPatch, *, redis: bool
) -> None:
    if redis:
        monkeypatch.setenv("COLONNADE_REDIS_URL", REDIS_URL)
        monkeypatch.setenv("COLONNADE_REDIS_PREFIX", f"{{{workplace.name}-{id(workplace)}}}:")
    monkeypatch.setenv("COLONNADE_DAY_CALLS", "5")
    refused = ask(cli, "What is 3 + 3?")
    assert refused.code == 1
    assert "calls: cap 5, used 3, the next request may need 3" in refused.err
    assert cli("cache", "clear", "--yes").code == 0
    assert ask(cli, "What is 3 + 3?").code == 1
    assert asked.ledger()["calls"] == 3
    monkeypatch.setenv("COLONNADE_DAY_CALLS", "6")
    assert ask(cli, "What is 3 + 3?").code == 0
    if redis:
        wipe(f"{{{workplace.name}-{id(workplace)}}}:")


def wipe(prefix: str) -> None:
    import redis

    with redis.Redis.from_url(REDIS_URL) as client:
        for key in client.scan_iter(prefix + "*"):
            client.delete(key)


def test_answers_that_are_not_kept_count_for_the_day(
    cli: Cli, asked: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(cli, "What is 2 + 2?", "--cache", "off").code == 0
    assert ask(cli, "What is 2 + 2?", "--cache", "refresh").code == 0
    monkeypatch.setenv("COLONNADE_DAY_CALLS", "9")
    assert "cap 9, used 9" in ask(cli, "What is 4 + 4?").err


def test_a_key_has_a_cap(cli: Cli, workplace: Path, model_server: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    models = write_models(workplace, model_server().url)
    data = yaml.safe_load(models.read_text())
    data["models"]["m"]["api_key_env"] = "TEST_API_KEY"
    data["budgets"] = {"keys": {"TEST_API_KEY": {"calls": 4}}}
    models.write_text(yaml.safe_dump(data))
    monkeypatch.setenv("TEST_API_KEY", "sk-test-aaaaaaaaaaaaaaaaaaaa")
    write_architecture(workplace)
    assert ask(cli).code == 0
    refused = ask(cli, "What is 3 + 3?")
    assert refused.code == 1
    assert "The budget of key TEST_API_KEY#" in refused.err
    assert "aaaa" not in refused.err
    monkeypatch.setenv("TEST_API_KEY", "sk-test-bbbbbbbbbbbbbbbbbbbb")
    assert ask(cli, "What is 3 + 3?").code == 0, "another key has a cap of its own"


def test_wrong_budgets_are_one_sentence(cli: Cli, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_architecture(workplace)
    models = workplace / "models.yaml"
    for wrong, said in (
        ("{dy: {calls: 1}}", "budgets.dy: unknown key. Did you mean 'day'?"),
        ("{day: {dolars: 1}}", "budgets.day.dolars: unknown key. Did you mean 'dollars'?"),
        ("{keys: {K: {calls: 0}}}", "budgets.keys.K.calls: Input should be greater than 0"),
        ("{keys: {sk-abc: {calls: 1}}}", "budgets.keys: must be names of environment variables, not keys"),
        ("5", "'budgets' must be a mapping"),
    ):
        models.write_text(f"models: {{m: embedded/nano}}\nbudgets: {wrong}\n")
        done = ask(cli)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert said in done.err
    models.write_text("models: {m: embedded/nano}\n")
    monkeypatch.setenv("COLONNADE_DAY_DOLLARS", "much")
    assert "COLONNADE_DAY_DOLLARS is no amount of dollars above zero: 'much'" in ask(cli).err
    monkeypatch.delenv("COLONNADE_DAY_DOLLARS")
    monkeypatch.setenv("COLONNADE_REDIS_URL", "redis://127.0.0.1:1/0")
    assert "Redis at 127.0.0.1:1/0 does not answer" in ask(cli).err


def test_lengths_of_time_and_sizes_are_read_and_written() -> None:
    assert [duration(text) for text in ("30m", "12h", "7d", "1.5w")] == [
        timedelta(minutes=30),
        timedelta(hours=12),
        timedelta(days=7),
        timedelta(weeks=1.5),
    ]
    for wrong in ("", "7", "d", "-1d", "0d", "1e99d", "nand"):
        with pytest.raises(ValueError):
            duration(wrong)
    assert [size(value) for value in (0, 999, 1500, 2_500_000, 3 * 10**15)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.5 MB",
        "3000.0 TB",
    ]
