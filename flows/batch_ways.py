"""The ways of running a batch, each with its dollars and hours: at once, through batch interfaces, on a rented GPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from architectures.plan import Dollars, Plans, Quantities
from architectures.planner import Speed
from db.speeds import MeasuredSpeed, measured_speeds
from nodes.base import Range, exactly
from providers.base import Usage
from providers.prices import cost

if TYPE_CHECKING:
    from flows.batch_job import OpenBatch
    from flows.batch_plan import BatchPlan
    from providers.models import ModelSpec

__all__ = ["Pilot", "PlannedNode", "Way", "ways_of"]

_HOUR_S = 3600.0
_BATCH_CHUNK = 5_000
"""Rows that go through the levels of an architecture together, where a job does not say it."""


class Way(NamedTuple):
    """A way of running a batch."""

    name: str
    dollars: Dollars | None
    """None where a price or a speed is unknown."""
    hours: Range | None
    """None where the speed of a model is unknown."""
    note: str = ""


class PlannedNode(NamedTuple):
    """The calls of one node to one model, over all rows, at full price."""

    node: str
    model: str
    quantities: Quantities
    ratio: float | None = None
    """Tokens that the pilot took over those planned for it, by which what is likely was corrected."""


class Pilot(NamedTuple):
    """What a pilot measured."""

    rows: int
    failed: int
    dollars: Decimal | None
    """What its calls cost; they are kept and not paid again."""
    seconds_per_row: float
    rows_per_s: float
    stored: int = 0
    """Samples that were there already; then its time says nothing of the models."""


def ways_of(opened: OpenBatch, plan: BatchPlan) -> tuple[Way, ...]:
    """Return the ways that there are for the models of a job."""
    book = opened.session.book
    specs = {model: book.resolve(model) for model in opened.models}
    rented = {name: book.resolve(name) for name in book.names() if book.resolve(name).usd_per_hour is not None}
    speeds = measured_speeds(opened.session.database, [*specs, *rented])
    found = [_now(opened, plan, specs, speeds)]
    if any(spec.batch is not None for spec in specs.values()):
        found.append(_batch(opened, plan, specs))
    found += [_local(name, spec, opened, plan, speeds.get(name)) for name, spec in rented.items()]
    return tuple(found)


def _now(opened: OpenBatch, plan: BatchPlan, specs: dict[str, ModelSpec], speeds: dict[str, MeasuredSpeed]) -> Way:
    pilot, window = plan.pilot, opened.job.concurrency
    if pilot is not None and not pilot.stored:
        hosted = all(spec.hosted for spec in specs.values())
        # A hosted model answers more at once as quickly; the processor here does not.
        quick = plan.distinct * pilot.seconds_per_row / min(window, plan.distinct) / _HOUR_S
        slow = max(quick, plan.distinct / pilot.rows_per_s / _HOUR_S)
        return Way("now", plan.total.dollars, Range(quick, quick if hosted else slow, slow), "by the pilot")
    known = {model: Speed(0.0, speeds[model].tokens_per_s) for model in specs if model in speeds}
    seconds = Plans(opened.session.book, plan.question, speeds=known).of(opened.architecture.spec).seconds
    if seconds is None:
        missing = ", ".join(model for model in specs if model not in speeds)
        return Way("now", plan.total.dollars, None, f"no call of {missing} is stored; --pilot measures the time")
    hours = Range(*(plan.distinct * value / min(window, plan.distinct) / _HOUR_S for value in seconds))
    return Way("now", plan.total.dollars, hours, "by the calls that are stored")


def _batch(opened: OpenBatch, plan: BatchPlan, specs: dict[str, ModelSpec]) -> Way:
    """Price the calls of models with a batch interface by it; each level of the graph takes one round."""
    settings = {model: spec.batch for model, spec in specs.items() if spec.batch is not None}
    dollars = _discounted(plan, specs)
    steps = Plans(opened.session.book, plan.question, speeds=dict.fromkeys(specs, Speed(1.0, math.inf)))
    levels = steps.of(opened.architecture.spec).seconds or exactly(1)
    if any(node.node == "scorer" and node.model in settings for node in plan.nodes):
        levels = levels.plus(exactly(1))
    chunk = opened.job.chunk if opened.job.levelled else _BATCH_CHUNK
    chunks = -(-plan.distinct // chunk)
    expected_h = max(one.expected_s for one in settings.values()) / _HOUR_S
    window_h = max(one.window_h for one in settings.values())
    hours = Range(0.0, chunks * levels.likely * expected_h, chunks * levels.high * window_h)
    rounds = f"{chunks * levels.likely:g} rounds of batches, each within {window_h:g} h"
    others = sorted(set(specs) - set(settings))
    return Way("batch price", dollars, hours, rounds + (f"; {', '.join(others)} at once" if others else ""))


def _discounted(plan: BatchPlan, specs: dict[str, ModelSpec]) -> Dollars | None:
    whole = plan.total.dollars
    shares = [_share(specs[node.model], node.quantities) for node in plan.nodes]
    parts = [(node.model, node.quantities.dollars) for node in plan.nodes]
    if whole is None or any(dollars is None for _, dollars in parts):
        return None
    full = _sum([dollars for _, dollars in parts if dollars is not None])
    less = _sum(
        [
            Dollars(*(value * share for value in dollars))
            for (_, dollars), share in zip(parts, shares, strict=True)
            if dollars is not None
        ]
    )
    # The whole may be an interval narrower than its parts, so it is scaled like them.
    return Dollars(*(w * part / f if f else w for w, part, f in zip(whole, less, full, strict=True)))


def _share(spec: ModelSpec, planned: Quantities) -> Decimal:
    """Return what calls cost in batches, as a share of their price at once, for the tokens that are likely."""
    usage = Usage(round(planned.prompt_tokens.likely), round(planned.completion_tokens.likely))
    less, full = spec.batch_cost(usage), cost(usage, spec.price)
    return Decimal(1) if less is None or not full else less / full


def _sum(parts: Sequence[Dollars]) -> Dollars:
    total = Dollars(Decimal(0), Decimal(0), Decimal(0))
    for part in parts:
        total = total.plus(part)
    return total


def _local(name: str, spec: ModelSpec, opened: OpenBatch, plan: BatchPlan, speed: MeasuredSpeed | None) -> Way:
    """Price a machine by the hour that answers all calls, as quickly as it has answered before."""
    way = f"local GPU ({name})"
    if speed is None or spec.usd_per_hour is None:
        return Way(way, None, None, f"no call of {name} is stored; run a few rows with it to measure its speed")
    at_once = min(opened.job.concurrency, sum(one.limits.in_flight for one in spec.replicas()))
    machines = len(spec.replicas())
    hours = Range(*(tokens / speed.tokens_per_s / at_once / _HOUR_S for tokens in plan.total.completion_tokens))
    rate = spec.usd_per_hour * machines
    dollars = Dollars(*(Decimal(repr(value)) * rate for value in hours))
    return Way(way, dollars, hours, f"all calls on {name}, {at_once} at once, as quick as {speed.calls:,} stored calls")
