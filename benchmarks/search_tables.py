"""Regret against evaluations on tables in which every architecture's value is known; no model is called.

    COLONNADE_DATA=... python benchmarks/search_tables.py [--seeds 200] [--json] [--table gsm8k] [--searches itas gp]

Tables: subsets of recorded models with plurality or weighted vote, from MMLU-Pro (28 models, up to 5 at once) and from
GSM8K (43 models, up to 3). 8 % of the items give the weights of the weighted vote, the rest is halved: the search sees
the dev half, the pick is judged on the held-out half. Regret is the share of the way from the mean of the table to its
best that is left, on the dev half, in the mean over seeds. An evaluation is one architecture on one item; `random`,
`greedy`, `tpe`, `gp` and `itas` score every trial on the whole dev half, the race grows its trials.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from search_models import Table, gsm8k, mmlu_pro

from search import Race, default_race, make_sampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

TABLES: dict[str, Callable[[Path], Table]] = {
    "mmlu_pro": lambda data: Table("mmlu_pro", mmlu_pro(data), 5),
    "gsm8k": lambda data: Table("gsm8k", gsm8k(data), 3),
}
LEFT = 0.05
"""The regret at which evaluations are compared."""
TRIALS = {"random": 0, "greedy": 600, "tpe": 400, "gp": 120, "itas": 160, "itas-230": 360}
"""Trials of each search; random goes on until its mean regret is small enough."""


class Curve(NamedTuple):
    """Evaluations, and the point that would be picked after them."""

    evaluations: NDArray[np.int64]
    points: NDArray[np.int64]


class Step(NamedTuple):
    """The pick after some evaluations."""

    evaluations: int
    point: int


def search(table: Table, name: str, seed: int) -> Curve:
    """Run a sampler that scores every trial on the whole dev half."""
    options = {"itas": {"starts": 24.0}}.get(name, {})
    sampler = make_sampler(name.partition("-")[0], table.domain, **{key: int(v) for key, v in options.items()})
    state, best, steps = sampler.start(seed), -1, list[Step]()
    while len(state.trials) < TRIALS[name]:
        state, trials = sampler.ask_batch(state, 1)
        for trial in trials:
            state = sampler.tell(state, trial.id, float(table.dev[trial.point]))
            if best < 0 or table.dev[trial.point] > table.dev[best]:
                best = trial.point
            steps.append(Step(len(state.trials) * table.dev_items, best))
    return _curve(steps)


def random_search(table: Table, seed: int, trials: int) -> Curve:
    """Run the sampler `random` without asking one by one: a permutation is the same."""
    points = np.random.default_rng(seed).choice(len(table.domain), size=trials, replace=False)
    places = np.maximum.accumulate(np.where(_is_best(table.dev[points]), np.arange(trials), 0))
    return Curve((np.arange(trials) + 1) * table.dev_items, points[places])


def race(table: Table, seed: int, budget: int) -> Curve:
    """Run the default race until its budget of evaluations is used up."""
    runner = default_race(table.domain, table.dev_items)
    order = np.random.default_rng((seed, 7)).permutation(table.dev_items)
    return _curve(list(_race(table, runner, order, seed, budget)))


def _race(table: Table, runner: Race, order: NDArray[np.intp], seed: int, budget: int) -> Iterator[Step]:
    state, used = runner.start(seed), 0
    while used < budget:
        state, jobs = runner.ask_batch(state, 4)
        if not jobs:
            break
        for job in jobs:
            scores = table.scores(job.point)[order[job.first : job.last]]
            state = runner.tell(state, job, [float(score) for score in scores])
            used += job.last - job.first
        leader = runner.leader(state)
        if leader is not None:
            yield Step(used, state.study.trials[leader].point)


def _is_best(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(values >= np.maximum.accumulate(values))


def _curve(steps: list[Step]) -> Curve:
    return Curve(np.asarray([s.evaluations for s in steps]), np.asarray([s.point for s in steps]))


def regret(table: Table, curves: list[Curve], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean regret of the picks after these numbers of evaluations; 1 before the first pick."""
    best, mean = float(table.dev.max()), float(table.dev.mean())
    rows = []
    for curve in curves:
        place = np.searchsorted(curve.evaluations, at, side="right") - 1
        picked = np.where(place >= 0, table.dev[curve.points[np.maximum(place, 0)]], mean)
        rows.append((best - picked) / (best - mean))
    return np.asarray(np.mean(rows, axis=0))


def reached(table: Table, curves: list[Curve]) -> float:
    """Return the first number of evaluations from which the mean regret stays at `LEFT` or below; infinite if never."""
    grid = np.unique(np.concatenate([curve.evaluations for curve in curves])).astype(float)
    if len(grid) > 4000:
        grid = grid[:: len(grid) // 4000 + 1]
    above = np.flatnonzero(regret(table, curves, grid) > LEFT)
    if len(above) == 0:
        return float(grid[0])
    return float(grid[above[-1] + 1]) if above[-1] + 1 < len(grid) else float("inf")


def measure(table: Table, seeds: int, searches: Sequence[str] = tuple(TRIALS)[1:]) -> dict[str, float]:
    """Run searches on a table; return evaluations to 5 % regret, and the default's ratios.

    The default gets the evaluations that it may need at most: a quarter of random's, 40 % of the better `itas`'.
    """
    found: dict[str, float] = {}
    # Random costs next to nothing here, so its curve is taken from many more seeds.
    found["random"] = reached(table, [random_search(table, seed, 4000) for seed in range(max(seeds, 200))])
    for name in searches:
        found[name] = reached(table, [search(table, name, seed) for seed in range(seeds)])
        print(f"{table.name:9} {name:9} {found[name]:12,.0f} evaluations", file=sys.stderr, flush=True)
    itas = min(found.get("itas", np.inf), found.get("itas-230", np.inf))
    budget = int(min(0.25 * found["random"], 0.4 * itas))
    curves = [race(table, seed, budget) for seed in range(seeds)]
    found["default"] = reached(table, curves)
    held = np.asarray([table.held[curve.points[-1]] for curve in curves])
    found["held_out_within_1pt"] = float((held >= table.held.max() - 0.01).mean())
    found["default_over_random"] = found["default"] / found["random"]
    found["default_over_itas"] = found["default"] / itas
    return found


def main() -> None:
    """Measure all tables; the last line of `--json` holds the worst of each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--table", choices=tuple(TABLES), action="append")
    parser.add_argument("--searches", choices=tuple(TRIALS)[1:], nargs="+", default=tuple(TRIALS)[1:])
    arguments = parser.parse_args()
    folder = os.environ.get("COLONNADE_DATA")
    if not folder:
        parser.error("set COLONNADE_DATA to the folder of the recorded outputs")
    tables = arguments.table or TABLES
    rows = {name: measure(TABLES[name](Path(folder)), arguments.seeds, arguments.searches) for name in tables}
    for name, row in rows.items():
        print(name, " ".join(f"{key}={value:,.3f}" for key, value in row.items()), file=sys.stderr)
    worst = {
        "default_over_random": max(row["default_over_random"] for row in rows.values()),
        "default_over_itas": max(row["default_over_itas"] for row in rows.values()),
        "held_out_within_1pt": min(row["held_out_within_1pt"] for row in rows.values()),
    }
    print(json.dumps(worst) if arguments.json else "\n".join(f"{key}: {value:.3f}" for key, value in worst.items()))


if __name__ == "__main__":
    main()
