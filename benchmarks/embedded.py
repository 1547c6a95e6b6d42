"""Measures the models that ship inside, through the runtime that ships with them.

    python benchmarks/embedded.py [--items 512] [--temperature 0.8] [--processes 2] [--keep FOLDER] [--json]

Held-out problems (split `test`) of both families; every reply, the judge's too, is sampled at the same temperature.
Prints a table with 95 % intervals; with `--json` the last line is one JSON object for comparisons over time. 512
problems take about an hour of CPU time (`python -m training.evaluate` measures the same on a GPU in two and a half
minutes, without the runtime that ships). Seeds depend on the prompts alone, so the number of processes changes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from embedded_records import MODELS, Bench, Record, Solved, Unread, opened, record

from evals.problems import Family, make_problems
from providers.base import Message
from providers.embedded import EmbeddedTransport, identity

if TYPE_CHECKING:
    from numpy.typing import NDArray

FAMILIES: tuple[Family, ...] = ("arithmetic", "dates")
PART = 16
"""Problems that a process takes at a time."""
SOLVERS = ("nano", "mini")


class Estimate(NamedTuple):
    """A figure with its 95 % interval, in the unit of the figure."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:7.3f} [{self.low:6.3f}, {self.high:6.3f}]"


Figures = dict[str, Estimate]
Rows = list[list[tuple[float, bool]]]
"""By problem: what the judge says of something, and whether it is right."""


def mean_of(values: Sequence[float] | NDArray[np.float64]) -> Estimate:
    """Mean of one value a problem, normal interval."""
    found = np.asarray(values, np.float64)
    half = 1.96 * found.std(ddof=1) / len(found) ** 0.5
    return Estimate(float(found.mean()), float(found.mean() - half), float(found.mean() + half))


def resampled(rows: Rows, figure: Callable[[NDArray[np.float64]], float]) -> Estimate:
    """A figure of all rows together, with a bootstrap interval that draws whole problems (200 draws, fixed seed)."""
    groups = [np.array(row, np.float64).reshape(-1, 2) for row in rows]
    picks = np.random.default_rng(0).integers(0, len(groups), (200, len(groups)))
    draws = [figure(np.concatenate([groups[i] for i in pick])) for pick in picks]
    return Estimate(figure(np.concatenate(groups)), *(float(q) for q in np.nanquantile(draws, (0.025, 0.975))))


def auc(rows: NDArray[np.float64]) -> float:
    """Area under the ROC curve of rows (score, 1 where right), ties counted half; NaN without both kinds."""
    right = rows[:, 1] > 0
    _, place, count = np.unique(rows[:, 0], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    positive = int(right.sum())
    if positive in (0, len(rows)):
        return math.nan
    return float((ranks[right].sum() - positive * (positive + 1) / 2) / (positive * (len(rows) - positive)))


def accepted(rows: NDArray[np.float64], *, right: bool) -> float:
    """Part of the right, or of the wrong, that was accepted; rows (1 where accepted, 1 where right)."""
    chosen = rows[(rows[:, 1] > 0) == right, 0]
    return float(chosen.mean()) if len(chosen) else math.nan


def balanced(rows: NDArray[np.float64]) -> float:
    """Mean of the rates of right decisions among the right and among the wrong."""
    return (accepted(rows, right=True) + 1 - accepted(rows, right=False)) / 2


def compared(figures: Figures, key: str, values: Sequence[float], over: str, base: Sequence[float]) -> None:
    """Put down a figure and its paired difference from another one."""
    figures[key] = mean_of(values)
    figures[f"{key} - {over}"] = mean_of(np.asarray(values, np.float64) - np.asarray(base, np.float64))


def figures_of_solver(figures: Figures, name: str, found: Sequence[Solved]) -> None:
    """All figures about one model's samples."""
    one = [sum(s.right) / len(s.right) for s in found]
    any16 = [float(any(s.right)) for s in found]
    majority16 = [float(s.majority16) for s in found]
    figures[f"{name} pass@1"] = mean_of(one)
    compared(figures, f"{name} pass@16", any16, "pass@1", one)
    compared(figures, f"{name} majority of 16", majority16, "pass@1", one)
    figures[f"{name} pass@16 - majority of 16"] = mean_of(np.subtract(any16, majority16))
    figures[f"{name} majority of 8"] = mean_of([s.majority8 for s in found])
    verdicts: Rows = [list(zip(map(float, s.passed), s.right, strict=True)) for s in found]
    rewards: Rows = [list(zip(s.rewards, s.right, strict=True)) for s in found]
    figures[f"judge balanced accuracy on {name}"] = resampled(verdicts, balanced)
    figures[f"judge accepts right of {name}"] = resampled(verdicts, lambda rows: accepted(rows, right=True))
    figures[f"judge rejects wrong of {name}"] = resampled(verdicts, lambda rows: 1 - accepted(rows, right=False))
    figures[f"judge reward AUC on {name}"] = resampled(rewards, auc)
    figures[f"judge step AUC on {name}"] = resampled(
        [[(step.score, step.right) for step in s.steps] for s in found], auc
    )
    compared(figures, f"{name} verified 16", [s.verified16 for s in found], "majority of 16", majority16)
    compared(figures, f"{name} rank, first of 8", [s.ranked for s in found], "pass@1", one)
    compared(figures, f"{name} fuse of 8", [s.fused for s in found], "majority of 8", [s.majority8 for s in found])
    refined = [s.refined for s in found]
    compared(figures, f"{name} critique, refine", refined, "the first sample", [s.right[0] for s in found])


def figures_of(records: Sequence[Record]) -> Figures:
    """All figures of one family."""
    figures: Figures = {}
    nano, mini = [r.nano for r in records], [r.mini for r in records]
    figures_of_solver(figures, "nano", nano)
    figures_of_solver(figures, "mini", mini)
    mixed = [r.mixed8 for r in records]
    compared(figures, "majority of 4 + 4", mixed, "nano's majority of 8", [s.majority8 for s in nano])
    compared(figures, "majority of 4 + 4", mixed, "mini's majority of 8", [s.majority8 for s in mini])
    alone = [sum(r.judge) / len(r.judge) for r in records]
    compared(figures, "judge pass@1", alone, "mini's", [sum(s.right) / len(s.right) for s in mini])
    return figures


class Part(NamedTuple):
    """What a process is given to record."""

    family: Family
    items: int
    start: int
    temperature: float
    keep: Path | None

    @property
    def file(self) -> Path | None:
        """Where the records of the part are kept: by weights, temperature and place."""
        weights = "-".join(identity(model).partition("@")[2] for model in MODELS)
        end = min(self.start + PART, self.items)
        name = f"{weights}-{self.temperature:g}-{self.family}-{self.start}-{end}.pickle"
        return self.keep / name if self.keep else None


def record_part(part: Part) -> tuple[list[Record], Unread]:
    """Record a few problems, or return what was kept of them; runs in a process of its own."""
    if part.file and part.file.exists():
        kept: tuple[list[Record], Unread] = pickle.loads(part.file.read_bytes())
        return kept
    chosen = slice(part.start, part.start + PART)
    roles = part.family == FAMILIES[0]
    found = asyncio.run(record(part.family, part.items, chosen, temperature=part.temperature, roles=roles))
    if part.file:
        part.file.write_bytes(pickle.dumps(found))
    return found


def recorded(
    items: int, temperature: float, processes: int, keep: Path | None
) -> tuple[dict[Family, list[Record]], Unread]:
    """Record both families, in parts that the processes share."""
    parts = [Part(family, items, start, temperature, keep) for start in range(0, items, PART) for family in FAMILIES]
    records: dict[Family, list[Record]] = {family: [] for family in FAMILIES}
    unread: Unread = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for part, (found, bad) in zip(parts, pool.map(record_part, parts), strict=True):
            records[part.family] += found
            for key, counts in bad.items():
                before = unread.get(key, (0, 0))
                unread[key] = (before[0] + counts[0], before[1] + counts[1])
            print(f"{part.family}: {len(records[part.family])} of {items}", file=sys.stderr, flush=True)
    return records, unread


async def texts_of(threads: int, slots: int, step: int, items: int, temperature: float) -> dict[str, list[str]]:
    """Five samples of nano and of mini for each problem, the problems asked in an order of `step`."""
    asked = make_problems("arithmetic", items, split="dev", seed=1)[::step]
    async with opened(SOLVERS, slots, threads) as transports:
        bench = Bench(transports=transports, temperature=temperature)
        rows = {
            name: await bench.ask(name, "generate", [{"question": p.question} for p in asked], 5) for name in SOLVERS
        }
    return {f"{name} {p.id}": row for name in SOLVERS for p, row in zip(asked, rows[name], strict=True)}


def same_text(items: int, temperature: float) -> tuple[int, int]:
    """Draw samples on one thread with 32 slots, then backwards on two threads with 24; count the differences."""
    first = asyncio.run(texts_of(1, 32, 1, items, temperature))
    second = asyncio.run(texts_of(2, 24, -1, items, temperature))
    pairs = [(a, b) for key, row in first.items() for a, b in zip(row, second[key], strict=True)]
    return sum(a != b for a, b in pairs), len(pairs)


class Speed(NamedTuple):
    """What one model costs in a process of its own."""

    tokens_per_s: float
    """Generated, by the wall clock, prompts included, 32 in flight on one thread."""
    tokens_per_cpu_s: float
    load_s: float
    memory_mb: float
    """The largest resident set of the process, Python and NumPy included."""


async def probe(model: str) -> Speed:
    """Measure speed and memory in this process."""
    import resource

    began = time.perf_counter()
    transport = EmbeddedTransport(model)
    load = time.perf_counter() - began
    asked = [{"question": p.question} for p in make_problems("arithmetic", 97, split="dev")]
    bench = Bench(transports={model: transport}, temperature=0.8)
    await bench.ask(model, "generate", asked[:1], 8)
    wall, cpu = time.perf_counter(), time.process_time()
    rows = await bench.ask(model, "generate", asked[1:], 8)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    # the message's own role and the generation prompt are no part of the reply, its end is
    tokens = sum(transport.count_tokens([Message("assistant", text)]) - 2 for row in rows for text in row)
    await transport.aclose()
    return Speed(tokens / wall, tokens / cpu, load, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def probed(model: str) -> Speed:
    """Measure in a fresh process."""
    command = [sys.executable, __file__, "--probe", model]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Speed(*json.loads(done.stdout.splitlines()[-1]))


def report(results: dict[Family, Figures], unread: Unread, speeds: dict[str, Speed]) -> None:
    """Print the tables."""
    print(f"{'':44}" + "".join(f"{family:>28}" for family in results))
    for key in results[FAMILIES[0]]:
        print(f"{key:44}" + "".join(f"{figures[key]!s:>28}" for figures in results.values()))
    print("\nreplies that could not be read, of how many")
    for key, (bad, count) in sorted(unread.items()):
        print(f"{key:32}{bad:6} of {count:6} ({100 * bad / count:.2f} %)")
    print("\non one thread, 32 in flight: tokens/s by the clock, by CPU time; loading s; memory MB")
    for model, speed in speeds.items():
        print(f"{model:10}{speed[0]:9.0f}{speed[1]:9.0f}{speed[2]:8.3f}{speed[3]:8.0f}")
    weights = Path(sys.modules[EmbeddedTransport.__module__].__file__ or "").parent / "models"
    total = sum(path.stat().st_size for path in weights.glob("*/model.safetensors"))
    print(f"all weights {total / 1e6:.2f} MB")


def summary(results: dict[Family, Figures], speeds: dict[str, Speed]) -> dict[str, float]:
    """Pick the figures to compare over time: those of word problems, of mini where both models have one."""
    figures = results["arithmetic"]
    keys = {
        "nano_pass1": "nano pass@1",
        "nano_pass16": "nano pass@16",
        "mini_pass1": "mini pass@1",
        "mini_pass16": "mini pass@16",
        "mini_majority16": "mini majority of 16",
        "mini_verified16": "mini verified 16",
        "judge_balanced_accuracy": "judge balanced accuracy on mini",
        "judge_auc": "judge reward AUC on mini",
        "rank_top1": "mini rank, first of 8",
        "fuse8": "mini fuse of 8",
        "refine_gain": "mini critique, refine - the first sample",
    }
    found = {name: round(figures[key].value, 4) for name, key in keys.items()}
    for model in SOLVERS:
        found[f"{model}_tokens_per_s"] = round(speeds[model].tokens_per_cpu_s, 1)
    return found


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=512, help="problems of each family")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="an existing folder for records, from which a stopped run goes on")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--probe", choices=MODELS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe:
        print(json.dumps(asyncio.run(probe(arguments.probe))))
        return
    began = time.monotonic()
    speeds = dict(zip(MODELS, map(probed, MODELS), strict=True))
    records, unread = recorded(arguments.items, arguments.temperature, arguments.processes, arguments.keep)
    results = {family: figures_of(found) for family, found in records.items()}
    report(results, unread, speeds)
    different, of = same_text(min(500, arguments.items), arguments.temperature)
    print(f"the same seed gave another text in {different} of {of} samples (other threads, slots and order)")
    print(f"{arguments.items} problems of each family, {time.monotonic() - began:.0f} s")
    if arguments.json:
        print(json.dumps(summary(results, speeds)))


if __name__ == "__main__":
    main()
