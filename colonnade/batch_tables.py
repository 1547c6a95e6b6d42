"""Reports and plans of batches as text for people."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from colonnade.cli.console import dollars, number, percent, seconds
from colonnade.tables import NOMINAL, columns

if TYPE_CHECKING:
    from architectures.plan import Dollars, Quantities
    from flows.batch_plan import BatchPlan
    from flows.batch_report import BatchReport
    from nodes.base import Range

__all__ = ["batch_text", "plan_record", "plan_text"]


def batch_text(report: BatchReport) -> str:
    """Return what a batch came to."""
    lines = [
        f"{report.run_id}  {report.status}  {report.name}",
        f"{number(report.rows)} of {number(report.planned)} rows answered in {seconds(report.seconds)}: {report.out}",
    ]
    if report.failed:
        where = f": {report.failed_out}" if report.failed_out else ""
        lines.append(f"{number(report.failed)} rows failed{where}")
    if report.retriable:
        lines.append(f"{number(report.retriable)} of them can be asked again: colonnade batch resume {report.run_id}")
    if report.score is not None:
        lines.append(f"mean score {percent(report.score)}")
    rows = [("node", "model", "calls", "paid", "prompt tokens", "reply tokens", "dollars", "paid")]
    for (node, model), one in (*report.by_node.items(), (("in all", ""), report.spending)):
        tokens = number(one.prompt_tokens), number(one.completion_tokens)
        rows.append(
            (node, model, number(one.calls), number(one.paid_calls), *tokens, dollars(one.cost), dollars(one.paid))
        )
    lines.append(columns(rows, left=frozenset({0, 1})))
    lines += [f"{saving.sentence}{_saved(saving.dollars)}" for saving in report.savings]
    estimate = report.estimate
    if estimate is not None and estimate["error"] is not None:
        lines.append(f"The plan after the pilot said {dollars(estimate['likely'])}: {100 * estimate['error']:+.1f} %.")
    if report.nominal:
        lines.append(NOMINAL)
    return "\n".join(lines)


def _saved(amount: Decimal | None) -> str:
    if amount is None:
        return ""
    return f", which saved {dollars(amount)}" if amount >= 0 else f", which cost {dollars(-amount)} more"


def plan_text(plan: BatchPlan) -> str:
    """Return the plan of a batch: its nodes, its ways, and how well it has planned before."""
    bad = f", {number(plan.bad)} cannot be asked" if plan.bad else ""
    lines = [f"{number(plan.rows)} rows, {number(plan.distinct)} different questions{bad}; run {plan.run_id}"]
    rows = [("node", "model", "calls", "prompt tokens", "reply tokens", "dollars", "pilot/plan")]
    for node in plan.nodes:
        ratio = "-" if node.ratio is None else f"{node.ratio:.2f}"
        rows.append((node.node, node.model, *_quantities(node.quantities), ratio))
    rows.append(("in all", "", *_quantities(plan.total), ""))
    lines += [columns(rows, left=frozenset({0, 1})), ""]
    ways = [("way", "dollars", "hours", "")]
    ways += [(way.name, _dollars(way.dollars), _hours(way.hours), way.note) for way in plan.ways]
    lines += [columns(ways, left=frozenset({0, 3})), *_notes(plan)]
    return "\n".join(lines)


def _notes(plan: BatchPlan) -> list[str]:
    lines = []
    if plan.pilot is not None:
        failed = f", {plan.pilot.failed} of them failed" if plan.pilot.failed else ""
        spent = dollars(plan.pilot.dollars)
        lines.append(f"The pilot of {plan.pilot.rows} rows cost {spent}{failed}; its samples are not paid again.")
    if plan.earlier:
        errors = ", ".join(f"{100 * one['error']:+.1f} %" for one in plan.earlier)
        lines.append(f"The last estimates after pilots were off by {errors}.")
    if plan.unpriced:
        lines.append(f"No price is known of {', '.join(plan.unpriced)}; give one in models.yaml.")
    if plan.unbounded:
        lines.append(f"No limit is known for the replies of {', '.join(plan.unbounded)}; give max_tokens.")
    return [*lines, NOMINAL] if plan.nominal else lines


def _quantities(quantities: Quantities) -> tuple[str, str, str, str]:
    return (
        _range(quantities.calls),
        _range(quantities.prompt_tokens),
        _range(quantities.completion_tokens),
        _dollars(quantities.dollars),
    )


def _range(value: Range) -> str:
    if value.low == value.high:
        return number(value.likely)
    high = "∞" if value.high == float("inf") else number(value.high)
    return f"{number(value.likely)} ({number(value.low)} – {high})"


def _dollars(value: Dollars | None) -> str:
    if value is None or value.low == value.high:
        return dollars(None if value is None else value.likely)
    high = "∞" if value.high.is_infinite() else dollars(value.high)
    return f"{dollars(value.likely)} ({dollars(value.low)} – {high})"


def _hours(value: Range | None) -> str:
    if value is None:
        return "?"
    return " – ".join(dict.fromkeys(f"{hours:.2g}" for hours in (value.low, value.likely, value.high)))


def plan_record(plan: BatchPlan) -> dict[str, object]:
    """Return the plan of a batch as plain data."""
    return {
        "run_id": plan.run_id,
        "name": plan.name,
        "rows": plan.rows,
        "bad": plan.bad,
        "distinct": plan.distinct,
        "question_tokens": list(plan.question),
        "nodes": [
            {"node": one.node, "model": one.model, "ratio": one.ratio, **_plain(one.quantities)} for one in plan.nodes
        ],
        "total": _plain(plan.total),
        "ways": [
            {
                "way": one.name,
                "dollars": None if one.dollars is None else list(one.dollars),
                "hours": None if one.hours is None else list(one.hours),
                "note": one.note,
            }
            for one in plan.ways
        ],
        "pilot": None if plan.pilot is None else plan.pilot._asdict(),
        "earlier": list(plan.earlier),
        "unpriced": list(plan.unpriced),
        "unbounded": list(plan.unbounded),
    }


def _plain(quantities: Quantities) -> dict[str, object]:
    return {name: None if value is None else list(value) for name, value in quantities._asdict().items()}
