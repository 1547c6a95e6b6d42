"""`colonnade eval` killed with SIGKILL at random moments, five times over: nothing paid twice, the same table."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CommandResult, ServerProcess
from tests.helpers import write_architecture, write_models, write_task

ITEMS = 60
SAMPLES = 4


def command(folder: Path) -> list[str]:
    architecture, task = write_architecture(folder, samples=SAMPLES), write_task(folder, ITEMS)
    arguments = ["eval", architecture, "--task", task, "--no-prefect", "--json", "--concurrency", 6, "--chunk", 20]
    return [sys.executable, "-m", "colonnade", *(str(argument) for argument in arguments)]


def table(folder: Path) -> dict[str, Any]:
    done = subprocess.run(command(folder), cwd=folder, capture_output=True, text=True, check=True)
    record = json.loads(done.stdout)
    return {k: v for k, v in record.items() if k not in ("seconds", "reused") and not k.startswith("latency")}


def test_five_kills_cost_nothing_and_change_nothing(tmp_path: Path, model_server: Callable[..., ServerProcess]) -> None:
    # `--stateless`: the same request gets the same texts, as from a provider with seeds.
    server = model_server("--latency", 0.05, "--stateless")
    killed, calm = tmp_path / "killed", tmp_path / "calm"
    chance = random.Random(20_409)
    for folder in (killed, calm):
        folder.mkdir()
        write_models(folder, server.url)
    kills = 0
    while kills < 5:
        before = server.ledger()["calls"]
        # More than it has time for, save where the machine keeps its killer.
        server.hold(10)
        process = subprocess.Popen(command(killed), cwd=killed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while server.ledger()["calls"] == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.12))
        assert process.poll() is None, "it ended before it could be killed; make it slower"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    server.hold(None)
    table_killed = table(killed)
    paid = server.ledger()
    assert table_killed["items"] == ITEMS
    # Six items in flight: at most those requests were lost in each kill, and none that had been committed was repeated.
    assert ITEMS * SAMPLES <= paid["calls"] <= ITEMS * SAMPLES + kills * 6 * SAMPLES
    stored = _committed(killed)
    assert stored == ITEMS * SAMPLES
    assert table(calm) == table_killed
    assert server.ledger()["calls"] == paid["calls"] + ITEMS * SAMPLES


def _committed(folder: Path) -> int:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(folder / ".colonnade" / "colonnade.db")) as database:
        return int(database.execute("SELECT COUNT(*) FROM call").fetchone()[0])


def test_half_the_planned_cost_stops_it_at_or_under_the_cap(
    cli: Callable[..., CommandResult], workplace: Path, model_server: Callable[..., ServerProcess]
) -> None:
    server = model_server("--latency", 0.02, "--meet", 33)
    write_models(workplace, server.url)
    architecture, task = write_architecture(workplace, samples=4), write_task(workplace, 200)
    (planned,) = cli("plan", architecture, "--task", task, "--json").records
    half = planned["total"]["calls"][1] // 2
    stopped = cli("eval", architecture, "--task", task, "--no-prefect", "--concurrency", 64, "--budget-calls", half)
    ledger = server.ledger()
    assert stopped.code == 1
    assert half - 4 < ledger["calls"] <= half == 400
    assert ledger["most_at_once"] > 32
    assert "Stopped at the budget after 100 of 200 items" in stopped.err
    assert "--resume" in stopped.err
    (run,) = cli("runs", "--json").records
    assert run["status"] == "over_budget"


def test_half_the_dollars_stop_it_at_or_under_the_cap(
    cli: Callable[..., CommandResult], workplace: Path, model_server: Callable[..., ServerProcess]
) -> None:
    server = model_server("--latency", 0.02, "--stateless")
    write_models(workplace, server.url)
    architecture, task = write_architecture(workplace, samples=4), write_task(workplace, 200)
    (whole,) = cli("eval", architecture, "--task", task, "--no-prefect", "--json").records
    cap = round(whole["cost_used"] / 2, 6)
    before = _dollars(server)
    again = ["eval", architecture, "--task", task, "--no-prefect", "--fresh", "anew", "--concurrency", 64]
    assert cli(*again, "--budget-dollars", cap).code == 1
    spent = _dollars(server) - before
    assert 0.8 * cap < spent <= cap


def _dollars(server: ServerProcess) -> float:
    ledger = server.ledger()
    return float(ledger["prompt_tokens"] + 2 * ledger["completion_tokens"]) / 1e6


@pytest.mark.parametrize("how", ["--no-prefect", "--prefect"])
def test_ctrl_c_prints_the_command_that_goes_on(
    tmp_path: Path, model_server: Callable[..., ServerProcess], how: str
) -> None:
    server = model_server("--latency", 0.05, "--stateless")
    write_models(tmp_path, server.url)
    arguments = [*command(tmp_path), how]
    env = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect")}
    server.hold(ITEMS // 2)
    process = subprocess.Popen(
        arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    while server.ledger()["calls"] < 5 * SAMPLES and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    server.hold(None)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert "the same command goes on from here" in err
    again = next(line.strip() for line in err.splitlines() if line.strip().startswith("colonnade eval"))
    assert "--concurrency 6" in again
    before = _committed(tmp_path)
    assert 0 < before < ITEMS * SAMPLES
    assert table(tmp_path)["items"] == ITEMS
    assert server.ledger()["calls"] <= ITEMS * SAMPLES + 6 * SAMPLES


def test_progress_on_a_terminal(
    cli: Callable[..., CommandResult],
    workplace: Path,
    model_server: Callable[..., ServerProcess],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from colonnade.cli import console

    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    console.stderr.cache_clear()
    try:
        write_models(workplace, model_server().url)
        architecture, task = write_architecture(workplace), write_task(workplace, 4)
        shown = cli("eval", architecture, "--task", task, "--no-prefect").err
    finally:
        console.stderr.cache_clear()
    assert "4/4" in shown
    assert "12 calls" in shown
    assert "$" in shown
