"""`colonnade batch` as a user types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CommandResult, ServerProcess
from tests.flows.batch_support import numbers, read_lines, write_rows
from tests.helpers import write_architecture, write_models

Cli = Callable[..., CommandResult]
Servers = Callable[..., ServerProcess]


@pytest.fixture
def order(workplace: Path, model_server: Servers) -> list[Any]:
    """A command that lacks only its way of running."""
    write_models(workplace, model_server("--stateless").url)
    rows = write_rows(workplace, [*numbers(6), "{broken"])
    return [write_architecture(workplace), rows, "--template", "Double {number}."]


def test_plan_run_show_list_resume(order: list[Any], cli: Cli, workplace: Path) -> None:
    order += ["--gold", "right", "--scorer", "numeric"]
    planned = cli("batch", "plan", *order, "--json").records[0]
    assert (planned["rows"], planned["distinct"], planned["bad"]) == (7, 6, 1)
    assert planned["total"]["calls"] == [18, 18, 18]
    piloted = cli("batch", "plan", *order, "--pilot", 3)
    assert "The pilot of 3 rows cost" in piloted.out
    done = cli("batch", "run", *order, "--out", "out.jsonl", "--no-prefect")
    assert done.code == 0, done.err
    assert "6 of 7 rows answered" in done.out
    assert "1 rows failed: " in done.out
    assert "mean score" in done.out
    run = done.out.split()[0]
    assert cli("batch", "show", run).out == done.out
    listed = cli("batch", "list", "--json").records
    assert {"run": run, "status": "done", "architecture": "vote", "input": "rows.jsonl"} in listed
    assert f"{run}  " in cli("batch", "list").out
    resumed = cli("batch", "resume", run, "--no-prefect", "--json")
    assert resumed.records[0]["rows"] == 6
    elsewhere = cli("batch", "resume", run, "--no-prefect", "--json", "--out", "other.jsonl")
    assert elsewhere.records[0]["paid_calls"] == 18
    assert len(read_lines(workplace / "other.jsonl")) == len(read_lines(workplace / "out.jsonl")) == 6


def test_a_pilot_is_part_of_the_run(order: list[Any], cli: Cli) -> None:
    run = cli("batch", "plan", *order, "--pilot", 3, "--json").records[0]["run_id"]
    refused = cli("batch", "resume", run)
    assert (refused.code, refused.out) == (2, "")
    assert "was planned and has no output yet; start it with: colonnade batch run" in refused.err
    shown = cli("batch", "show", run)
    assert "has no report of a batch yet" in shown.err
    done = cli("batch", "run", *order, "--out", "out.jsonl", "--no-prefect", "--json").records[0]
    assert (done["run_id"], done["paid_calls"]) == (run, 18)
    assert "off by" in cli("batch", "plan", *order).out
    assert cli("batch", "cancel", run, "--json").records == [{"batches": 0, "calls": 0, "dollars": 0.0}]
    assert "0 batches were cancelled" in cli("batch", "cancel", run).out


def test_a_cap_ends_it_with_the_command_that_goes_on(order: list[Any], cli: Cli) -> None:
    stopped = cli("batch", "run", *order, "--out", "out.jsonl", "--no-prefect", "--budget-calls", 6)
    assert stopped.code == 1
    assert "Stopped at the budget" in stopped.err
    run = stopped.out.split()[0]
    assert f"colonnade batch resume {run} --budget-calls …" in stopped.err
    again = cli("batch", "resume", run, "--no-prefect")
    assert (again.code, again.out.split()[1]) == (1, "over_budget")
    assert "no batch interface; give --batch" in cli("batch", "resume", run, "--deadline", "6h").err
    assert "No provider of m has" in cli("batch", "resume", run, "--batch", "--no-prefect").err
    done = cli("batch", "resume", run, "--no-prefect", "--budget-calls", 100, "--json")
    assert (done.records[0]["status"], done.records[0]["rows"]) == ("done", 6)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--template", "Double {numbr}."], "The template names the column 'numbr'"),
        (["--overwrite", "--resume"], "Give --overwrite or --resume, not both."),
        (["--deadline", "6h"], "--deadline chooses between a batch interface and immediate calls"),
        (["--batch", "--one-model-at-a-time"], "Give --batch or --one-model-at-a-time, not both."),
        (["--batch"], "No provider of m has a batch interface; leave --batch out"),
        (["--order", "backwards"], "--order takes input or prefix, not 'backwards'."),
        (["--question-column", "note"], "Give --template or --question-column, not both."),
    ],
)
def test_bad_input_is_one_sentence(order: list[Any], cli: Cli, more: list[str], sentence: str) -> None:
    refused = cli("batch", "run", *order, "--out", "out.jsonl", "--no-prefect", *more)
    assert (refused.code, refused.out) == (2, "")
    assert sentence in refused.err
    assert refused.err.count("\n") == 1


def test_other_runs_are_no_batches(order: list[Any], cli: Cli) -> None:
    assert "No batches yet." in cli("batch", "list").out
    assert cli("run", order[0], "What is 1 + 1?").code == 0
    (run,) = cli("runs", "--json").records
    assert "is no batch" in cli("batch", "resume", run["id"]).err
    assert "is no batch" in cli("batch", "cancel", run["id"]).err


def test_ctrl_c_keeps_what_was_paid(tmp_path: Path, model_server: Servers) -> None:
    server = model_server("--latency", 0.05, "--stateless")
    write_models(tmp_path, server.url)
    rows = write_rows(tmp_path, numbers(40))
    arguments = [
        "batch",
        "run",
        write_architecture(tmp_path),
        rows,
        "--template",
        "Double {number}.",
        "--out",
        "o.jsonl",
    ]
    options = ["--no-prefect", "--concurrency", "4", "--chunk", "10"]
    command = [sys.executable, "-m", "colonnade", *(str(one) for one in arguments), *options]
    server.hold(24)
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    while server.ledger()["calls"] < 40 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    server.hold(None)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "the same command goes on from here" in err
    assert "Traceback" not in err
    done = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["rows"] == 40
    assert server.ledger()["calls"] <= 120 + 4 * 3


def test_five_kills_lose_no_row_and_pay_for_none_twice() -> None:
    benchmark = Path(__file__).parents[2] / "benchmarks" / "batch.py"
    arguments = ["--rows", "400", "--kills", "5", "--batch-rows", "0", "--json"]
    done = subprocess.run([sys.executable, benchmark, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["rows"], figures["rows_once"], figures["paid_twice"]) == (400, 400, 0)
    assert figures["dollars"] == figures["ledger_dollars"] > 0
    assert figures["peak_mb"] < 400


def test_a_batch_that_was_killed_says_how_far_it_is(tmp_path: Path, cli: Cli, model_server: Servers) -> None:
    server = model_server("--latency", 0.05, "--stateless")
    write_models(tmp_path, server.url)
    rows = write_rows(tmp_path, numbers(40))
    order = ["batch", "run", write_architecture(tmp_path), rows, "--template", "Double {number}.", "--out", "o.jsonl"]
    command = [sys.executable, "-m", "colonnade", *(str(one) for one in order), "--no-prefect"]
    server.hold(24)
    process = subprocess.Popen([*command, "--concurrency", "4", "--chunk", "10"], cwd=tmp_path)
    while not (tmp_path / "o.jsonl.parts" / "000000.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    server.hold(None)
    (listed,) = cli("batch", "list", "--json").records
    (shown,) = cli("batch", "show", listed["run"], "--json").records
    assert (listed["status"], shown["batches"]) == ("running", 0)
    assert 1 <= shown["chunks"] < 4
    assert 30 <= shown["calls"] < 120
    assert f"goes on with: colonnade batch resume {listed['run']}" in cli("batch", "show", listed["run"]).out
    done = cli("batch", "resume", listed["run"], "--no-prefect", "--json").records[0]
    assert (done["rows"], done["paid_calls"]) == (40, 120)
