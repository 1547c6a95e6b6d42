"""Samples of a run scored one by one: which node, which items, and what cannot be scored."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from architectures.outcome import Outcome
from architectures.trace import trace_json
from db.errors import ConfigError, DataError
from db.runs import ItemRecord
from evals.coverage import Tally
from evals.sampled import sampled
from evals.scorers import make_scorer
from evals.task import Item, Task
from nodes.base import Candidate, State

TASK = Task(
    name="sums",
    items=tuple(Item(id=name, question=f"{name}?", gold="4") for name in "abc"),
    scorer=make_scorer("numeric"),
)


def record(name: str, *texts: str, others: int = 1) -> ItemRecord:
    """An item whose node `draw` drew the texts, after `first` drew `others`; `pick` hands one of them on."""
    drawn = tuple(Candidate(id=f"draw:{i}", text=text, node="draw", model="m") for i, text in enumerate(texts))
    before = tuple(Candidate(id=f"first:{i}", text="Answer: 4", node="first", model="m") for i in range(others))
    states = {
        "first": State(question=f"{name}?", candidates=before),
        "draw": State(question=f"{name}?", candidates=(*drawn, *before)),
        "pick": State(question=f"{name}?", candidates=(*drawn, *before)[:1]),
    }
    outcome = Outcome(candidate=states["pick"].candidates[0], state=states["pick"], trace=states, failed={}, seconds={})
    bare = ItemRecord(run_id="r", architecture_id="a", item_id=name, created_at=datetime.now(UTC))
    return replace(bare, trace=json.dumps({"outcome": trace_json(outcome)}))


FAILED = ItemRecord(run_id="r", architecture_id="a", item_id="c", status="failed", created_at=datetime.now(UTC))


async def test_samples_are_counted_for_the_node_that_drew_them() -> None:
    results = [record("a", "Answer: 4", "no idea", "Answer: 5"), record("b", "Answer: 4", "Answer: 4.0"), FAILED]
    found = await sampled(results, TASK)
    assert found == ("draw", (Tally(3, 1), Tally(2, 2)), ("c",))
    assert (await sampled(results, TASK, "first")).tallies == (Tally(1, 1), Tally(1, 1))


async def test_what_cannot_be_scored_is_said() -> None:
    results = [record("a", "Answer: 4")]
    with pytest.raises(DataError, match=r"No item of the run has a node 'drw'. Did you mean 'draw'"):
        await sampled(results, TASK, "drw")
    with pytest.raises(DataError, match="no samples of node 'pick'"):
        await sampled(results, TASK, "pick")
    with pytest.raises(DataError, match="no samples of any node"):
        await sampled([FAILED], TASK)
    with pytest.raises(DataError, match="Item 'a' of the run is not that of the task any more"):
        await sampled(results, replace(TASK, items=TASK.items[1:]))
    changed = replace(TASK, items=(replace(TASK.items[0], question="another?"),))
    with pytest.raises(DataError, match="Item 'a' of the run is not that of the task any more"):
        await sampled(results, changed)
    with pytest.raises(ConfigError, match="scored by a model"):
        await sampled(results, replace(TASK, scorer=make_scorer("judge", model="m")))
