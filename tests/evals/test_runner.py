"""Many items through real architectures, gateway, database and HTTP server: nothing is lost, nothing is paid twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import pytest

from architectures import CompiledArchitecture, Outcome, compile_architecture, preset
from architectures.trace import outcome_from_json
from db.calls import CallStore
from db.database import Database
from db.errors import BudgetExceeded, ConfigError, InsufficientCandidates
from db.runs import ItemRecord, RunStore
from evals import Evaluated, Item, Task, compare, evaluate_items, make_scorer, summarise, to_frame
from nodes.base import AnswerKind
from providers.book import ModelBook
from providers.budget import Budget
from providers.errors import AuthError
from providers.gateway import Gateway
from providers.models import Limits, ModelSpec
from providers.prices import Price
from providers.scope import Scope
from providers.testing_server import Asking, ModelServer

RUN = "r-20261121-000000"


def sums(n: int, scorer: str = "numeric") -> Task:
    items = tuple(Item(id=f"sum-{i}", question=f"What is {i} plus {i}?", gold=str(2 * i)) for i in range(n))
    return Task(name="sums", items=items, scorer=make_scorer(scorer, model="m"))


def reply(asking: Asking) -> str:
    """Add rightly, but for numbers that end in 7."""
    if "Grade:" in asking.prompt:
        return "Grade: correct"
    number = int(asking.prompt.split()[2])
    return f"We add.\nAnswer: {2 * number + (number % 10 == 7)}"


@dataclass(frozen=True, kw_only=True)
class Lab:
    """One go of a program: its database, gateway and server."""

    server: ModelServer
    gateway: Gateway
    store: RunStore
    compiled: CompiledArchitecture

    async def evaluate(self, task: Task, *, concurrency: int = 8, seen: list[ItemRecord] | None = None) -> Evaluated:
        self.store.create(kind="evaluate", name="sums", run_id=RUN)
        return await evaluate_items(
            self.compiled,
            task.items,
            task,
            self.gateway,
            self.store,
            RUN,
            architecture_id=self.compiled.spec.id,
            concurrency=concurrency,
            on_item=None if seen is None else seen.append,
        )


@asynccontextmanager
async def lab(
    folder: Path, server: ModelServer, *, budget: Budget | None = None, samples: int = 1, retries: int = 0
) -> AsyncIterator[Lab]:
    spec = ModelSpec(
        name="m",
        transport="openai",
        model="test-model",
        base_url=server.url,
        limits=Limits(retries=retries),
        price=Price(prompt=Decimal(1), completion=Decimal(2)),
    )
    book = ModelBook({"m": spec}, env={})
    compiled = compile_architecture(preset("self-consistency", model="m", samples=samples), book)
    database = Database.open(f"sqlite:///{folder}/colonnade.db")
    calls = CallStore(database)
    try:
        async with Gateway(book, calls, budget=budget) as gateway:
            yield Lab(server=server, gateway=gateway, store=RunStore(database), compiled=compiled)
    finally:
        database.close()


async def test_every_item_is_answered_scored_and_stored_with_its_trace(tmp_path: Path) -> None:
    async with ModelServer(reply=reply) as server, lab(tmp_path, server, samples=3) as here:
        seen: list[ItemRecord] = []
        evaluated = await here.evaluate(sums(20), seen=seen)
        stored = {record.item_id: record for record in here.store.items(RUN)}
    assert [record.item_id for record in evaluated.results] == [f"sum-{i}" for i in range(20)]
    assert (evaluated.skipped, evaluated.remaining, evaluated.stopped) == ((), (), None)
    assert {record.item_id for record in seen} == set(stored)
    assert all(stored[record.item_id] == record for record in evaluated.results)
    right = stored["sum-3"]
    assert (right.status, right.answer, right.correct, right.score) == ("ok", "6", True, 1.0)
    assert (right.calls_used, right.calls_paid) == (3, 3)
    assert right.cost_used == right.cost_paid
    assert right.output == "We add.\nAnswer: 6"
    trace = json.loads(right.trace)
    assert trace["score"] == {"reason": "6 equals 6", "source": "numeric", "status": "scored"}
    outcome = outcome_from_json(trace["outcome"])
    assert outcome.answer == right.output
    assert len(outcome.trace) == 2
    assert stored["sum-7"].correct is False
    assert server.ledger.calls == 60


async def test_a_result_is_durable_before_it_is_reported(tmp_path: Path) -> None:
    async with ModelServer(reply=reply) as server, lab(tmp_path, server) as here:
        missing: list[str] = []
        task = sums(10)
        here.store.create(kind="evaluate", name="sums", run_id=RUN)

        def on_item(record: ItemRecord) -> None:
            if record.item_id not in here.store.done_item_ids(RUN):
                missing.append(record.item_id)

        await evaluate_items(
            here.compiled, task.items, task, here.gateway, here.store, RUN, architecture_id="a", on_item=on_item
        )
    assert missing == []


async def test_a_second_go_makes_no_request(tmp_path: Path) -> None:
    async with ModelServer(reply=reply) as server:
        async with lab(tmp_path, server) as here:
            first = await here.evaluate(sums(6))
        async with lab(tmp_path, server) as here:
            again = await here.evaluate(sums(9))
        assert server.ledger.calls == 9
    assert again.skipped == tuple(f"sum-{i}" for i in range(6))
    assert again.results[:6] == first.results
    assert len(again.results) == 9


async def test_the_window_of_items_is_bounded(tmp_path: Path) -> None:
    async with ModelServer(reply=reply, latency_s=0.02, meet=4) as server, lab(tmp_path, server) as here:
        await here.evaluate(sums(20), concurrency=4)
    assert server.ledger.most_at_once == 4


async def test_a_failing_item_is_said_and_loses_no_other(tmp_path: Path) -> None:
    server = ModelServer(reply=reply, script=[None, None, "bad-request"])
    async with server, lab(tmp_path, server) as here:
        evaluated = await here.evaluate(sums(6), concurrency=1)
        bad = evaluated.results[2]
        assert (bad.status, bad.error_class, bad.correct, bad.score) == (
            "failed",
            "InsufficientCandidates",
            False,
            0.0,
        )
        assert "temperature" in (bad.error_message or "")
        assert json.loads(bad.trace)["failures"][0]["kind"] == "bad_request"
        assert [record.status for record in evaluated.results].count("ok") == 5
        summary = summarise(evaluated.results)
        assert (summary.failed, summary.items, summary.correct) == (1, 6, 5)
        assert summary.problems == {"InsufficientCandidates": 1}
        assert (await here.evaluate(sums(6))).skipped == tuple(f"sum-{i}" for i in range(6))
        task = sums(6)
        mended = await evaluate_items(
            here.compiled,
            task.items,
            task,
            here.gateway,
            here.store,
            RUN,
            architecture_id=here.compiled.spec.id,
            retry_failed=True,
        )
    assert mended.results[2].status == "ok"
    assert server.ledger.calls == 6


async def test_the_budget_stops_cleanly_and_the_run_goes_on_without_paying_twice(tmp_path: Path) -> None:
    async with ModelServer(reply=reply, latency_s=0.005) as server:
        async with lab(tmp_path, server, budget=Budget(calls=11), samples=2) as here:
            stopped = await here.evaluate(sums(12), concurrency=6)
        assert isinstance(stopped.stopped, BudgetExceeded)
        assert server.ledger.calls <= 11
        assert 0 < len(stopped.results) < 6
        assert len(stopped.results) + len(stopped.remaining) == 12
        async with lab(tmp_path, server, samples=2) as here:
            finished = await here.evaluate(sums(12))
        assert server.ledger.calls == 24
        assert max(server.ledger.by_sample.values()) == 1
    assert len(finished.results) == 12
    assert set(finished.skipped) == {record.item_id for record in stopped.results}
    # What an unfinished item had bought counts as paid by the run that goes on with it.
    assert sum(record.calls_paid for record in finished.results) == 24


async def test_a_refused_key_ends_the_run_and_keeps_what_was_done(tmp_path: Path) -> None:
    async with ModelServer(reply=reply, script=[None, None, "401"]) as server, lab(tmp_path, server) as here:
        with pytest.raises(AuthError):
            await here.evaluate(sums(50), concurrency=1)
        assert here.store.done_item_ids(RUN) == {"sum-0", "sum-1"}
        assert server.ledger.requests == 3


async def test_a_cancelled_run_keeps_what_was_done(tmp_path: Path) -> None:
    async with ModelServer(reply=reply, latency_s=0.01) as server, lab(tmp_path, server) as here:
        enough = asyncio.Event()
        task = sums(100)
        here.store.create(kind="evaluate", name="sums", run_id=RUN)
        running = asyncio.create_task(
            evaluate_items(
                here.compiled,
                task.items,
                task,
                here.gateway,
                here.store,
                RUN,
                architecture_id="a",
                concurrency=2,
                on_item=lambda _: enough.set(),
            )
        )
        await enough.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert 0 < len(here.store.done_item_ids(RUN)) < 100


async def test_a_judge_is_counted_apart(tmp_path: Path) -> None:
    async with ModelServer(reply=reply) as server, lab(tmp_path, server) as here:
        evaluated = await here.evaluate(sums(3, "judge"))
    assert all(record.correct for record in evaluated.results)
    assert [record.calls_used for record in evaluated.results] == [1, 1, 1]
    assert json.loads(evaluated.results[0].trace)["scorer_calls"]["calls"] == 1
    assert server.ledger.calls == 6


async def test_what_kept_an_answer_from_a_plain_score_is_said(tmp_path: Path) -> None:
    async with ModelServer(reply=lambda _: "no number here") as server, lab(tmp_path, server) as here:
        evaluated = await here.evaluate(sums(2))
    assert {(record.status, record.error_class, record.answer) for record in evaluated.results} == {
        ("ok", "no_answer", None)
    }
    assert summarise(evaluated.results).problems == {"no_answer": 2}


class Breaking:
    """A technique's bug: some questions raise, some in a group of errors as a task group raises them."""

    def __init__(self, inner: CompiledArchitecture, errors: dict[str, Exception]) -> None:
        self.inner = inner
        self.errors = errors

    async def run(self, question: str, *, gateway: Gateway, scope: Scope, answer_kind: AnswerKind = "auto") -> Outcome:
        if scope.item_id in self.errors:
            raise self.errors[scope.item_id]
        return await self.inner.run(question, gateway=gateway, scope=scope, answer_kind=answer_kind)


async def breaking(here: Lab, errors: dict[str, Exception]) -> Evaluated:
    task = sums(4)
    here.store.create(kind="evaluate", name="sums", run_id=RUN)
    return await evaluate_items(
        Breaking(here.compiled, errors),
        task.items,
        task,
        here.gateway,
        here.store,
        RUN,
        architecture_id="a",
        concurrency=1,
    )


async def test_a_bug_in_a_technique_costs_one_item(tmp_path: Path) -> None:
    nested = ExceptionGroup("two", [ExceptionGroup("one", [InsufficientCandidates("none left")]), KeyError("k")])
    async with ModelServer(reply=reply) as server, lab(tmp_path, server) as here:
        evaluated = await breaking(here, {"sum-1": ZeroDivisionError("x / 0"), "sum-2": nested})
    assert [record.error_class for record in evaluated.results] == [
        None,
        "ZeroDivisionError",
        "InsufficientCandidates",
        None,
    ]
    assert evaluated.results[1].error_message == "x / 0"


async def test_what_ends_a_run_does_so_from_within_a_group(tmp_path: Path) -> None:
    async with ModelServer(reply=reply) as server, lab(tmp_path, server) as here:
        capped = ExceptionGroup("g", [KeyError("k"), BudgetExceeded("the cap")])
        evaluated = await breaking(here, {"sum-1": capped})
        assert str(evaluated.stopped) == "the cap"
        assert evaluated.remaining == ("sum-1", "sum-2", "sum-3")
        with pytest.raises(ConfigError, match="mistake"):
            await breaking(here, {"sum-1": ExceptionGroup("g", [ConfigError("a mistake")])})


async def test_bad_arguments(tmp_path: Path) -> None:
    async with ModelServer() as server, lab(tmp_path, server) as here:
        with pytest.raises(ConfigError, match="concurrency=0"):
            await here.evaluate(sums(1), concurrency=0)
        twice = sums(1)
        with pytest.raises(ConfigError, match="ids of their own"):
            await here.evaluate(replace(twice, items=twice.items * 2))


async def test_two_runs_are_compared_item_by_item_and_shown_as_a_table(tmp_path: Path) -> None:
    async with ModelServer(reply=reply) as server, lab(tmp_path, server) as here:
        good = (await here.evaluate(sums(30))).results
    worse = tuple(replace(record, correct=False, score=0.0) for record in good[5:25])
    compared = compare(good, worse)
    assert compared.accuracy.difference == pytest.approx(0.9)
    assert (compared.accuracy.first_only, compared.accuracy.second_only, compared.accuracy.n) == (18, 0, 20)
    assert (compared.only_first, compared.only_second) == (10, 0)
    assert compared.cost_difference == 0
    frame = to_frame(good)
    assert list(frame["item_id"]) == [record.item_id for record in good]
    assert "trace" not in frame.columns
    assert frame["correct"].sum() == 27
