"""What to spend on easy and on hard questions: a table learned from recorded outcomes, for `nodes.compute_optimal`.

Every question of a dev split is tried with every strategy (`compute_optimal` with one bin, say), and its ease estimated
from the same pilot. Questions are cut into bins by ease; the table takes one strategy for each bin, so that the
accuracy is the greatest that a mean cost allows. The choice is exact: of all tables those are kept that no other beats
in both, bin by bin, as in a knapsack. This is the compute-optimal strategy of Snell et al. (arXiv 2408.03314), which
choose per bin on a validation split at a fixed budget for each question; here bins share the budget.

`recorded_trials` reads the runs, one for each strategy, and `learn_table` chooses; what it returns is saved as the file
that the setting `table_file` names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from db.errors import DataError
from db.runs import ItemRecord
from evals.used import Unit, used
from nodes.spending import Estimate, Spending, SpendingTable, bin_of

__all__ = ["Allocation", "Spent", "Trial", "allocations", "learn_table", "quantile_thresholds", "recorded_trials"]


class Spent(NamedTuple):
    """What a strategy came to on one question, or in the mean."""

    accuracy: float
    """0..1."""
    cost: float
    """In any one unit, the pilot included."""


class Trial(NamedTuple):
    """A question of the dev split: how easy its pilot made it look, and what each strategy came to, in their order."""

    ease: float
    outcomes: tuple[Spent, ...]


class Allocation(NamedTuple):
    """One strategy for each bin, with what comes of it in the mean over all questions."""

    accuracy: float
    cost: float
    choices: tuple[int, ...]
    """The place of each bin's strategy."""


def recorded_trials(
    runs: Sequence[Sequence[ItemRecord]], *, node: str = "compute_optimal", unit: Unit = "dollars"
) -> list[Trial]:
    """Return the trials of runs of `compute_optimal`, one run for each strategy, on the items that all of them have.

    The runs have the pilot in common, and so the ease. A question on which all of them failed counts as the hardest.
    Raises `DataError` where no item tells its ease, where runs differ in it (their pilots do), and for dollars where a
    price is unknown.
    """
    by_item = [{record.item_id: record for record in results} for results in runs]
    shared = [item for item in by_item[0] if all(item in records for records in by_item)] if by_item else []
    trials, told = [], False
    for item in shared:
        records = [of_run[item] for of_run in by_item]
        eases = {ease for record in records if (ease := _ease(record, node)) is not None}
        if len(eases) > 1:
            raise DataError(f"The runs differ in the ease of item {item!r}; give all of them the same pilot.")
        told = told or bool(eases)
        outcomes = tuple(Spent(record.score or 0.0, used(record, unit)) for record in records)
        trials.append(Trial(eases.pop() if eases else 0.0, outcomes))
    if not told:
        raise DataError(f"No item that all runs have tells its ease at node {node!r}; keep traces, and check its id.")
    return trials


def _ease(record: ItemRecord, node: str) -> float | None:
    nodes = orjson.loads(record.trace).get("outcome", {}).get("nodes", {})
    ease = nodes.get(node, {}).get("measures", {}).get("ease")
    return None if ease is None else float(ease)


def quantile_thresholds(eases: Sequence[float], bins: int) -> tuple[float, ...]:
    """Return thresholds that cut questions into bins of nearly equal size, fewer where many look alike; they fall."""
    if not eases or bins < 1:
        raise ValueError(f"bins need questions, and one bin at least (questions={len(eases)}, bins={bins})")
    ordered = sorted(eases, reverse=True)
    # Cuts are eases that occur, so that none is empty; one at the least ease would leave nothing below it.
    cuts = {ordered[math.ceil(number * len(ordered) / bins) - 1] for number in range(1, bins)}
    return tuple(sorted((cut for cut in cuts if cut > ordered[-1]), reverse=True))


def allocations(bins: Sequence[Sequence[Spent]]) -> list[Allocation]:
    """Return the allocations that no other beats in accuracy and cost, the cheapest first.

    `bins` gives for each bin what each strategy adds to the mean over all questions: the sum over the bin's questions
    over the number of all.
    """
    front = [Allocation(0.0, 0.0, ())]
    for strategies in bins:
        longer = [
            Allocation(before.accuracy + spent.accuracy, before.cost + spent.cost, (*before.choices, place))
            for before in front
            for place, spent in enumerate(strategies)
        ]
        front = _unbeaten(longer)
    return front


def _unbeaten(found: Sequence[Allocation]) -> list[Allocation]:
    front: list[Allocation] = []
    for one in sorted(found, key=lambda one: (one.cost, -one.accuracy)):
        if not front or one.accuracy > front[-1].accuracy + 1e-12:
            front.append(one)
    return front


def learn_table(
    trials: Sequence[Trial],
    strategies: Sequence[Spending],
    *,
    budget: float,
    pilot: int,
    estimate: Estimate,
    thresholds: Sequence[float] | None = None,
    bins: int = 5,
) -> SpendingTable:
    """Learn what to spend on each bin under a mean cost; without `thresholds` the bins are quantiles of ease.

    Raises `DataError` where even the cheapest table costs more than the budget, or a given bin holds no question, and
    `ValueError` without questions or strategies, or where a question lacks an outcome.
    """
    if not trials or not strategies or any(len(trial.outcomes) != len(strategies) for trial in trials):
        raise ValueError(f"every question needs an outcome of each of the {len(strategies)} strategies")
    if thresholds is None:
        thresholds = quantile_thresholds([trial.ease for trial in trials], bins)
    by_bin: list[list[Trial]] = [[] for _ in range(len(thresholds) + 1)]
    for trial in trials:
        by_bin[bin_of(trial.ease, thresholds)].append(trial)
    if empty := [str(place) for place, members in enumerate(by_bin, 1) if not members]:
        raise DataError(f"No question lies in bin {', '.join(empty)}; choose other thresholds or add questions.")
    front = allocations([_shares(members, len(strategies), len(trials)) for members in by_bin])
    affordable = [one for one in front if one.cost <= budget * (1 + 1e-12)]
    if not affordable:
        raise DataError(f"The cheapest table costs {front[0].cost:g} a question, more than the budget of {budget:g}.")
    best = affordable[-1]
    return SpendingTable(
        pilot=pilot,
        estimate=estimate,
        thresholds=tuple(thresholds),
        table=tuple(strategies[place] for place in best.choices),
        accuracy=best.accuracy,
        cost=best.cost,
        budget=budget,
        trained_on=len(trials),
    )


def _shares(members: Sequence[Trial], strategies: int, total: int) -> list[Spent]:
    return [
        Spent(
            math.fsum(trial.outcomes[place].accuracy for trial in members) / total,
            math.fsum(trial.outcomes[place].cost for trial in members) / total,
        )
        for place in range(strategies)
    ]
