"""Regret against evaluations on tables in which every architecture's value is known; no model is called.

    COLONNADE_DATA=... python benchmarks/search_tables.py [--seeds 200] [--json] [--table gsm8k] [--searches itas gp]
        [--processes 16] [--keep FOLDER] [--plot FILE.svg] [--definitions]

Tables: subsets of up to 5 recorded models with plurality or weighted vote, from MMLU-Pro (28 models) and from GSM8K
(18 open models of up to 150 billion parameters), and the space `small` measured on `arithmetic`. In the first two 8 %
of the items give the weights of the weighted vote. All other items are halved, once for all seeds: the search sees the
dev half, the pick is judged on the held-out half. Regret is the share of the way from the mean of the table to its
best that is left, on the dev half, in the mean over seeds. An evaluation is one architecture on one item; `random`,
`greedy`, `tpe`, `gp` and `itas` score every trial on the whole dev half, the race grows its trials. All ask for one
thing at a time.

`default_over_random` and `default_over_itas` compare evaluations to 5 % regret; the pick is the default's after as
many evaluations as these two may be at most (25 and 40 %). `held_out_gap` is how much worse the pick is held out than
the point that is best on the whole dev half. The picks within a point of the best held out are counted twice:
`fixed_within_1pt` on the table's halves, `own_within_1pt` where each seed has random halves of its own.
`oracle_within_1pt` is the share of random halves on which the very point that is best on dev is within that point,
which is all that a search of the dev half can find. Where this is at least 95 %, `held_out_within_1pt` is
`own_within_1pt`, which says more; elsewhere the luck of the halves would hide the search, and it is `fixed_within_1pt`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if __name__ == "__main__":
    # Before NumPy is loaded: each process has a search of its own, and threads of its algebra would only be in the way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from search_models import COPIES, FLAGSHIPS, OPEN, SMALL_OPEN, Table, VoteTable, gsm8k, mmlu_pro, small

from search import default_race, make_sampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

TABLES: dict[str, Callable[[Path, int, int], Table]] = {
    "mmlu_pro": lambda data, others, n: VoteTable("mmlu_pro", mmlu_pro(data), 5, others=others, processes=n),
    "gsm8k": lambda data, others, n: VoteTable("gsm8k", gsm8k(data, OPEN), 5, others=others, processes=n),
    "small": lambda _, others, n: small("arithmetic", others=others),
}
LEFT = 0.05
"""The regret at which evaluations are compared."""
POINT = 0.01 + 1e-9
TRIALS = {"greedy": 800, "tpe": 400, "gp": 150, "itas": 250}
"""Trials of a search at most; none goes on past what random needs, or past the best point."""
OPTIONS = {"itas": {"starts": 24}}
"""Archon draws 230 at random before it learns; with fewer `itas` gets there sooner."""
TELLING = 0.95
"""The share of random halves whose best points on dev hold, from which on the luck of halves is left aside."""
OTHERS = 200
"""Other ways to halve a table's items."""


class Curve(NamedTuple):
    """Evaluations at which the point that would be picked changed, the point, and the same at the end."""

    evaluations: NDArray[np.int64]
    points: NDArray[np.int64]


class Step(NamedTuple):
    """The pick after some evaluations."""

    evaluations: int
    point: int


class Job(NamedTuple):
    """One search to run."""

    search: str
    seed: int
    limit: int
    """Evaluations after which it stops."""
    halves: int = 0
    """Which way of halving the table's items."""


class Result(NamedTuple):
    """What a table showed."""

    figures: dict[str, float]
    curves: dict[str, list[tuple[float, float]]]
    """Of each search: evaluations, and the mean regret from there on."""


def search(table: Table, job: Job) -> Curve:
    """Run a sampler that scores every trial on the whole dev half."""
    sampler = make_sampler(job.search, table.domain, **OPTIONS.get(job.search, {}))
    state, best, steps = sampler.start(job.seed), -1, list[Step]()
    trials = min(TRIALS[job.search], job.limit // table.dev_items, len(table.domain))
    while len(state.trials) < trials and (best < 0 or table.dev[best] < table.dev.max()):
        state, asked = sampler.ask_batch(state, 1)
        for trial in asked:
            state = sampler.tell(state, trial.id, float(table.dev[trial.point]))
            if best < 0 or table.dev[trial.point] > table.dev[best]:
                best = trial.point
            steps.append(Step(len(state.trials) * table.dev_items, best))
    return _curve(steps)


def random_search(table: Table, seed: int) -> Curve:
    """Run the sampler `random` without asking one by one: a permutation is the same."""
    points = np.random.default_rng(seed).permutation(len(table.domain))
    values = table.dev[points]
    better = np.flatnonzero(values > np.concatenate([[-1.0], np.maximum.accumulate(values)[:-1]]))
    return Curve((better + 1) * table.dev_items, points[better])


def race(table: Table, job: Job) -> Curve:
    """Run the default race until its evaluations are used up."""
    return _curve(list(_race(table, job)))


def _race(table: Table, job: Job) -> Iterator[Step]:
    runner = default_race(table.domain, table.dev_items)
    dev = table.order(job.halves)[: table.dev_items]
    order = dev[np.random.default_rng((job.seed, 7)).permutation(table.dev_items)]
    state, used = runner.start(job.seed), 0
    while used < job.limit:
        state, jobs = runner.ask_batch(state, 1)
        if not jobs:
            break
        for piece in jobs:
            scores = table.scores(piece.point)[order[piece.first : piece.last]]
            state = runner.tell(state, piece, scores.astype(float).tolist())
            used += piece.last - piece.first
        leader = runner.leader(state)
        if leader is not None:
            yield Step(used, state.study.trials[leader].point)


def _curve(steps: Sequence[Step]) -> Curve:
    changed = [s for i, s in enumerate(steps) if i in (0, len(steps) - 1) or s.point != steps[i - 1].point]
    return Curve(np.asarray([s.evaluations for s in changed]), np.asarray([s.point for s in changed]))


def regret(table: Table, curves: Sequence[Curve]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return numbers of evaluations, and the mean regret of the picks from each on; it is 1 before the first pick."""
    best, mean = float(table.dev.max()), float(table.dev.mean())
    left = [(best - table.dev[curve.points]) / (best - mean) for curve in curves]
    changes = np.concatenate([np.diff(row, prepend=1.0) for row in left])
    at = np.concatenate([curve.evaluations for curve in curves])
    order = np.argsort(at, kind="stable")
    last = np.flatnonzero(np.diff(at[order], append=-1))
    return at[order][last], 1 + np.cumsum(changes[order])[last] / len(curves)


def reached(table: Table, curves: Sequence[Curve]) -> float:
    """Return the first number of evaluations from which the mean regret stays at `LEFT` or below; infinite if never."""
    at, left = regret(table, curves)
    above = np.flatnonzero(left > LEFT + 1e-12)
    place = int(above[-1]) + 1 if len(above) else 0
    return float(at[place]) if place < len(at) else float("inf")


class Runner:
    """Runs searches on a table, in processes that are forked from this one and so have it in memory."""

    def __init__(self, table: Table, processes: int) -> None:
        self.table = table
        self.processes = processes

    def __call__(self, jobs: Sequence[Job]) -> list[Curve]:
        """Run all jobs and return their curves, in order."""
        run = partial(_run, self.table)
        if self.processes == 1:
            return [run(job) for job in jobs]
        _forked.append(run)
        with get_context("fork").Pool(self.processes) as pool:
            curves = pool.map(_run_forked, jobs, chunksize=1)
        _forked.pop()
        return curves


_forked: list[Callable[[Job], Curve]] = []


def _run(table: Table, job: Job) -> Curve:
    return race(table, job) if job.search == "default" else search(table, job)


def _run_forked(job: Job) -> Curve:
    return _forked[-1](job)


def measure(table: Table, seeds: int, searches: Sequence[str] = tuple(TRIALS), processes: int = 1) -> Result:
    """Run searches on a table, then the default with the evaluations that it may need at most."""
    run, found = Runner(table, processes), dict[str, float]()
    # Random costs next to nothing here, so its curve is taken from many more seeds.
    curves = {"random": [random_search(table, seed) for seed in range(max(5 * seeds, 200))]}
    found["random"] = reached(table, curves["random"])
    for name in searches:
        began = time.perf_counter()
        curves[name] = run([Job(name, seed, int(found["random"])) for seed in range(seeds)])
        found[name] = reached(table, curves[name])
        seconds = time.perf_counter() - began
        print(f"{table.name:9} {name:9} {found[name]:12,.0f} evaluations, {seconds:.0f} s", file=sys.stderr, flush=True)
    limit = int(min(0.25 * found["random"], 0.4 * found.get("itas", np.inf)))
    curves["default"] = run([Job("default", seed, limit) for seed in range(seeds)])
    found["default"] = reached(table, curves["default"])
    others = run([Job("default", seed, limit, halves=1 + seed % OTHERS) for seed in range(seeds)])
    found |= {
        "default_over_random": found["default"] / found["random"],
        "default_over_itas": found["default"] / found.get("itas", np.inf),
        **spread(table, curves["default"]),
        **held_out(table, curves["default"], others),
    }
    shown = {name: list(zip(*(x.tolist() for x in regret(table, some)), strict=True)) for name, some in curves.items()}
    return Result(found, {name: _thinned(points) for name, points in shown.items()})


def spread(table: Table, curves: Sequence[Curve]) -> dict[str, float]:
    """Return the median and the 90th percentile over seeds of when each had reached `LEFT`, and of what was left."""
    each = [reached(table, [curve]) for curve in curves]
    left = [float(regret(table, [curve])[1][-1]) for curve in curves]
    return {
        "default_median": float(np.quantile(each, 0.5, method="higher")),
        "default_p90": float(np.quantile(each, 0.9, method="higher")),
        "left_median": float(np.median(left)),
        "left_p90": float(np.quantile(left, 0.9)),
    }


def held_out(table: Table, curves: Sequence[Curve], others: Sequence[Curve]) -> dict[str, float]:
    """Return how the picks do on the held-out half, and what the halves themselves allow."""
    halves, picks = table.halves, np.asarray([curve.points[-1] for curve in curves])
    elsewhere = []
    for seed, curve in enumerate(others):
        held = table.order(1 + seed % OTHERS)[table.dev_items :]
        short = halves.best_held[seed % OTHERS] - table.scores(int(curve.points[-1]))[held].mean()
        elsewhere.append(short <= POINT)
    oracle = float((halves.best_held - halves.its_held <= POINT).mean())
    fixed, own = float((table.held[picks] >= table.held.max() - POINT).mean()), float(np.mean(elsewhere))
    return {
        "held_out_within_1pt": own if oracle >= TELLING else fixed,
        "fixed_within_1pt": fixed,
        "own_within_1pt": own,
        "held_out_gap": float(table.held[table.dev.argmax()] - table.held[picks].mean()),
        "best_dev_short_of_best_held": float(table.held.max() - table.held[table.dev.argmax()]),
        "oracle_within_1pt": oracle,
    }


def _thinned(points: list[tuple[float, float]], steps: int = 200) -> list[tuple[float, float]]:
    """Keep what a logarithmic axis can show."""
    places = np.linspace(np.log(points[0][0]), np.log(points[-1][0]), steps)
    kept = np.searchsorted(np.log([at for at, _ in points]), places - 1e-9)
    return [points[place] for place in sorted({*kept.tolist(), len(points) - 1})]


def plot(results: dict[str, Result], path: Path) -> None:
    """Draw mean regret against evaluations, a panel a table."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Text stays text and nothing is drawn at random, so that the same figures give the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "colonnade"}):
        figure = Figure(figsize=(4 * len(results), 3.4), layout="constrained")
        panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
        for panel, (name, result) in zip(panels, results.items(), strict=True):
            for label, points in result.curves.items():
                width = 2.2 if label == "default" else 1.1
                panel.step(*zip(*_thinned(points, 100), strict=True), where="post", label=label, linewidth=width)
            panel.axhline(LEFT, color="0.7", linewidth=0.8, linestyle=":")
            panel.set(xscale="log", yscale="log", ylim=(0.002, 1.2), title=name, xlabel="evaluations")
        panels[0].set_ylabel("mean regret on dev")
        panels[-1].legend(frameon=False, fontsize=8)
        figure.savefig(path, metadata={"Date": None})


def kept(folder: Path | None, name: str, make: Callable[[], Result]) -> Result:
    """Return the result in the folder, or make it and put it there."""
    path = None if folder is None else folder / f"{name}.json"
    if path is not None and path.is_file():
        return Result(*json.loads(path.read_text()))
    result = make()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
    return result


def definitions(data: Path, processes: int) -> None:
    """Print, for tables that could be made of GSM8K, how often the best on a random dev half holds on the other."""
    everyone = gsm8k(data).models
    accuracy = dict(zip(everyone, (gsm8k(data).codes == 0).mean(axis=1), strict=True))
    for label, models, size in (
        ("all", everyone, 3),
        ("one Llama 3.1 405B in place of three", [name for name in everyone if name not in COPIES], 3),
        ("under 90 % accuracy", [name for name in everyone if accuracy[name] < 0.9], 3),
        ("the best of each vendor", FLAGSHIPS, 5),
        ("open, up to 10 B", SMALL_OPEN, 5),
        ("open, up to 150 B", OPEN, 3),
        ("open, up to 150 B", OPEN, 5),
        ("Claude", [name for name in everyone if name.startswith("claude")], 5),
    ):
        table = VoteTable(label, gsm8k(data, models), size, others=OTHERS, processes=processes)
        gap = table.halves.best_held - table.halves.its_held
        print(
            f"{label} | {len(models)} models, up to {size} | {len(table.domain):,} points | "
            f"{100 * (gap <= POINT).mean():.1f} % | mean gap {100 * gap.mean():.2f}",
            flush=True,
        )


def main() -> None:
    """Measure all tables; the last line of `--json` holds the worst of each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--table", choices=tuple(TABLES), action="append")
    parser.add_argument("--searches", choices=tuple(TRIALS), nargs="+", default=tuple(TRIALS))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--definitions", action="store_true", help="only say how much halves of GSM8K tell")
    parser.add_argument("--keep", type=Path, help="results of tables are written here, and read where they are there")
    parser.add_argument("--plot", type=Path, help="where to draw the curves, as SVG")
    arguments = parser.parse_args()
    folder = os.environ.get("COLONNADE_DATA")
    if not folder:
        parser.error("set COLONNADE_DATA to the folder of the recorded outputs")
    if arguments.definitions:
        definitions(Path(folder), arguments.processes)
        return

    def made(name: str) -> Result:
        table = TABLES[name](Path(folder), OTHERS, arguments.processes)
        return measure(table, arguments.seeds, arguments.searches, arguments.processes)

    results = {name: kept(arguments.keep, name, partial(made, name)) for name in arguments.table or TABLES}
    for name, result in results.items():
        print(name, " ".join(f"{key}={value:,.3f}" for key, value in result.figures.items()), file=sys.stderr)
    if arguments.plot:
        plot(results, arguments.plot)
    rows = [result.figures for result in results.values()]
    worst = {key: max(row[key] for row in rows) for key in ("default_over_random", "default_over_itas", "held_out_gap")}
    shares = ("held_out_within_1pt", "oracle_within_1pt", "own_within_1pt", "fixed_within_1pt")
    worst |= {key: min(row[key] for row in rows) for key in shares}
    print(json.dumps(worst) if arguments.json else "\n".join(f"{key}: {value:.3f}" for key, value in worst.items()))


if __name__ == "__main__":
    main()
