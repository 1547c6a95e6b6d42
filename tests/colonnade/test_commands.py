"""The commands, run as the console script runs them, against a real server and the embedded models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CommandResult, ServerProcess
from tests.helpers import write_architecture, write_models, write_task

Cli = Callable[..., CommandResult]
Servers = Callable[..., ServerProcess]


def test_run_answers_and_says_what_it_cost(cli: Cli, workplace: Path, model_server: Servers) -> None:
    server = model_server()
    write_models(workplace, server.url)
    done = cli("run", write_architecture(workplace), "What is 2 + 2?")
    assert done.code == 0
    assert done.out.strip()
    assert "3 calls" in done.err
    assert "run r-" in done.err
    again = cli("run", write_architecture(workplace), "What is 2 + 2?")
    assert again.out == done.out
    assert "3 of 3 calls came from the cache and would have cost $" in again.err
    assert "0 were paid now, $0." in again.err
    assert server.ledger()["calls"] == 3


def test_run_as_json_with_trace(cli: Cli, workplace: Path, model_server: Servers) -> None:
    write_models(workplace, model_server().url)
    (record,) = cli("run", write_architecture(workplace), "What is 2 + 2?", "--json", "--trace").records
    assert record["calls"] == 3
    assert set(record["trace"]["nodes"]) >= {"generate", "vote"}
    assert record["dollars"] > 0


def test_run_shows_the_trace_to_people(cli: Cli, workplace: Path, model_server: Servers) -> None:
    write_models(workplace, model_server().url)
    done = cli("run", write_architecture(workplace), "What is 2 + 2?", "--trace")
    assert "generate: 3 candidates" in done.err


def test_run_on_the_embedded_model(cli: Cli) -> None:
    done = cli(
        "run", "preset:self-consistency", "A box holds 4 pens. How many pens do 3 boxes hold?", "--set", "samples=2"
    )
    assert done.code == 0
    assert "Answer:" in done.out


def test_plan_equals_what_is_served(cli: Cli, workplace: Path, model_server: Servers) -> None:
    server = model_server()
    write_models(workplace, server.url)
    architecture, task = write_architecture(workplace), write_task(workplace, 5)
    (planned,) = cli("plan", architecture, "--task", task, "--json").records
    assert planned["total"]["calls"] == [15, 15, 15]
    assert server.ledger()["calls"] == 0
    cli("eval", architecture, "--task", task, "--no-prefect")
    assert server.ledger()["calls"] == 15
    text = cli("plan", architecture, "--task", task).out
    assert "5 items" in text


def test_plan_of_replies_without_a_limit_says_so(cli: Cli, workplace: Path) -> None:
    (workplace / "models.yaml").write_text(
        "models: {m: {transport: openai, base_url: 'http://127.0.0.1:9/v1', model: x, "
        "price: {prompt: 1, completion: 2}}}"
    )
    (workplace / "open.yaml").write_text("layers: [{generate: {model: m}}]")
    done = cli("plan", "open.yaml")
    assert done.code == 0
    assert "∞" in done.out
    assert "No limit is known for the replies of m; give max_tokens." in done.out


def test_plan_of_an_unpriced_model_says_so(cli: Cli, workplace: Path) -> None:
    (workplace / "models.yaml").write_text(
        "models: {m: {transport: openai, base_url: 'http://127.0.0.1:9/v1', model: x}}"
    )
    done = cli("plan", write_architecture(workplace))
    assert "$?" in done.out
    assert "No price is known of m" in done.out


def test_eval_compare_runs(cli: Cli, workplace: Path, model_server: Servers) -> None:
    server = model_server()
    write_models(workplace, server.url)
    one, three = write_architecture(workplace, "one", samples=1), write_architecture(workplace, "three", samples=3)
    task = write_task(workplace, 6)
    done = cli("eval", one, three, "--task", task, "--no-prefect", "--json", "--plot", workplace / "plot.svg")
    assert done.code == 0
    first, second = done.records
    assert (first["calls_used"], first["calls_paid"]) == (6, 6)
    assert (second["calls_used"], second["calls_paid"]) == (18, 12), "the first sample is shared"
    assert server.ledger()["calls"] == 18
    assert (workplace / "plot.svg").read_text().startswith("<?xml")
    (comparison,) = cli("compare", first["run_id"], second["run_id"], "--json").records
    assert comparison["items"] == 6
    assert "difference" in cli("compare", first["run_id"], second["run_id"]).out
    assert {record["id"] for record in cli("runs", "--json").records} == {first["run_id"], second["run_id"]}
    assert first["run_id"] in cli("runs").out
    shown = cli("runs", "show", first["run_id"], "--json").records
    assert len(shown) == 7
    assert "i0" in cli("runs", "show", first["run_id"]).out
    assert json.loads(cli("runs", "show", first["run_id"], "--item", "i0").out)


def test_eval_table_for_people(cli: Cli, workplace: Path, model_server: Servers) -> None:
    write_models(workplace, model_server().url)
    architecture, task = write_architecture(workplace), write_task(workplace, 4)
    done = cli("eval", architecture, "--task", task, "--no-prefect")
    head, row = done.out.splitlines()[:2]
    assert head.split()[:2] == ["architecture", "accuracy"]
    assert row.startswith("vote")
    assert "4/4" in row


def test_eval_stops_at_the_budget_and_prints_how_to_go_on(cli: Cli, workplace: Path, model_server: Servers) -> None:
    server = model_server("--latency", 0.02)
    write_models(workplace, server.url)
    architecture, task = write_architecture(workplace), write_task(workplace, 20)
    stopped = cli("eval", architecture, "--task", task, "--no-prefect", "--budget-calls", 30)
    assert stopped.code == 1
    command = next(line.split() for line in stopped.err.splitlines() if "--resume" in line)
    assert server.ledger()["calls"] <= 30
    done = cli(*command[1:], "--no-prefect", "--json")
    assert done.code == 0
    assert done.records[0]["items"] == 20
    assert server.ledger()["calls"] == 60


def test_graph_as_text_and_as_files(cli: Cli, workplace: Path) -> None:
    assert "flowchart" in cli("graph", "preset:critic-rank-fuse").out
    assert cli("graph", "preset:critic-rank-fuse", "--out", "pictures/graph.svg").code == 0
    assert (workplace / "pictures/graph.svg").read_text().lstrip().startswith("<svg")
    (record,) = cli("graph", "preset:single", "--out", "graph.mmd", "--json").records
    assert Path(record["path"]).read_text() == cli("graph", "preset:single").out
    assert cli("graph", "preset:single", "--json").records[0]["mermaid"]


def test_techniques_are_listed_and_shown(cli: Cli) -> None:
    listed = [line.split()[0] for line in cli("techniques").out.splitlines() if line.startswith("  ")]
    assert set(listed) >= {
        "generate",
        "critique",
        "rank",
        "fuse",
        "verify",
        "vote",
        "judge",
        "genrm",
        "self-consistency",
    }
    records = cli("techniques", "--json").records
    assert [record["name"] for record in records] == listed
    assert {record["kind"] for record in records} == {"technique", "scorer", "preset"}
    assert all(record["group"] and record["paper"] and record["calls"] for record in records)
    assert "2409.15254" in cli("techniques", "show", "rank").out
    assert "2408.15240" in cli("techniques", "show", "genrm").out
    assert "2203.11171" in cli("techniques", "show", "self-consistency").out
    assert cli("techniques", "show", "scorer:judge").out != cli("techniques", "show", "judge").out
    assert cli("techniques", "show", "preset:single", "--json").records[0]["parameters"]["model"]["default"]
    missing = cli("techniques", "show", "votes")
    assert missing.code == 2
    assert "There is no technique, scorer or preset 'votes'. Did you mean 'vote'" in missing.err
    assert cli("techniques", "show", "rank", "--json").records[0]["name"] == "rank"


def test_models_are_listed_and_checked(cli: Cli, workplace: Path, model_server: Servers) -> None:
    write_models(workplace, model_server().url)
    listed = cli("models").out
    assert "m " in listed
    assert "nominal" in listed
    assert cli("models", "check", "m", "embedded/nano").code == 0
    write_models(workplace, "http://127.0.0.1:9/v1")
    failed = cli("models", "check", "m", "--json")
    assert failed.code == 1
    assert failed.records[0]["ok"] is False
    assert {record["name"] for record in cli("models", "--json").records} >= {"m", "embedded/mini"}


def test_doctor(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {record["what"]: record for record in cli("doctor", "--json").records}
    assert found["embedded"]["ok"]
    assert found["database"]["ok"]
    monkeypatch.setenv("COLONNADE_REDIS_URL", "redis://127.0.0.1:9/0")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    broken = cli("doctor")
    assert broken.code == 1
    assert broken.out.count("WRONG") == 2


def test_version_and_help(cli: Cli) -> None:
    assert cli("--version").out.startswith("colonnade 0.")
    assert "eval" in cli("--help").out
