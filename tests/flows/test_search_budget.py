"""A study never spends more than its budget, and tries nothing above a cap, whatever its space, caps and stops."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from architectures import load
from architectures.plan import plan
from colonnade.searching import run_search
from db.calls import CallStore
from db.database import Database
from db.errors import SpecError
from db.runs import RunStore
from flows.evaluate import TaskChoice
from flows.search_job import SearchJob
from flows.session import Caps, SessionSettings
from flows.study_view import StudyView
from providers.book import ModelBook
from tests.flows.search_commands import STUDY, snapshot
from tests.flows.search_server import SumServer
from tests.helpers import write_task

MOST_SAMPLES = 40
"""More than one item of these spaces needs, votes as dear as the winner included."""
PRICE = {"prompt": 1, "completion": 2}
ENOUGH = Caps(calls=1_000_000)
ITEMS, SEED = 16, 2
"""With this seed 6 items are for the search and its guard, and 10 are held out."""


class Go(NamedTuple):
    """One go at a study: its budget, and after how many items somebody stops it."""

    budget: Caps
    stop_after: int | None


class Study(NamedTuple):
    """A search as a user writes it, and what happens to it."""

    space: Mapping[str, Any]
    caps: Mapping[str, float]
    options: Mapping[str, Any]
    goes: Sequence[Go]


def some(values: Sequence[Any]) -> st.SearchStrategy[list[Any]]:
    """Draw some of these, in their order."""
    return st.lists(st.sampled_from(values), min_size=1, unique=True).map(lambda found: sorted(found, key=values.index))


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, Any]:
    generate: dict[str, Any] = {"model": "$model", "samples": "$samples", "max_tokens": 40}
    models = draw(some(["able", "weak"]))
    taken = [{"one_of": "generators"}, {"subset": "generators"}, {"best": "generators", "counts": [1, len(models)]}]
    parameters: dict[str, Any] = {
        "model": draw(st.sampled_from(taken[: 1 + len(models)])),
        "samples": {"choices": draw(some([1, 2, 3, 5]))},
    }
    if draw(st.booleans()):
        parameters["temperature"] = {"choices": [0.4, 0.9], "when": {"samples": {"above": 1}}}
        generate["temperature"] = "$temperature"
    ends = {
        "none": None,
        "vote": ["vote"],
        "rank": [{"rank": {"model": "able", "keep": 1, "max_tokens": 40}}],
        "fuse": [{"fuse": {"model": "able", "max_tokens": 40}}],
    }
    layers: list[Any] = [
        {"generate": generate},
        {"choose": "finish", "from": {name: ends[name] for name in draw(some(list(ends)))}},
    ]
    if draw(st.booleans()):
        refine = [{"critique": {"model": "weak", "max_tokens": 40}}, {"refine": {"model": "weak", "max_tokens": 40}}]
        layers.append({"optional": "refined", "layers": refine})
    space = {
        "name": "drawn",
        "models": {"generators": models},
        "parameters": parameters,
        "layers": layers,
    }
    if draw(st.booleans()):
        space["singles"] = {"generators": [{"generate": {"model": "$model", "max_tokens": 40}}]}
    return space


BUDGETS = st.builds(
    Caps,
    calls=st.none() | st.sampled_from([1, 10, 50, 100, 200, 400]),
    tokens=st.none() | st.integers(50, 20_000),
    dollars=st.none() | st.decimals("0.0001", "0.02", places=5),
)
STUDIES = st.builds(
    Study,
    space=spaces(),
    caps=st.fixed_dictionaries(
        {},
        optional={
            "calls": st.integers(1, 12),
            "tokens": st.integers(200, 4_000),
            "dollars": st.floats(0.0001, 0.004).map(lambda most: round(most, 6)),
        },
    ),
    options=st.fixed_dictionaries(
        {
            "trials": st.integers(1, 6),
            "parallel": st.integers(1, 3),
            "concurrency": st.integers(1, 8),
            "finalists": st.integers(1, 3),
            "guard_share": st.sampled_from([0.0, 0.3]),
            "sampler": st.sampled_from(["gp", "random"]),
            "rungs": st.sampled_from([(2, 4), (3,)]),
            "share": st.booleans(),
            "rank": st.booleans(),
            "objectives": st.sampled_from([("quality",), ("quality", "calls"), ("utility",)]),
        }
    ),
    goes=st.lists(st.builds(Go, BUDGETS, st.sampled_from([None, 1, 3, 6, 10, 20])), min_size=2, max_size=3),
)


class Paid(NamedTuple):
    """What was paid."""

    calls: int
    tokens: int
    dollars: Decimal

    def within(self, budget: Caps, before: Paid) -> bool:
        """Say whether it is no more than a budget allows to what was paid before."""
        caps = budget.model_dump(exclude_none=True)
        return all(getattr(self, name) <= max(cap, getattr(before, name)) for name, cap in caps.items())


class Bench:
    """A folder with models, items and a database, and a server."""

    def __init__(self, folder: Path, server: SumServer, study: Study) -> None:
        entry = {
            "transport": "openai",
            "base_url": server.url,
            "price": PRICE,
            "capabilities": {"n": True, "seed": True},
            "defaults": {"seed": 7},
        }
        self.models = folder / "models.yaml"
        self.models.write_text(yaml.safe_dump({"models": {name: {**entry, "model": name} for name in server.models}}))
        self.url = f"sqlite:///{folder}/colonnade.db"
        self._server = server
        self._study = study
        self._task = TaskChoice(name=str(write_task(folder, ITEMS)))

    async def go(self, go: Go) -> StudyView | None:
        """Search until the end, the budget's end, or somebody stops it, which gives None."""
        caps = SessionSettings(models=self.models, database_url=self.url, caps=go.budget, caps_per_run=True)
        job = SearchJob(
            study=STUDY,
            space=dict(self._study.space),
            caps=dict(self._study.caps),
            task=self._task,
            session=caps,
            error_price=0.01 if "utility" in self._study.options["objectives"] else 0.0,
            seed=SEED,
            **self._study.options,
        )
        done = 0

        def stop(_: object) -> None:
            nonlocal done
            done += 1
            if done == go.stop_after:
                searching.cancel()

        searching = asyncio.create_task(run_search(job, prefect=False, on_item=stop))
        with contextlib.suppress(asyncio.CancelledError):
            return await searching
        return None

    def stored(self) -> Paid:
        """What the call store says."""
        with Database.open(self.url) as database, contextlib.closing(CallStore(database)) as calls:
            spent = calls.spent(STUDY)
        return Paid(spent.calls, spent.prompt_tokens + spent.completion_tokens, spent.cost)

    def billed(self) -> Paid:
        """What the server says."""
        books = self._server.ledger
        dollars = Decimal(books.prompt_tokens * PRICE["prompt"] + books.completion_tokens * PRICE["completion"])
        return Paid(books.calls, books.prompt_tokens + books.completion_tokens, dollars / 1_000_000)

    def check_caps(self) -> None:
        """No trial passes a cap: not by its plan, and not in what its items used."""
        book = ModelBook.load(self.models)
        task = self._task.load()
        prompts = {item.id: item.prompt for item in task.split(0.5, SEED).dev.items}
        with Database.open(self.url) as database:
            trials = snapshot(database).trials
            for trial in trials:
                architecture: Any = trial.values["architecture"]
                spec = load(architecture, book).spec
                total = plan(spec, book, list(prompts.values())).total
                assert total.dollars is not None
                most = Paid(
                    int(total.calls.high),
                    int(total.prompt_tokens.high + total.completion_tokens.high),
                    total.dollars.high,
                )
                self._hold(most)
                for row in RunStore(database).items(STUDY, trial.architecture_id):
                    if row.item_id in prompts:
                        tokens = row.prompt_tokens_used + row.completion_tokens_used
                        self._hold(Paid(row.calls_used, tokens, row.cost_used or Decimal(0)))
        assert len({trial.point for trial in trials}) == len(trials) <= self._study.options["trials"]

    def _hold(self, paid: Paid) -> None:
        for name, value in paid._asdict().items():
            assert value <= Decimal(str(self._study.caps.get(name, "Infinity"))), name


async def course(study: Study) -> None:
    async with SumServer() as server:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder), server, study)
            try:
                await goes(bench, server, study)
            except SpecError:
                # No point meets the caps, which is known before the first call.
                assert study.caps
                assert server.ledger.requests == 0


async def goes(bench: Bench, server: SumServer, study: Study) -> None:
    lost = before = Paid(0, 0, Decimal(0))
    for go in (*study.goes, Go(ENOUGH, None)):
        view = await bench.go(go)
        await server.left()
        paid, billed = bench.stored(), bench.billed()
        bench.check_caps()
        event(view.status if view else "stopped")
        assert paid.within(go.budget, before)
        gone = Paid(billed.calls - paid.calls, billed.tokens - paid.tokens, billed.dollars - paid.dollars)
        if view is None:
            check_stopped(bench)
            in_flight = max(study.options["concurrency"], study.options["parallel"])
            assert gone.calls - lost.calls <= MOST_SAMPLES * in_flight, "only what was in flight is lost"
            lost = gone
        assert gone == lost, "the server's bill is what is stored"
        if view is not None:
            check_told(view)
        before = paid
    assert view is not None
    assert view.status == "done"


def check_told(view: StudyView) -> None:
    """A study that came to no end says why."""
    assert (view.ending is None) == (view.status == "over_budget") == bool(view.reason), view
    assert view.status in ("done", "over_budget")
    if view.ending is None:
        assert "udget" in view.reason


def check_stopped(bench: Bench) -> None:
    """What was stopped is said to be so, and nobody has to wait for its leases."""
    with Database.open(bench.url) as database:
        assert RunStore(database).get(STUDY).status == "stopped"
        assert all(job.leased_until <= datetime.now(UTC) for job in snapshot(database).jobs if job.scores is None)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(study=STUDIES)
def test_no_study_spends_more_than_its_budget(study: Study) -> None:
    asyncio.run(course(study))
