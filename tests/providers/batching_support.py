"""A graph of three levels over many rows, through a batch API or not; runs in a test or as a process to be killed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import yaml

from db.calls import CallStore, Spent
from db.database import Database
from db.runs import RunStore
from providers.base import Message, Request, Sampling
from providers.batching import Batching, BatchReport
from providers.book import ModelBook
from providers.gateway import Gateway
from providers.scope import Scope
from providers.testing_batch_server import BatchServer

RUN = "r-20261122-000000"
LEVELS = 3
CALLS_PER_ROW = 4
"""Two samples, a critique of both, a fusion: of the two samples one request is made, so that a row has three."""
_LAYERS = [
    {"generate": {"model": "m", "samples": 2, "max_tokens": 64, "temperature": 0.7}},
    {"critique": {"model": "m", "max_tokens": 64}},
    {"fuse": {"model": "m", "max_tokens": 64}},
]


class Clock:
    """The time by which a deadline is kept; it is put forward once what is to come first has come."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self, zone: tzinfo | None = None) -> datetime:
        """Return the present, as far ahead as it was put."""
        return datetime.now(zone) + self.ahead

    async def put_forward(self, by: timedelta, when: Callable[[], bool]) -> None:
        """Put it forward when something has come."""
        while not when():  # noqa: ASYNC110 - the server's books are all there is to look at
            await asyncio.sleep(0.005)
        self.ahead = by


class Answers(NamedTuple):
    """What came of a run."""

    answers: dict[str, str | None]
    spent: Spent
    report: BatchReport | None


def database(folder: Path, name: str = "batched") -> str:
    """Return the URL of a database in a folder."""
    return f"sqlite:///{folder}/{name}.db"


def paid(server: BatchServer) -> Decimal:
    """Return the dollars of the server's books: batches at half the price, the rest at the whole."""
    batches, all_calls = server.batches, server.ledger
    half = batches.prompt_tokens + 2 * batches.completion_tokens
    return (Decimal(all_calls.prompt_tokens + 2 * all_calls.completion_tokens) - Decimal(half) / 2) / 1_000_000


async def at_once(server: BatchServer, path: Path, rows: int) -> Answers:
    """Ask the same as `ask_twice` through batches does, without them."""
    return await ask_twice(path, database(path.parent, "at_once"), rows)


def models(
    folder: Path, url: str, *, api: str = "openai", price: Mapping[str, object] | None = None, **batch: object
) -> Path:
    """Write a models file with one model, `m`, at $1 and $2 per million tokens, or at another price."""
    settings = {"api": api, "poll_s": 0.01, "create_s": 1, "expected_s": 0.1, "margin_s": 0, **batch}
    entry: dict[str, Any] = {
        "transport": "openai",
        "base_url": url,
        "model": "test-model",
        "price": price or {"prompt": 1, "completion": 2},
        "capabilities": {"n": api != "anthropic", "seed": api != "anthropic"},
        "defaults": {"seed": 7},
        "limits": {"retries": 3, "timeout_s": 20},
        "batch": settings,
    }
    path = folder / "models.yaml"
    path.write_text(yaml.safe_dump({"models": {"m": entry}}))
    return path


async def run(
    path: Path, database_url: str, rows: int, *, batching: Batching | None = None, fresh: str = ""
) -> Answers:
    """Answer rows with the graph of three levels, all of them in flight at once."""
    from architectures import compile_architecture
    from architectures.load import load
    from evals import Item, Task, evaluate_items, make_scorer

    book = ModelBook.load(path, {})
    architecture = path.parent / "levels.yaml"
    architecture.write_text(yaml.safe_dump({"name": "levels", "layers": _LAYERS}))
    compiled = compile_architecture(load(str(architecture)).spec, book)
    items = tuple(Item(id=f"i{i:04}", question=f"What is {i} plus {i}?", gold=str(2 * i)) for i in range(rows))
    task = Task(name="sums", items=items, scorer=make_scorer("numeric"))
    with Database.open(database_url) as opened:
        runs, calls = RunStore(opened), CallStore(opened)
        run_id = RUN + fresh
        if run_id not in {record.id for record in runs.list()}:
            runs.create(kind="evaluate", name="sums", run_id=run_id)
        async with Gateway(book, calls, batching=batching) as gateway:
            done = await evaluate_items(
                compiled,
                items,
                task,
                gateway,
                runs,
                run_id,
                architecture_id=compiled.spec.id,
                concurrency=rows,
                fresh=fresh,
                retry_failed=True,
                keep_trace=False,
            )
            report = None if gateway.collector is None else gateway.collector.report
        spent = calls.spent(run_id)
        calls.close()
    return Answers({result.item_id: result.output for result in done.results}, spent, report)


class BatchServerProcess:
    """A `providers.testing_batch_server` in a process of its own, which a killed client cannot take along."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "providers.testing_batch_server", *(str(argument) for argument in arguments)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def ledger(self) -> dict[str, Any]:
        """Return the server's own books."""
        with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/ledger", timeout=120) as reply:
            return dict(json.load(reply))

    def hold(self, after: int | None) -> None:
        """Let that many more requests through and no others, until it is called again; None: all."""
        query = "" if after is None else f"?after={after}"
        with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/hold{query}", timeout=120) as reply:
            reply.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(120)
        assert self._process.stdout is not None
        self._process.stdout.close()


async def ask_twice(path: Path, database_url: str, rows: int, *, batching: Batching | None = None) -> Answers:
    """Ask two samples for each row, then one about both; a graph of two levels without the cost of one."""

    async def answer(gateway: Gateway, row: int) -> str:
        mine = Scope(RUN, f"i{row}")
        first = await gateway.ask(_asking(f"What is {row} plus {row}?"), 2, scope=mine, node="draft")
        texts = " or ".join(sample.completion.text for sample in first.samples)
        last = await gateway.ask(_asking(f"Which is right: {texts}"), scope=mine, node="last")
        return last.samples[0].completion.text

    with Database.open(database_url) as opened:
        calls = CallStore(opened)
        async with Gateway(ModelBook.load(path, {}), calls, batching=batching) as gateway:
            async with asyncio.TaskGroup() as tasks:
                asked = [tasks.create_task(answer(gateway, row)) for row in range(rows)]
            report = None if gateway.collector is None else gateway.collector.report
        spent = calls.spent(RUN)
        calls.close()
    return Answers({f"i{row}": task.result() for row, task in enumerate(asked)}, spent, report)


def _asking(text: str) -> Request:
    return Request(model="m", messages=(Message("user", text),), sampling=Sampling(max_tokens=64))


def main(path: str, database_url: str, rows: int) -> None:
    """Ask through batches, as a process that can be killed."""
    asyncio.run(ask_twice(Path(path), database_url, rows, batching=Batching(linger_s=0.1)))
