"""Every technique survives the walk that shares bills, and what it foretells of the literature holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from architectures.parse import parse
from architectures.plan import plan
from db.calls import CallStore
from db.database import Database
from db.runs import RunStore
from evals import load_task
from nodes.probe import Probe
from nodes.registry import BUILT_IN
from providers.book import ModelBook
from providers.gateway import Gateway
from search import Bills, load_space, plan_space
from search.parts import Part, Signs, parts
from tests.architectures.support import book_at
from tests.nodes.test_contract import all_probes
from tests.search.test_marginal import Runs

PROBES = all_probes()
MODELS = sorted({model for probe in PROBES for model in probe.technique.models()} | {"drafter", "other"})

ASK_THE_QUESTION_ALONE = {"generate", "unit_test_generate"}
"""What is drafted before them does not reach their prompts, so that their samples are shared."""


def walked(probe: Probe, signs: Signs, drafter: str = "drafter", samples: int = 4) -> list[Part]:
    """Return the parts of the technique behind drafts with tests, and see that they cost what the plan says."""
    settings = probe.technique.model_dump(mode="json", exclude_unset=True)
    nodes = {
        "draft": {"use": "generate", "model": drafter, "samples": samples, "temperature": 0.8, "top_logprobs": 5},
        "tests": {"use": "unit_test_generate", "model": drafter, "after": "draft"},
        "probed": {"use": probe.name, "after": "tests", **settings},
    }
    spec = parse({"nodes": nodes, "output": "probed"})
    planned = plan(spec, book_at("http://127.0.0.1:9/v1", *MODELS), 9)
    costs = {node.id: [call.quantities.calls.likely for call in node.calls] for node in planned.nodes}
    found = parts(spec, costs, signs)
    assert sum(part.cost for part in found) == pytest.approx(sum(map(sum, costs.values())))
    return found


def test_every_technique_is_walked() -> None:
    assert {probe.name for probe in PROBES} == {*BUILT_IN}


@pytest.mark.parametrize("probe", PROBES, ids=str)
def test_equal_nodes_share_their_bill_and_others_do_not(probe: Probe) -> None:
    signs = Signs()
    first = walked(probe, signs)
    assert walked(probe, signs) == first
    if probe.name not in ASK_THE_QUESTION_ALONE:
        # What another model drafted is another text to be shown, and no reply to it is known.
        assert not {part.sign for part in walked(probe, signs, "other")} & {part.sign for part in first}


async def test_the_literature_is_paid_no_more_than_foretold(tmp_path: Path) -> None:
    """Trials of `literature` one after the other in one store, each priced by what those before it have not paid."""
    book, task = ModelBook({}, env={}), load_task("arithmetic", items=2)
    planned = plan_space(load_space("literature"), book, [item.prompt for item in task.items])
    bills = Bills(planned, "calls")
    likely = np.asarray([float(point.figures.likely["calls"] or 0) for point in planned.points])
    left_at_first = bills.left({}, range(2))
    assert left_at_first == pytest.approx(likely)
    few = np.flatnonzero(likely <= 10).tolist()
    drafts = {"model": "embedded/mini", "draw": "repeated", "samples": 4, "refined": False}
    alike = [point for point in few if drafts.items() <= planned.points[point].values.items()]
    rng = np.random.default_rng(3)
    chosen = [*rng.choice(alike, 8, replace=False), *rng.choice([p for p in few if p not in alike], 5, replace=False)]
    bought: dict[int, int] = {}
    foretold, paid = 0.0, 0
    database = Database.open(f"sqlite:///{tmp_path}/colonnade.db")
    async with Gateway(book, CallStore(database)) as gateway:
        here = Runs(book, gateway, RunStore(database), task)
        for point in map(int, chosen):
            most = float(planned.points[point].figures.high["calls"] or 0)
            left = 2 * bills.left(bought, range(2))[point]
            now = sum(record.calls_paid for record in await here.score(planned, point, 2))
            assert now <= left + 2 * (most - likely[point]) + 1e-9, planned.points[point].values
            foretold, paid = foretold + left, paid + now
            bought[point] = 2
    database.close()
    assert 0.3 * foretold < paid <= foretold
    assert foretold < 0.75 * 2 * likely[list(bought)].sum()
