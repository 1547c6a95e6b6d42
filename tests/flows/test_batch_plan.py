"""Plans of batches: what rows weigh, what a pilot corrects, what each way costs, and what came of it."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from colonnade.batch_tables import plan_record, plan_text
from colonnade.batching import foretell_batch
from db.errors import ConfigError
from flows.batch import batch
from flows.batch_estimate import estimate_total
from flows.batch_job import BatchJob, open_batch
from flows.batch_plan import BatchPlan, plan_batch
from flows.batch_weigh import pilot_rows, weigh
from flows.session import open_session
from providers.testing_server import Asking, ModelServer
from tests.flows.batch_support import batch_job, doubled, numbers
from tests.helpers import write_models

ROUND = {"layers": [{"critique": {"model": "m"}}, {"refine": {"model": "m"}}]}
LOOP = {
    "name": "loop",
    "nodes": {
        "draft": {"use": "generate", "model": "m", "samples": 2, "max_tokens": 64},
        "improve": {"use": "loop", "max": 2, "after": "draft", "body": ROUND},
        "end": {"use": "vote", "after": "improve"},
    },
    "output": "end",
}


async def planned(job: BatchJob, pilot: int = 0) -> BatchPlan:
    async with open_session(job.session) as session:
        return await plan_batch(job, session, pilot=pilot)


async def test_a_plan_asks_nothing_and_a_pilot_is_not_paid_again(tmp_path: Path) -> None:
    rows: list[Any] = [*numbers(40), *numbers(10), "{broken"]
    async with ModelServer(reply=doubled) as server:
        write_models(tmp_path, server.url)
        job = batch_job(tmp_path, rows)
        plain = await planned(job)
        assert server.ledger.requests == 0
        assert (plain.rows, plain.distinct, plain.bad) == (51, 40, 1)
        assert plain.total.calls == (120, 120, 120)
        assert plain.pilot is None
        assert plain.ways[0].hours is None
        assert "no call of m is stored" in plain.ways[0].note
        piloted = await planned(job, pilot=8)
        assert server.ledger.calls == 24
        again = await planned(job, pilot=8)
        assert server.ledger.calls == 24
        # Samples that are there already come at once, which is no time to plan with.
        assert (piloted.ways[0].note, again.ways[0].note) == ("by the pilot", "by the calls that are stored")
        assert piloted.pilot is not None
        assert (piloted.pilot.rows, piloted.pilot.failed) == (8, 0)
        assert piloted.nodes[0].ratio is not None
        assert piloted.ways[0].hours is not None
        async with open_session(job.session) as session:
            report = await batch(job, session)
        assert server.ledger.calls == 120
        assert (report.run_id, report.spending.paid_calls) == (piloted.run_id, 120)
        assert report.estimate is not None
        assert abs(report.estimate["error"]) < 0.1
        dollars = piloted.total.dollars
        assert dollars is not None
        assert report.spending.paid is not None
        assert dollars.low <= report.spending.paid <= dollars.high
        later = await planned(job)
    assert later.earlier[0]["error"] == report.estimate["error"]
    assert later.ways[0].hours is not None
    text = plan_text(later)
    assert f"off by {100 * report.estimate['error']:+.1f} %" in text
    assert "51 rows, 40 different questions, 1 cannot be asked" in text
    assert "by the calls that are stored" in text
    record = plan_record(piloted)
    assert record["distinct"] == 40


async def test_the_calls_of_a_scorer_are_planned_as_well(tmp_path: Path) -> None:
    def reply(asking: Asking) -> str:
        return "Grounds.\nGrade: correct" if "You grade an answer" in asking.prompt else doubled(asking)

    async with ModelServer(reply=reply) as server:
        write_models(tmp_path, server.url)
        job = batch_job(tmp_path, numbers(20), gold="right", scorer="judge", scorer_model="m")
        plain = await planned(job)
        piloted = await planned(job, pilot=5)
        async with open_session(job.session) as session:
            report = await batch(job, session)
        assert (plain.total.calls.likely, server.ledger.calls) == (80, 80)
    for plan in (plain, piloted):
        calls = {node.node: node.quantities.calls.likely for node in plan.nodes}
        assert calls == pytest.approx({"generate": 60, "scorer": 20}, rel=0.01)
    assert report.spending.paid is not None
    assert plain.total.dollars is not None
    assert plain.total.dollars.low <= report.spending.paid <= plain.total.dollars.high
    by_node = [node.quantities.dollars for node in piloted.nodes]
    assert sum(float(one.likely) for one in by_node if one) == pytest.approx(float(report.spending.paid), rel=0.05)


async def test_rounds_of_a_loop_are_one_node_of_the_plan(tmp_path: Path) -> None:
    async with ModelServer() as server:
        write_models(tmp_path, server.url)
        piloted = await planned(batch_job(tmp_path, numbers(6), architecture=LOOP), pilot=3)
    calls = {node.node: node.quantities.calls.likely for node in piloted.nodes if node.model}
    assert calls == {"draft": 12, "improve.critique": 12, "improve.refine": 24}
    assert server.ledger.calls == 24


async def test_a_pilot_without_rows_is_said(tmp_path: Path) -> None:
    async with ModelServer() as server:
        write_models(tmp_path, server.url)
        with pytest.raises(ConfigError, match=r"No row of .* can be asked"):
            await planned(batch_job(tmp_path, [{"number": 1}], template="{number:.0s}"), pilot=3)


async def test_unknown_prices_are_planned_in_tokens(tmp_path: Path) -> None:
    async with ModelServer(reply=doubled) as server:
        model = {"transport": "openai", "base_url": server.url, "model": "test-model"}
        (tmp_path / "models.yaml").write_text(yaml.safe_dump({"models": {"m": model}}))
        piloted = await planned(batch_job(tmp_path, numbers(9)), pilot=3)
    assert piloted.total.dollars is None
    assert piloted.total.calls.likely == 27
    assert piloted.unpriced == ("m",)
    assert "$?" in plan_text(piloted)
    assert "No price is known of m" in plan_text(piloted)


async def test_ways_of_batches_and_of_rented_machines(tmp_path: Path) -> None:
    async with ModelServer(reply=doubled, models=("test-model", "local")) as server:
        common = {"transport": "openai", "base_url": server.url}
        batched = {"api": "openai", "discount": 0.5, "window_h": 24, "expected_s": 1800}
        priced = {**common, "model": "test-model", "price": {"prompt": 1, "completion": 2}}
        models = {
            "m": {**priced, "batch": batched},
            "other": priced,
            "rented": {**common, "model": "local", "usd_per_hour": 3.6},
        }
        (tmp_path / "models.yaml").write_text(yaml.safe_dump({"models": models}))
        layers = [{"generate": {"model": ["m", "other"], "max_tokens": 64}}, {"fuse": {"model": "m", "max_tokens": 64}}]
        job = batch_job(tmp_path, numbers(9), architecture={"name": "two", "layers": layers})
        first = await planned(job)
        assert [way.name for way in first.ways] == ["now", "batch price", "local GPU (rented)"]
        now, cheap, local = first.ways
        assert now.dollars is not None
        assert cheap.dollars is not None
        assert now.dollars.likely / 2 < cheap.dollars.likely < now.dollars.likely
        assert cheap.hours is not None
        assert (cheap.hours.likely, cheap.hours.high) == (1, 48)
        assert "2 rounds of batches, each within 24 h; other at once" in cheap.note
        assert local.dollars is None
        assert "no call of rented is stored" in local.note
        single = {"name": "single", "layers": [{"generate": {"model": "rented", "max_tokens": 64}}]}
        await planned(batch_job(tmp_path, numbers(9), architecture=single), pilot=3)
        local = (await planned(job)).ways[-1]
        assert local.dollars is not None
        assert local.hours is not None
        assert float(local.dollars.likely) == pytest.approx(3.6 * local.hours.likely)


async def test_a_pilot_takes_rows_of_all_lengths_and_always_the_same(tmp_path: Path) -> None:
    rows = [{"number": "x" * (1 + k * 7 % 100)} for k in range(300)]
    async with ModelServer() as server:
        write_models(tmp_path, server.url)
        job = batch_job(tmp_path, rows)
        async with open_session(job.session) as session:
            opened = open_batch(job, session)
            weighed = weigh(opened)
            drawn = pilot_rows(opened, weighed, 10)
            assert pilot_rows(opened, weighed, 10) == drawn
            everything = pilot_rows(opened, weighed, 1_000)
    assert weighed.distinct == 100
    assert list(weighed.sizes) == sorted(weighed.sizes)
    lengths = sorted(len(str(row.values["number"])) for row in drawn)
    assert [(length - 1) // 10 for length in lengths] == list(range(10))
    assert len(everything) == 100


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=2, max_size=30), st.integers(0, 50))
def test_an_estimate_lies_within_its_bounds(pairs: list[tuple[float, float]], more: int) -> None:
    costs, plans = [cost for cost, _ in pairs], [plan for _, plan in pairs]
    rows = len(pairs) + more
    total = estimate_total(costs, plans, math.fsum(plans) * rows / len(pairs), rows)
    assert math.fsum(costs) <= total.low * (1 + 1e-9)
    assert total.low <= total.likely <= total.high
    if not more:
        assert total.low == total.high == pytest.approx(math.fsum(costs))


def test_intervals_hold_totals_of_skewed_costs() -> None:
    chance, held, near = random.Random(6), 0, 0
    for _ in range(300):
        plans = [chance.uniform(50, 150) for _ in range(150)]
        costs = [plan * chance.lognormvariate(0, 0.4) for plan in plans]
        total = estimate_total(costs[:20], plans[:20], math.fsum(plans), 150)
        held += total.low <= math.fsum(costs) <= total.high
        near += abs(total.likely / math.fsum(costs) - 1) < 0.15
    assert held >= 0.96 * 300
    assert near >= 0.85 * 300


def test_estimates_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="needs a pilot"):
        estimate_total([], [], 1, 5)
    assert estimate_total([2], [1], 5, 5) == (2, 10, math.inf)


async def test_ten_rows_of_an_embedded_model_are_planned_well(tmp_path: Path) -> None:
    rows = [{"question": f"What is {k} + {k + 3}?"} for k in range(60)]
    layers = [{"generate": {"model": "embedded/nano", "samples": 3}}, "vote"]
    job = batch_job(tmp_path, rows, architecture={"name": "vote", "layers": layers}, template="{question}")
    job = job.model_copy(update={"session": job.session.model_copy(update={"models": None})})
    piloted = await foretell_batch(job, pilot=20)
    async with open_session(job.session) as session:
        report = await batch(job, session)
    assert piloted.total.dollars is not None
    assert report.spending.paid is not None
    low, likely, high = piloted.total.dollars
    assert low <= report.spending.paid <= high
    assert abs(likely / report.spending.paid - 1) < 0.15
