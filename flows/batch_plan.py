"""What a batch will cost, for each way of running it, before it is run; a pilot of some rows makes it exact."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from architectures.estimator import BookEstimator
from architectures.plan import Dollars, Plan, Plans, Quantities, quantities_of
from db.errors import ConfigError
from flows.batch_estimate import estimate_total
from flows.batch_input import InputRow
from flows.batch_job import BatchJob, OpenBatch, open_batch, register
from flows.batch_report import Spending, Uses, uses_read
from flows.batch_rows import answer_row, question_of
from flows.batch_ways import Pilot, PlannedNode, Way, ways_of
from flows.batch_weigh import Weighed, gold_tokens, pilot_rows, weigh
from flows.evaluate import has_nominal_prices
from nodes.base import Range
from nodes.calls import together

if TYPE_CHECKING:
    from flows.session import Session

__all__ = ["BatchPlan", "PlannedNode", "Way", "plan_batch"]

_EARLIER = 5
"""Estimates of earlier runs that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """What a batch will cost."""

    run_id: str
    name: str
    rows: int
    bad: int
    """Rows that cannot be asked."""
    distinct: int
    """Different questions: what is paid."""
    question: Range
    """Tokens of a question."""
    nodes: tuple[PlannedNode, ...]
    total: Quantities
    """Of all rows at full price; calibrated dollars are an interval for the total, others are bounds."""
    ways: tuple[Way, ...]
    pilot: Pilot | None
    earlier: tuple[Mapping[str, Any], ...]
    """The last estimates after pilots, with what came of them."""
    unpriced: tuple[str, ...]
    unbounded: tuple[str, ...]
    nominal: bool


async def plan_batch(job: BatchJob, session: Session, *, pilot: int = 0) -> BatchPlan:
    """Plan a job; with `pilot` so many rows are answered, and the plan is corrected by what they cost.

    The pilot's samples are stored and belong to the job's run, which pays nothing for them again. Raises `UserError`s
    for a job that cannot be run.
    """
    opened = open_batch(job, session)
    weighed = weigh(opened)
    planned = Plans(session.book, weighed.tokens).of(opened.architecture.spec)
    scored = _scorer_nodes(opened, planned, weighed.tokens, weighed.gold)
    plan = BatchPlan(
        run_id=opened.run_id,
        name=opened.architecture.name,
        rows=weighed.rows,
        bad=weighed.bad,
        distinct=weighed.distinct,
        question=weighed.tokens,
        nodes=tuple(
            node._replace(quantities=node.quantities.times(weighed.distinct)) for node in (*_nodes(planned), *scored)
        ),
        total=_whole(planned, scored).times(weighed.distinct),
        ways=(),
        pilot=None,
        earlier=_earlier(session),
        unpriced=tuple(
            sorted({*planned.unpriced, *(node.model for node in scored if node.quantities.dollars is None)})
        ),
        unbounded=planned.unbounded,
        nominal=has_nominal_prices(session.book, opened.models),
    )
    if pilot:
        plan = _calibrated(plan, await _run_pilot(opened, weighed, pilot))
        _keep_estimate(opened, plan)
    return replace(plan, ways=ways_of(opened, plan))


class _Measured(NamedTuple):
    pilot: Pilot
    uses: tuple[Uses, ...]
    """Of each row, by node of the plan and model."""
    planned: tuple[float, ...]
    """What each row was planned at."""


async def _run_pilot(opened: OpenBatch, weighed: Weighed, count: int) -> _Measured:
    await opened.session.gateway.preflight(opened.models)
    register(opened)
    rows = pilot_rows(opened, weighed, count)
    if not rows:
        raise ConfigError(f"No row of {opened.job.input} can be asked, so there is no pilot.")
    took: list[float] = []

    async def one(row: InputRow) -> dict[str, Any]:
        async with opened.window:
            begin = time.perf_counter()
            came = await answer_row(opened, row)
            took.append(time.perf_counter() - begin)
            return came

    bought = opened.session.gateway.status().paid.calls
    begin = time.perf_counter()
    done = await together(one(row) for row in rows)
    wall = time.perf_counter() - begin
    uses = tuple(_by_plan(uses_read(came["uses"])) for came in done)
    used, failed = _sum(uses), sum(not came["ok"] for came in done)
    stored = max(0, used.calls - (opened.session.gateway.status().paid.calls - bought))
    pilot = Pilot(len(rows), failed, used.cost, math.fsum(took) / len(took), len(rows) / wall, stored)
    spec, book = opened.architecture.spec, opened.session.book
    planned: list[float] = []
    for row in rows:
        plans = Plans(book, question_of(opened, row))
        plan = plans.of(spec)
        scored = _scorer_nodes(opened, plan, plans.question(spec), gold_tokens(opened, row))
        planned.append(weight(_whole(plan, scored)))
    return _Measured(pilot, uses, tuple(planned))


def _by_plan(uses: Uses) -> Uses:
    """Put the rounds of a loop together, as the plan does."""
    found: Uses = {}
    for (node, model), one in uses.items():
        key = ".".join(part for part in node.split(".") if not part.isdecimal()), model
        found[key] = found.get(key, Spending()).plus(one)
    return found


def _sum(uses: Iterable[Uses]) -> Spending:
    total = Spending()
    for each in uses:
        for one in each.values():
            total = total.plus(one)
    return total


def weight(quantities: Quantities) -> float:
    """Return by what rows are compared: likely dollars, or likely tokens where these are unknown or nothing."""
    if quantities.dollars is not None and quantities.dollars.likely:
        return float(quantities.dollars.likely)
    return quantities.prompt_tokens.likely + quantities.completion_tokens.likely


def _nodes(planned: Plan) -> tuple[PlannedNode, ...]:
    found: dict[tuple[str, str], Quantities] = {}
    for node in planned.nodes:
        for call in node.calls:
            key = node.id, call.model
            found[key] = found.get(key, Quantities()).plus(call.quantities)
    return tuple(PlannedNode(*key, quantities) for key, quantities in found.items())


def _scorer_nodes(opened: OpenBatch, planned: Plan, question: Range, gold: Range) -> tuple[PlannedNode, ...]:
    """Plan what the scorer asks for one row, under the name by which its calls are counted."""
    from evals.scorers.judge import JudgeScorer

    if not isinstance(opened.scorer, JudgeScorer):
        return ()
    book = opened.session.book
    call = opened.scorer.plan(BookEstimator(book), question=question, gold=gold, answer=planned.answer)
    return (PlannedNode("scorer", call.model, quantities_of(call, book)),)


def _whole(planned: Plan, scored: Iterable[PlannedNode]) -> Quantities:
    total = planned.total
    for node in scored:
        total = total.plus(node.quantities)
    return total


def _calibrated(plain: BatchPlan, measured: _Measured) -> BatchPlan:
    """Correct what is likely by what the pilot's rows took, and bound the dollars of all rows by their spread."""
    whole = weight(plain.total)
    factor = whole / math.fsum(measured.planned)
    nodes = tuple(_corrected(node, measured, factor) for node in plain.nodes)
    total = Quantities()
    for node in nodes:
        total = total.plus(node.quantities)
    costs = [_sum([uses]).cost for uses in measured.uses]
    known = [float(cost) for cost in costs if cost is not None]
    if total.dollars is not None and len(known) == len(costs):
        estimate = estimate_total(known, measured.planned, whole, plain.distinct)
        total = total._replace(dollars=Dollars(*(Decimal(repr(value)) for value in estimate)))
    return replace(plain, nodes=nodes, total=total, pilot=measured.pilot)


def _corrected(node: PlannedNode, measured: _Measured, factor: float) -> PlannedNode:
    key = node.node, node.model
    real = _sum({key: uses[key]} for uses in measured.uses if key in uses)
    before = node.quantities
    tokens = (real.prompt_tokens + real.completion_tokens) * factor
    planned = before.prompt_tokens.likely + before.completion_tokens.likely
    dollars = before.dollars
    if dollars is not None and real.cost is not None:
        dollars = dollars._replace(likely=real.cost * Decimal(repr(factor)))
    after = before._replace(
        calls=_likely(before.calls, real.calls * factor),
        prompt_tokens=_likely(before.prompt_tokens, real.prompt_tokens * factor),
        completion_tokens=_likely(before.completion_tokens, real.completion_tokens * factor),
        dollars=dollars,
    )
    return node._replace(quantities=after, ratio=tokens / planned if planned else None)


def _likely(before: Range, value: float) -> Range:
    return Range(min(before.low, value), value, max(before.high, value))


def _keep_estimate(opened: OpenBatch, plan: BatchPlan) -> None:
    """Store what was said, to be held against what will have come of it."""
    dollars = plan.total.dollars
    if dollars is not None and plan.pilot is not None:
        said = {name: float(value) for name, value in dollars._asdict().items()}
        share = plan.distinct / max(1, plan.rows - plan.bad)
        note = {**said, "pilot_rows": plan.pilot.rows, "distinct_share": share}
        opened.session.runs.note(opened.run_id, {"estimate": note})


def _earlier(session: Session) -> tuple[dict[str, Any], ...]:
    found: list[dict[str, Any]] = []
    for record in session.runs.list(limit=200, kind="batch"):
        estimate = orjson.loads(record.totals or "{}").get("report", {}).get("estimate")
        if estimate is not None and estimate["error"] is not None:
            found.append({"run_id": record.id, "name": record.name, **estimate})
    return tuple(found[:_EARLIER])
