"""What is left to pay, foretold from shared parts, is what a real gateway with a real store is paid."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from architectures import compile_architecture, plan
from architectures.parse import parse
from db.calls import CallStore
from db.database import Database
from db.runs import ItemRecord, RunStore
from evals import Item, Task, evaluate_items, make_scorer
from evals.tasks.registry import load_task
from providers.book import ModelBook
from providers.gateway import Gateway
from providers.testing_server import Asking, ModelServer
from search import Bills, PlannedSpace, Race, load_space, make_sampler, plan_space, read_space
from search.parts import Signs, parts
from tests.architectures.support import answer_well, book_at

LAYERS: dict[str, Any] = {
    "nothing": None,
    "best": [{"judge": {"model": "judge", "keep": 1}}],
    "judged vote": [{"judge": {"model": "judge"}}, {"vote": {"weights": "score"}}],
    "judged, fused": [{"judge": {"model": "judge"}}, {"fuse": {"model": "judge"}}],
    "ranked": [{"rank": {"model": "judge"}}],
    "two ranked, fused": [{"rank": {"model": "judge", "keep": 2}}, {"fuse": {"model": "judge"}}],
    "two ranked, judged": [{"rank": {"model": "judge", "keep": 2}}, {"judge": {"model": "judge"}}],
    "by pairs": [{"rank": {"model": "judge", "method": "pairwise", "use_critiques": False}}],
    "criticised by pairs": [
        {"critique": {"model": "judge"}},
        {"rank": {"model": "judge", "method": "pairwise", "use_critiques": False}},
    ],
    "criticised, ranked": [{"critique": {"model": "judge"}}, {"rank": {"model": "judge", "keep": 1}}],
    "criticised, refined": [{"critique": {"model": "judge"}}, {"refine": {"model": "judge"}}],
    "criticised twice": [{"critique": {"model": "judge"}}, {"critique": {"model": "fast"}}, "vote"],
    "refined, judged": [{"refine": {"model": "judge"}}, {"judge": {"model": "judge", "keep": 1}}],
    "verified, fused": [{"verify": {"model": "judge"}}, {"fuse": {"model": "judge"}}],
    "mixture": [{"fuse": {"model": ["fast", "strong"], "samples": 2}}, {"fuse": {"model": "judge"}}],
    "tested": [
        {"unit_test_generate": {"model": "judge", "count": 3}},
        {"unit_test_evaluate": {"model": "judge", "keep": 1}},
    ],
    "tested, all passed": [
        {"unit_test_generate": {"model": "judge", "count": 3}},
        {"unit_test_evaluate": {"model": "judge"}},
        {"critique": {"model": "judge"}},
    ],
    "second thoughts": [{"generate": {"model": "fast", "samples": 2, "temperature": 0.7}}, "vote"],
}


def open_space(question: float = 9) -> PlannedSpace:
    made = {
        "name": "shared",
        "models": {"generators": ["fast", "strong"]},
        "parameters": {"models": {"subset": "generators"}, "samples": {"choices": [1, 2, 3]}},
        "layers": [
            {"generate": {"model": "$models", "samples": "$samples", "temperature": 0.7}},
            {"choose": "then", "from": LAYERS},
        ],
    }
    return plan_space(read_space(made), book_at(), question)


def likely_calls(planned: PlannedSpace, point: int) -> float:
    return float(planned.points[point].figures.likely["calls"] or 0)


def sums(n: int) -> Task:
    items = tuple(Item(id=f"sum-{i}", question=f"What is {i} plus {i}?", gold=str(2 * i)) for i in range(n))
    return Task(name="sums", items=items, scorer=make_scorer("numeric"))


def different(marks: Iterator[int]) -> Any:
    """Reply so that no two texts are equal: what is shared is then shared by the key alone."""

    def reply(asking: Asking) -> str:
        text = answer_well(asking)
        return text if text.startswith(("[Correct]", "Ranking", "Score", "Better")) else _marked(text, next(marks))

    return reply


def _marked(text: str, mark: int) -> str:
    return "\n".join(f"{line} ({mark})" for line in text.splitlines())


class Runs:
    """Points run one after the other in one store."""

    def __init__(self, book: ModelBook, gateway: Gateway, store: RunStore, task: Task) -> None:
        self.book, self.gateway, self.store, self.task = book, gateway, store, task
        self.numbers = count()

    async def score(self, planned: PlannedSpace, point: int, items: int) -> tuple[ItemRecord, ...]:
        spec, run = planned.points[point].spec, f"r-20261121-{next(self.numbers):06d}"
        self.store.create(kind="evaluate", name="shared", run_id=run)
        evaluated = await evaluate_items(
            compile_architecture(spec, self.book),
            self.task.items[:items],
            self.task,
            self.gateway,
            self.store,
            run,
            architecture_id=spec.id,
        )
        assert {record.status for record in evaluated.results} == {"ok"}
        return evaluated.results


@asynccontextmanager
async def runs(folder: Path, book: ModelBook, task: Task) -> AsyncIterator[Runs]:
    database = Database.open(f"sqlite:///{folder}/colonnade.db")
    try:
        async with Gateway(book, CallStore(database)) as gateway:
            yield Runs(book, gateway, RunStore(database), task)
    finally:
        database.close()


async def test_calls_paid_are_those_foretold(tmp_path: Path) -> None:
    """Where counts do not depend on replies, no trial is paid more than foretold, in any order, and few are paid less.

    Less is paid where a judge's choice happens to leave what another architecture had from the start.
    """
    planned = open_space()
    bills, rng = Bills(planned, "calls"), np.random.default_rng(4)
    jobs = [(int(point), int(rng.integers(1, 4))) for point in rng.integers(len(planned.points), size=90)]
    bought: dict[int, int] = {}
    foretold, paid = list[float](), list[int]()
    async with ModelServer(reply=different(count())) as server, runs(tmp_path, book_at(server.url), sums(3)) as here:
        for point, items in jobs:
            foretold.append(items * bills.left(bought, range(items))[point])
            records = await here.score(planned, point, items)
            paid.append(sum(record.calls_paid for record in records))
            assert sum(record.calls_used for record in records) == items * likely_calls(planned, point)
            assert paid[-1] <= foretold[-1] + 1e-9, planned.points[point].values
            bought[point] = max(items, bought.get(point, 0))
    assert sum(paid) == server.ledger.calls > 0.9 * sum(foretold)
    assert sum(paid) < 0.6 * sum(items * likely_calls(planned, point) for point, items in jobs)


async def test_real_models_are_paid_no_more_than_foretold(tmp_path: Path) -> None:
    """With replies that may be equal, and verdicts that leave more candidates than was likely, it is a bound.

    What is paid is at most what is left by the likely figures and what the plan's most is above them; here it is about
    three fifths of what is left in sum, since small models say the same thing often.
    """
    book, task = ModelBook({}, env={}), load_task("arithmetic", items=6)
    planned = plan_space(load_space("small"), book, [item.prompt for item in task.items])
    bills = Bills(planned, "calls")
    likely = [likely_calls(planned, point) for point in range(len(planned.points))]
    few = [point for point, calls in enumerate(likely) if calls <= 9]
    bought: dict[int, int] = {}
    foretold, paid = list[float](), list[int]()
    async with runs(tmp_path, book, task) as here:
        for point in np.random.default_rng(0).choice(few, 14, replace=False).tolist():
            most = float(planned.points[point].figures.high["calls"] or 0)
            foretold.append(6 * bills.left(bought)[point])
            paid.append(sum(record.calls_paid for record in await here.score(planned, point, 6)))
            assert paid[-1] <= foretold[-1] + 6 * (most - likely[point])
            bought[point] = 6
    assert 0.4 * sum(foretold) < sum(paid) <= sum(foretold)
    assert sum(foretold) < 0.7 * 6 * sum(likely[point] for point in bought)


class TestBills:
    def test_nothing_bought_costs_what_was_planned(self) -> None:
        planned = open_space()
        assert Bills(planned).left({}) == pytest.approx(planned.domain.costs, rel=1e-12)
        assert (Bills(planned).left({}) <= planned.domain.costs).all()
        with pytest.raises(ValueError, match="at least one item"):
            Bills(planned).left({}, range(0))

    def test_all_bought_costs_next_to_nothing_but_never_nothing(self) -> None:
        planned = open_space()
        left = Bills(planned).left(dict.fromkeys(range(len(planned.points)), 5), range(5))
        assert (left > 0).all()
        assert left.max() <= 0.01 * planned.domain.costs.min()

    def test_items_beyond_those_bought_cost_in_full(self) -> None:
        planned = open_space()
        bills, dear = Bills(planned, "calls"), int(np.argmax(planned.domain.costs))
        calls = likely_calls(planned, dear)
        assert bills.left({dear: 10}, range(10, 30))[dear] == calls
        assert bills.left({dear: 10}, range(30))[dear] == pytest.approx(calls * 2 / 3)
        assert bills.left({dear: 10}, range(5, 15))[dear] == pytest.approx(calls / 2)

    def test_what_asks_nobody_still_costs_something(self) -> None:
        silent = {
            "parameters": {"n": {"choices": [1, 2]}},
            "layers": [{"generate": {"model": "fast", "samples": "$n"}}],
        }
        planned = plan_space(read_space(silent), book_at(price=None), 9)
        assert planned.unit == "calls"
        assert (Bills(planned, "dollars").left({0: 1}) > 0).all()


def test_a_sampler_takes_the_neighbour_that_shares_samples() -> None:
    """Of two equally promising points the one that is dearer as planned is the cheaper by now."""
    layers = {name: LAYERS[name] for name in ("best", "judged vote", "ranked")}
    open_layers = [{"generate": {"model": "fast", "samples": 4}}, {"choose": "then", "from": layers}]
    planned = plan_space(read_space({"layers": open_layers}), book_at(), 9)
    bills, race = Bills(planned), Race(make_sampler("gp", planned.domain, starts=1, per_cost=True), (10, 30))
    state, (job,) = race.ask_batch(race.start(0), 1, first=[0])
    state = race.tell(state, job, [0.0, 1.0] * 5)
    chosen = {
        planned.points[race.ask_batch(state, 1, costs=costs).jobs[0].point].values["then"]
        for costs in (None, planned.domain.costs)
    }
    assert chosen == {"ranked"}
    left = bills.left({job.point: job.last}, range(race.rungs[0]))
    assert planned.points[race.ask_batch(state, 1, costs=left).jobs[0].point].values["then"] == "judged vote"


def generate(**settings: object) -> dict[str, Any]:
    return {"generate": {"model": "fast", **settings}}


def use(name: str, after: object = None, **settings: object) -> dict[str, Any]:
    return {"use": name, "model": "fast", **({"after": after} if after else {}), **settings}


BODY = {"nodes": {"b": use("critique"), "c": use("refine", "b")}, "output": "c"}
DRAFT = {"a": use("generate", samples=2)}
LOOP: dict[str, Any] = {"use": "loop", "after": "a", "body": BODY, "max": 2}


class TestParts:
    """Which parts of two architectures are the same."""

    def shared(self, first: dict[str, Any], second: dict[str, Any]) -> list[bool]:
        """Tell of each part of the second whether the first has it."""
        signs = Signs()
        bills = []
        for nodes in (first, second):
            *_, last = nodes
            spec = parse({"nodes": nodes, "output": last})
            costs = {
                node.id: [call.quantities.calls.likely for call in node.calls] for node in plan(spec, book_at()).nodes
            }
            bills.append(parts(spec, costs, signs))
            assert sum(part.cost for part in bills[-1]) == pytest.approx(sum(map(sum, costs.values())))
        return [part.sign in {one.sign for one in bills[0]} for part in bills[1]]

    def test_a_second_equal_request_draws_other_samples(self) -> None:
        twice = {**DRAFT, "b": use("generate", "a")}
        assert self.shared(DRAFT, twice) == [True, True, False]
        assert self.shared({"a": use("generate", samples=3)}, twice) == [True, True, True]

    def test_nodes_that_may_race_draw_from_lanes_of_their_own(self) -> None:
        racing = {
            "a": use("generate"),
            "b": use("critique", "a"),
            "c": use("generate", "b"),
            "d": use("verify", "a"),
            "e": use("generate", "d"),
            "f": use("fuse", ["c", "e"]),
        }
        shared = self.shared({"a": use("generate", samples=9)}, racing)
        assert shared.count(True) == 2

    def test_states_that_meet(self) -> None:
        beside = {"a": use("generate"), "b": use("generate", model="strong")}
        fused = {**beside, "c": use("fuse", ["a", "b"])}
        assert self.shared({"a": use("generate", model=["fast", "strong"]), "c": use("fuse", "a")}, fused) == [True] * 3
        other_way = {**beside, "c": use("fuse", ["b", "a"])}
        assert self.shared(fused, other_way) == [True, True, False]
        tests = {"t": use("unit_test_generate"), "u": use("unit_test_generate", count=3)}
        both = {**DRAFT, **tests, "e": use("unit_test_evaluate", ["a", "t", "u"], keep="all")}
        one = {**DRAFT, "t": tests["t"], "e": use("unit_test_evaluate", ["a", "t"], keep="all")}
        assert self.shared(one, both) == [True, True, True, False, False, False]

    def test_what_came_through_a_filter_has_a_bill_in_one_piece(self) -> None:
        verified = {**DRAFT, "v": use("verify", "a")}
        rest = {"j": use("judge", "v"), "r": use("rank", "j", keep=1), "c": use("refine", "r")}
        assert self.shared(verified, {**verified, **rest}) == [True] * 4 + [False] * 3
        assert self.shared({**verified, **rest}, {**verified, **rest, "d": {"use": "vote", "after": "c"}}) == [True] * 7
        in_pairs = {**verified, "r": use("rank", "v", method="pairwise")}
        assert self.shared(verified, in_pairs) == [True] * 4 + [False]
        met = {**DRAFT, "v": use("verify", "a"), "f": use("fuse", ["a", "v"])}
        assert self.shared(met, {**met, "g": use("generate", "f", model="strong")}) == [True] * 5 + [False]

    def test_a_lone_candidate_is_not_chosen_from(self) -> None:
        lone = {"a": use("generate"), "c": use("refine", "a")}
        chosen = {
            "a": use("generate"),
            "r": use("rank", "a"),
            "v": {"use": "vote", "after": "r"},
            "c": use("refine", "v"),
        }
        assert self.shared(lone, chosen) == [True, True]

    def test_refined_texts_in_a_new_order(self) -> None:
        judged = {**DRAFT, "j": use("judge", "a"), "r": use("refine", "j"), "f": use("fuse", "r")}
        plain = {**DRAFT, "r": use("refine", "a"), "f": use("fuse", "r")}
        assert self.shared(plain, judged) == [True, True, False, False, True, True, False]

    @pytest.mark.parametrize("last", [{"loop": LOOP}, {"c": use("generate", "a", when={"candidates": {"above": 1}})}])
    def test_loops_and_conditions_are_shared_as_a_whole(self, last: dict[str, Any]) -> None:
        assert self.shared({**DRAFT, **last}, {**DRAFT, **last}) == [True] * 3
        assert self.shared({**DRAFT, **last}, {"a": use("generate", samples=3), **last}) == [True, True, False, False]

    def test_what_is_one_part_draws_later_samples_after_others(self) -> None:
        """A technique without a rule of its own may ask what was asked before it, and then gets the next samples."""
        vote = use("adaptive_vote", samples=4)
        twice = {"a": vote, "b": vote, "c": {"use": "vote", "after": ["a", "b"]}}
        assert self.shared({"a": vote}, twice) == [True, False]
        beside = {"a": use("generate"), "b": vote, "c": {"use": "vote", "after": ["a", "b"]}}
        assert self.shared({"a": vote}, beside) == [False, False]
        assert self.shared(beside, beside) == [True, True]

    def test_nested_architectures_are_walked_through(self) -> None:
        nested = {**DRAFT, "n": {"use": "architecture", "after": "a", "spec": BODY}}
        assert self.shared({**DRAFT, "b": use("critique", "a"), "c": use("refine", "b")}, nested) == [True] * 5
