"""Measuring of `effects.py`: architectures on items, in blocks with a store of their own, through the real gateway.

The architectures of a block run one after the other over all of its items, in a fixed order, on one call store: what
one has drawn the next one takes, and a prompt that several ask is paid by the first. So timing moves no dollars.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from effects_base import Layers, named

from architectures import compile_architecture, load
from db.runs import ItemRecord
from evals import Task, evaluate_items, load_task
from flows.session import Session, SessionSettings, open_session

__all__ = ["BLOCK", "Block", "Part", "Row", "Rows", "Where", "measure"]

BLOCK = 32
"""Items that share a store; so many are in flight, which keeps the engines' batches full."""

_ROOT = Path(__file__).parents[1]


class Row(NamedTuple):
    """What an architecture made of one item."""

    score: float
    calls: int
    """Used, drawn now or before."""
    dollars: float
    """Nominal."""
    failed: bool


class Where(NamedTuple):
    """Which items are measured, and where what was measured is kept."""

    split: str
    seed: int
    keep: Path | None
    until: float
    """No block is begun later (Unix time)."""


class Part(NamedTuple):
    """A block of items."""

    task: str
    first: int
    last: int


Block = dict[str, list[Row]]
"""By architecture, a row for each item of the block."""
Rows = dict[str, dict[str, list[Row]]]
"""By task and architecture, rows of all items that were measured."""


Job = Mapping[str, Layers]
"""Architectures by their names."""


def key_of(layers: Layers) -> str:
    """Name an architecture by its layers and by the code of its techniques, since what is kept holds while both do."""
    what = [json.dumps(layers, sort_keys=True), *map(_code_digest, sorted(named(layers)))]
    return hashlib.sha256("\x00".join(what).encode()).hexdigest()[:16]


@cache
def _code_digest(name: str) -> str:
    # Once in a run: who edits a technique meanwhile must not change its name.
    places = (_ROOT / "nodes" / f"{name}.py", _ROOT / "nodes" / "scorers" / f"{name}.py")
    return hashlib.sha256(b"\x00".join(path.read_bytes() for path in places if path.is_file())).hexdigest()


def measure(
    wanted: Mapping[str, Sequence[Layers]], items: Mapping[str, int], where: Where, processes: int
) -> tuple[Rows, dict[str, int]]:
    """Measure architectures by task; return their rows and how many items of each task were done in time.

    Of items that were not all done, those up to the first block that is missing count.
    """
    parts = [
        Part(task, first, min(first + BLOCK, items[task]))
        for first in range(0, max(items.values()), BLOCK)
        for task in wanted
        if first < items[task] and wanted[task]
    ]
    by_task = {task: {key_of(layers): layers for layers in wanted[task]} for task in wanted}
    jobs = [by_task[part.task] for part in parts]
    rows: Rows = {task: {key: [] for key in by_task[task]} for task in by_task}
    done = dict.fromkeys(wanted, 0)
    for part, block in zip(parts, _blocks(parts, jobs, where, processes), strict=True):
        if block is None or done[part.task] != part.first:
            continue
        done[part.task] = part.last
        for key, found in block.items():
            rows[part.task][key] += found
        print(f"{part.task}: {part.last} of {items[part.task]} items", file=sys.stderr, flush=True)
    return rows, done


def _blocks(parts: Sequence[Part], jobs: Sequence[Job], where: Where, processes: int) -> Iterable[Block | None]:
    if processes == 1:
        yield from map(measure_block, parts, jobs, repeat(where))
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(measure_block, parts, jobs, repeat(where))


def measure_block(part: Part, job: Job, where: Where) -> Block | None:
    """Measure architectures on the items of a block, or return None where the time is up."""
    if time.time() >= where.until:
        return None
    # The items of a task are the same whatever their number, so that a longer run goes on behind a shorter one.
    task = load_task(part.task, items=part.last, seed=where.seed, options={"split": where.split})
    with TemporaryDirectory() as folder:
        home = where.keep or Path(folder)
        store = home / f"{part.task}-{where.split}-{where.seed}-{part.first}-{part.last}.db"
        return asyncio.run(_measured(part, job, task, SessionSettings(database_url=f"sqlite:///{store}")))


async def _measured(part: Part, job: Job, task: Task, settings: SessionSettings) -> Block:
    async with open_session(settings) as session:
        return {key: await _run(part, key, layers, task, session) for key, layers in job.items()}


async def _run(part: Part, key: str, layers: Layers, task: Task, session: Session) -> list[Row]:
    architecture = load({"name": key, "layers": list(layers)}, session.book)
    session.runs.save_architecture(architecture.id, name=key, canonical="{}")
    # A run of its own for each architecture, named by it, so that a repeated benchmark finds what is done.
    run = session.runs.create(kind="evaluate", name=key, run_id=key)
    evaluated = await evaluate_items(
        compile_architecture(architecture.spec, session.book),
        task.items[part.first : part.last],
        task,
        session.gateway,
        session.runs,
        run.id,
        architecture_id=architecture.id,
        concurrency=part.last - part.first,
        keep_trace=False,
    )
    return [_row(record) for record in evaluated.results]


def _row(record: ItemRecord) -> Row:
    if record.cost_used is None:
        raise ValueError(f"the cost of item {record.item_id} is unknown; all models have nominal prices")
    if record.status != "ok":
        print(f"{record.item_id}: {record.error_class}: {record.error_message}", file=sys.stderr)
    return Row(float(record.score or 0.0), record.calls_used, float(record.cost_used), record.status != "ok")
