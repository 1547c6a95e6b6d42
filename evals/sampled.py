"""How many of each item's samples were right, from a run whose traces were kept: what coverage is computed from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import orjson

from architectures.outcome import Outcome
from architectures.trace import outcome_from_json
from db.errors import ConfigError, DataError, did_you_mean
from db.runs import ItemRecord
from evals.coverage import Tally
from evals.task import Item, Task

__all__ = ["Sampled", "sampled"]


class Sampled(NamedTuple):
    """The samples of one node, scored against the gold answers of the run's items."""

    node: str
    tallies: tuple[Tally, ...]
    """One for each item of which there are samples, in the order of the results."""
    left_out: tuple[str, ...]
    """Ids of the items without a sample: every call for them failed, or their trace was not kept."""


async def sampled(results: Sequence[ItemRecord], task: Task, node: str | None = None) -> Sampled:
    """Score every sample of a node; without `node` that of the node that drew most, the first of equals.

    A sample that states no answer is wrong. One whose call failed is no sample. Raises `DataError` where the run holds
    no sample of the node and where the task has changed since, and `ConfigError` for a task that a model scores.
    """
    if task.scorer.models():
        raise ConfigError(
            f"The task {task.name!r} is scored by a model ({task.scorer.name}), which would be asked of every sample; "
            "coverage is computed where answers are compared without one."
        )
    outcomes = {record.item_id: outcome for record in results if (outcome := _outcome(record)) is not None}
    node = _node(outcomes.values(), node)
    items = {item.id: item for item in task.items}
    tallies, left_out = [], []
    for record in results:
        outcome = outcomes.get(record.item_id)
        texts = _texts(outcome, node) if outcome else []
        if outcome is None or not texts:
            left_out.append(record.item_id)
            continue
        item = _same(items.get(record.item_id), record.item_id, outcome)
        right = [(await task.scorer.score(item, text)).correct for text in texts]
        tallies.append(Tally(len(texts), sum(right)))
    return Sampled(node, tuple(tallies), tuple(left_out))


def _outcome(record: ItemRecord) -> Outcome | None:
    stored = orjson.loads(record.trace).get("outcome")
    return outcome_from_json(stored) if stored else None


def _texts(outcome: Outcome, node: str) -> list[str]:
    state = outcome.trace.get(node)
    return [one.text for one in state.candidates if one.node == node] if state else []


def _node(outcomes: Iterable[Outcome], wanted: str | None) -> str:
    drawn: Counter[str] = Counter()
    for outcome in outcomes:
        drawn.update({name: len(_texts(outcome, name)) for name in outcome.trace})
    if wanted is not None and wanted not in drawn:
        raise DataError(f"No item of the run has a node {wanted!r}.{did_you_mean(wanted, drawn)}")
    found = wanted or next((name for name, _ in drawn.most_common(1)), None)
    if found is None or not drawn[found]:
        what = f"node {found!r}" if wanted else "any node"
        raise DataError(
            f"The run holds no samples of {what}; evaluate again, with traces, before you look at coverage."
        )
    return found


def _same(item: Item | None, item_id: str, outcome: Outcome) -> Item:
    if item is None or item.prompt != outcome.state.question:
        raise DataError(f"Item {item_id!r} of the run is not that of the task any more; evaluate the task again.")
    return item
