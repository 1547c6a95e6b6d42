"""A job through a batch API, killed with SIGKILL in every state of a batch: nothing is submitted twice."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from providers.batching import Batching
from tests.providers import batching_support
from tests.providers.batching_support import BatchServerProcess, ask_twice, models

ROWS = 20
Books = dict[str, Any]

_PROCESSES = multiprocessing.get_context("forkserver")
# What each process would import by itself, which takes longer than its work.
_PROCESSES.set_forkserver_preload(
    [
        "tests.providers.batching_support",
        "openai.resources.batches",
        "openai.resources.files",
        "httpx_aiohttp",
        "sqlalchemy",
    ]
)


def _looked(state: str) -> Callable[[Books], int]:
    return lambda books: int(books["batch"]["looks"].get(state, 0))


def _count(name: str) -> Callable[[Books], int]:
    return lambda books: int(books["batch"][name])


def _kill_when(server: BatchServerProcess, path: Path, url: str, more: Callable[[Books], int]) -> None:
    """Run the job in a process of its own until a count of the server's rises, and kill it there."""
    before = more(server.ledger())
    process = _PROCESSES.Process(target=batching_support.main, args=(str(path), url, ROWS))
    process.start()
    while more(server.ledger()) == before:
        assert process.is_alive(), "it ended before it could be killed"
        # One request for each look, so that the job does not run on while the machine keeps this process.
        server.hold(1)
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    server.hold(None)


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_killed_in_every_state_it_submits_nothing_twice(tmp_path: Path, api: str) -> None:
    moments = {
        "openai": [
            _count("uploads"),
            _count("batches"),
            _looked("validating"),
            _looked("in_progress"),
            _looked("finalizing"),
            _looked("completed"),
            _count("batches"),
            _looked("in_progress"),
        ],
        "anthropic": [_count("batches"), _looked("in_progress"), _looked("ended"), _count("batches"), _looked("ended")],
    }
    url = f"sqlite:///{tmp_path}/killed.db"
    stages = ("--validating", 0.2, "--running", 0.3, "--finalizing", 0.2, "--seen", "--stateless", "--hang-s", 3)
    hangs = ("upload", "create", "results") if api == "openai" else ("create", "results")
    with BatchServerProcess(*stages, "--hang", *hangs) as server:
        path = models(tmp_path, server.url, api=api, create_s=2)
        for moment in moments[api]:
            _kill_when(server, path, url, moment)
        done = asyncio.run(ask_twice(path, url, ROWS, batching=Batching(linger_s=0.1)))
        books = server.ledger()
        at_once = asyncio.run(ask_twice(path, f"sqlite:///{tmp_path}/at_once.db", ROWS))
    assert done.answers == at_once.answers
    assert done.spent.cost * 2 == at_once.spent.cost
    assert books["batch"]["rows"] == books["batch"]["answered"] == ROWS * (2 if api == "openai" else 3)
    paid = books["batch"]["prompt_tokens"] + 2 * books["batch"]["completion_tokens"]
    assert float(done.spent.cost) * 2e6 == pytest.approx(paid, abs=1e-6)
    assert done.spent.calls == ROWS * 3
