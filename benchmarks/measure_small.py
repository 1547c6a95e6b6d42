"""Measures every architecture of the space `small` on every item of a task, with the embedded models.

    python benchmarks/measure_small.py --task arithmetic --items 1200 --processes 16 --out FILE.npz [--seconds 500]
        [--device cuda] [--onto FILE.npz]

Every architecture is evaluated as `colonnade eval` does it, gateway and call store included, so architectures share
their samples. The items are those of `load_task(task, items=N, seed=0)`, in that order, in blocks that processes take
in turn, each with a database of its own. After `--seconds` no block is begun; FILE holds the items up to the first
that is missing, and is written as the work goes on. With `--device` the models' forward pass is PyTorch's, on that
device (`cuda_forward.py`). FILE is read by `small` in `search_models.py`. `--onto` goes on behind the items of an
earlier file; what items used is kept of that file's items alone, since it takes most of the room.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from architectures import CompiledArchitecture, compile_architecture
from db.runs import ItemRecord
from evals import Item, Task, evaluate_items, load_task
from flows.session import Session, SessionSettings, open_session
from providers.book import ModelBook
from providers.embedded.model import model_folder
from providers.embedded.weights import weights_sha256
from search import load_space
from search.space import Drawn, describe

if TYPE_CHECKING:
    from numpy.typing import NDArray

AT_ONCE = 12
"""Architectures that a process evaluates at once on its block, so that the engines' batches are full."""
DOLLAR = 10**8
"""Dollars are stored as whole numbers of this part; the nominal prices make every cost one."""
MODELS = ("judge", "mini", "nano")
SAVE_S = 20.0


class Block(NamedTuple):
    """What some consecutive items gave, architectures × items."""

    right: NDArray[np.bool_]
    calls: NDArray[np.uint16]
    """Calls used, from the cache or not."""
    dollars: NDArray[np.uint32]
    """Nominal dollars used, in 1 / `DOLLAR`; samples bought in k requests paid the prompt k times."""
    paid: NDArray[np.uint32]
    """(items,): calls that had to be made for all architectures together."""
    failed: NDArray[np.uint16]
    """(items,): architectures that failed; they count as wrong."""


class Ready(NamedTuple):
    """What a process makes once."""

    task: Task
    points: tuple[Drawn, ...]
    compiled: tuple[CompiledArchitecture, ...]


@lru_cache(maxsize=1)
def ready(task: str, items: int) -> Ready:
    """Load the task and compile the space."""
    book = ModelBook.load(None)
    points = tuple(load_space("small").points(book))
    return Ready(
        load_task(task, items=items, seed=0), points, tuple(compile_architecture(p.spec, book) for p in points)
    )


def block(task: str, items: int, first: int, last: int, until: float) -> Block | None:
    """Measure the items first..last-1, unless the time is up."""
    if time.time() >= until:
        return None
    return asyncio.run(_block(ready(task, items), first, last))


async def _block(ready: Ready, first: int, last: int) -> Block:
    shared_memory = Path("/dev/shm")
    home = shared_memory if shared_memory.is_dir() else None
    with tempfile.TemporaryDirectory(dir=home) as folder:
        settings = SessionSettings(database_url=f"sqlite:///{folder}/colonnade.db")
        async with open_session(settings) as session:
            return await measure(ready, ready.task.items[first:last], session)


async def measure(ready: Ready, items: Sequence[Item], session: Session) -> Block:
    """Evaluate all architectures on some items."""
    permits = asyncio.Semaphore(AT_ONCE)

    async def one(drawn: Drawn, compiled: CompiledArchitecture) -> tuple[ItemRecord, ...]:
        async with permits:
            # A run for each architecture, so that only the first to need a sample counts it as paid.
            session.runs.save_architecture(drawn.key, name=drawn.spec.name, canonical="{}")
            run = session.runs.create(kind="evaluate", name=drawn.spec.name, run_id=drawn.key)
            evaluated = await evaluate_items(
                compiled,
                items,
                ready.task,
                session.gateway,
                session.runs,
                run.id,
                architecture_id=drawn.key,
                concurrency=len(items),
            )
            return evaluated.results

    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(one(*pair)) for pair in zip(ready.points, ready.compiled, strict=True)]
    return _arrays([run.result() for run in runs])


def _arrays(rows: Sequence[Sequence[ItemRecord]]) -> Block:
    dollars = np.asarray([[DOLLAR * (record.cost_used or 0) for record in row] for row in rows])
    if any(cost != int(cost) for cost in dollars.flat):
        raise ValueError(f"a cost is no whole number of 1/{DOLLAR} dollars")
    return Block(
        right=np.asarray([[bool(record.correct) for record in row] for row in rows]),
        calls=np.asarray([[record.calls_used for record in row] for row in rows], dtype=np.uint16),
        dollars=dollars.astype(np.uint32),
        paid=np.sum([[record.calls_paid for record in row] for row in rows], axis=0, dtype=np.uint32),
        failed=np.sum([[record.status != "ok" for record in row] for row in rows], axis=0, dtype=np.uint16),
    )


def save(path: Path, task: str, blocks: Sequence[Block], onto: Path | None = None) -> int:
    """Write the table of consecutive blocks from the first item on; return how many items it has."""
    parts = (np.concatenate([getattr(one, name) for one in blocks], axis=-1) for name in Block._fields)
    whole = Block(*parts)
    commands = [" ".join(["python", *(one.rpartition("/")[2] for one in sys.argv)])]
    if onto is not None:
        whole, before = _behind(onto, whole)
        commands.insert(0, before)
    items = whole.right.shape[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        right=np.packbits(whole.right, axis=1),
        calls=whole.calls,
        dollars=whole.dollars,
        paid=whole.paid,
        failed=whole.failed,
        labels=np.asarray([describe(point.values) for point in load_space("small").points()]),
        **_measured(task),
        task_digest=np.asarray(load_task(task, items=items, seed=0).digest),
        # Names of files without their folders, which are those of a machine.
        command=np.asarray("; ".join(commands)),
    )
    return items


def _measured(task: str) -> dict[str, NDArray[np.str_]]:
    """Tell what is measured, on what and with which weights; items are put together only where all this agrees."""
    return {
        "architectures": np.asarray([point.key for point in load_space("small").points()]),
        "task": np.asarray(task),
        "weights": np.asarray([f"{name}@{weights_sha256(model_folder(name))}" for name in MODELS]),
    }


def stored_items(path: Path | None, task: str) -> int:
    """Return how many items a file holds; none where there is no file.

    Raises:
        ValueError: the file is of another task, space or weights.
    """
    if path is None:
        return 0
    with np.load(path) as file:
        for name, value in _measured(task).items():
            if not np.array_equal(file[name], value):
                raise ValueError(f"{path.name} differs in its {name} from what is measured now")
        return len(file["paid"])


def _behind(onto: Path, more: Block) -> tuple[Block, str]:
    """Put new items behind those of a file, whose calls and dollars stay as they are."""
    with np.load(onto) as file:
        right = np.unpackbits(file["right"], axis=1, count=len(file["paid"])).astype(bool)
        whole = Block(
            right=np.concatenate([right, more.right], axis=1),
            calls=file["calls"],
            dollars=file["dollars"],
            paid=np.concatenate([file["paid"], more.paid]),
            failed=np.concatenate([file["failed"], more.failed]),
        )
        return whole, str(file["command"])


def run(arguments: argparse.Namespace) -> int:
    """Measure block by block and save as the first ones are complete; return how many items are saved."""
    until = time.time() + arguments.seconds
    firsts = range(stored_items(arguments.onto, arguments.task), arguments.items, arguments.block)
    done: dict[int, Block] = {}
    saved, saved_at = 0, time.time()
    with ProcessPoolExecutor(
        arguments.processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare,
        initargs=(arguments.device,),
    ) as pool:
        jobs: dict[Future[Block | None], int] = {}
        for first in firsts:
            last = min(first + arguments.block, arguments.items)
            jobs[pool.submit(block, arguments.task, arguments.items, first, last, until)] = first
        for job in as_completed(jobs):
            found = job.result()
            if found is None:
                continue
            done[jobs[job]] = found
            complete = list(_complete(firsts, done))
            if complete and time.time() >= saved_at + SAVE_S:
                saved, saved_at = save(arguments.out, arguments.task, complete, arguments.onto), time.time()
            print(f"{len(done)} of {len(firsts)} blocks, {until - time.time():.0f} s left", file=sys.stderr, flush=True)
    complete = list(_complete(firsts, done))
    return save(arguments.out, arguments.task, complete, arguments.onto) if complete else saved


def _complete(firsts: Sequence[int], done: dict[int, Block]) -> Iterator[Block]:
    return (done[first] for first in takewhile(done.__contains__, firsts))


def _prepare(device: str | None) -> None:
    """Set up a process: threads of engines and the event loop take turns, so that none waits long for another."""
    sys.setswitchinterval(0.001)
    if device is not None:
        from cuda_forward import install

        install(device)


def main() -> None:
    """Measure one task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("arithmetic", "dates"), required=True)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--block", type=int, default=15, help="items that a process takes at a time")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no block is begun later")
    parser.add_argument("--device", help="where PyTorch computes; NumPy is used without")
    parser.add_argument("--onto", type=Path, help="an earlier file, whose items come first")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    began = time.perf_counter()
    items = run(arguments)
    seconds = time.perf_counter() - began
    print(f"{items} items of {arguments.task} in {arguments.out}, {seconds:.0f} s")


if __name__ == "__main__":
    main()
