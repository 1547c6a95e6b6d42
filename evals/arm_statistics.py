"""What runs taught about the arms of `ucb_select`: how often each was tried, and its mean score.

Two sources: runs of each arm by itself on the same task (`arm_statistics`), and runs of `ucb_select`, whose items say
which arm they chose (`chosen_arms`). `merged` adds them up. The result is saved as a file, and the setting
`statistics_file` of the next architecture names it. What a chosen arm earned is a little too good a picture of it,
since it was chosen among several pulls; runs of each arm by itself have no such bias.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import orjson

from db.errors import DataError
from db.runs import ItemRecord
from nodes.arm_statistics import ArmStatistics, Seen

__all__ = ["arm_statistics", "chosen_arms", "merged"]


def arm_statistics(runs: Mapping[str, Sequence[ItemRecord]]) -> ArmStatistics:
    """Return the statistics of runs of each arm by itself, by the arms' names; a failed item earned nothing.

    Raises `DataError` for an arm without items.
    """
    if empty := [name for name, results in runs.items() if not results]:
        raise DataError(f"The runs of {', '.join(empty)} hold no items; evaluate them first, or leave them out.")
    return ArmStatistics(arms={name: _seen([one.score or 0.0 for one in results]) for name, results in runs.items()})


def chosen_arms(results: Iterable[ItemRecord], node: str, names: Sequence[str]) -> ArmStatistics:
    """Return the statistics of a run of `ucb_select`: each item's score counts for the arm whose answer it gave.

    `node` is the id of the node, `names` those of its arms in order. Items that failed before the node had chosen are
    passed over. Raises `DataError` where no item tells an arm, and for one that is not among the names.
    """
    earned: dict[str, list[float]] = {}
    for record in results:
        place = _chosen(record, node)
        if place is None:
            continue
        if not 0 <= place < len(names):
            raise DataError(
                f"Item {record.item_id!r} chose arm {place}, but {len(names)} are named; name all, in order."
            )
        earned.setdefault(names[place], []).append(record.score or 0.0)
    if not earned:
        raise DataError(f"No item tells which arm node {node!r} chose; keep traces, and check the node's id.")
    return ArmStatistics(arms={name: _seen(earned[name]) for name in names if name in earned})


def merged(*statistics: ArmStatistics) -> ArmStatistics:
    """Return the statistics of all runs together, in order of first appearance."""
    arms: dict[str, Seen] = {}
    for one in statistics:
        for name, seen in one.arms.items():
            known = arms.get(name, Seen(pulls=0, reward=0))
            pulls = known.pulls + seen.pulls
            earned = known.pulls * known.reward + seen.pulls * seen.reward
            # Rounding may carry the mean of means a hair beyond the bounds.
            arms[name] = Seen(pulls=pulls, reward=min(1.0, earned / pulls) if pulls else 0.0)
    return ArmStatistics(arms=arms)


def _seen(scores: Sequence[float]) -> Seen:
    return Seen(pulls=len(scores), reward=math.fsum(scores) / len(scores))


def _chosen(record: ItemRecord, node: str) -> int | None:
    nodes = orjson.loads(record.trace).get("outcome", {}).get("nodes", {})
    place = nodes.get(node, {}).get("measures", {}).get("arm")
    return None if place is None else int(place)
