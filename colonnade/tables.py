"""Evaluations and comparisons as tables for people and as records for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from colonnade.cli.console import cached_note, dollars, number, percent, seconds
from flows.limits import limit_notes

if TYPE_CHECKING:
    from evals import Comparison
    from flows.evaluate import Evaluation

__all__ = ["NOMINAL", "columns", "comparison_record", "comparison_text", "evaluation_table"]

NOMINAL = "Dollars at nominal prices: the embedded models cost nothing, their prices make costs comparable."

_HEAD = (
    "architecture",
    "accuracy",
    "95 % interval",
    "calls",
    "tokens",
    "dollars",
    "$/correct",
    "seconds",
    "items",
    "run",
)


def columns(rows: Sequence[Sequence[str]], *, left: frozenset[int] = frozenset({0})) -> str:
    """Lay out rows of texts in columns, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            f"{cell:<{w}}" if i in left else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def evaluation_table(evaluations: Sequence[Evaluation]) -> str:
    """Return the table of some evaluations: one line each, and a line about what was paid now."""
    rows = [_HEAD, *(_row(one) for one in evaluations)]
    notes = [note for one in evaluations for note in _notes(one)]
    notes += [note for one in evaluations if not one.reused for note in limit_notes(one.limits)]
    if any(one.nominal for one in evaluations):
        notes.append(NOMINAL)
    return "\n".join([columns(rows, left=frozenset({0, 9})), *notes])


def _row(one: Evaluation) -> tuple[str, ...]:
    s = one.summary
    if s is None:
        return (one.name, "-", "-", "0", "0", "-", "-", "-", f"0/{one.planned}", one.run_id)
    interval = f"{100 * s.interval.low:.1f} – {100 * s.interval.high:.1f}"
    tokens = s.prompt_tokens_used + s.completion_tokens_used
    return (
        one.name,
        percent(s.accuracy),
        interval,
        number(s.calls_used),
        number(tokens),
        dollars(s.cost_used),
        dollars(s.cost_per_correct.value),
        seconds(one.seconds),
        f"{s.items}/{one.planned}",
        one.run_id,
    )


def _notes(one: Evaluation) -> list[str]:
    if one.summary is None:
        return []
    notes = []
    if one.summary.failed:
        problems = ", ".join(f"{name} {count}" for name, count in one.summary.problems.items())
        notes.append(f"{one.name}: {one.summary.failed} items failed and count as wrong ({problems}).")
    s = one.summary
    if s.calls_used > s.calls_paid:
        cached = s.calls_used - s.calls_paid
        notes.append(f"{one.name}: {cached_note(cached, s.calls_used, s.cost_used, s.cost_paid)}")
    return notes


def comparison_text(first: str, second: str, comparison: Comparison) -> str:
    """Return a comparison of two runs for people."""
    gap, (low, high), p_value, n, ahead, behind, method = comparison.accuracy
    lines = [
        f"{first}: {percent(comparison.first.accuracy)}, {dollars(comparison.first.cost_used)}",
        f"{second}: {percent(comparison.second.accuracy)}, {dollars(comparison.second.cost_used)}",
        f"difference {100 * gap:+.1f} points (95 % interval {100 * low:+.1f} to {100 * high:+.1f}), "
        f"p = {p_value:.2g} ({method}, {n} items: {ahead} only the first right, {behind} only the second)",
    ]
    if comparison.only_first or comparison.only_second:
        lines.append(
            f"left out: {comparison.only_first} items only in the first run, {comparison.only_second} in the second"
        )
    return "\n".join(lines)


def comparison_record(comparison: Comparison) -> dict[str, object]:
    """Return a comparison as flat data."""
    gap = comparison.accuracy
    return {
        "items": gap.n,
        "difference": gap.difference,
        "interval": list(gap.interval),
        "p_value": gap.p_value,
        "method": gap.method,
        "first_only": gap.first_only,
        "second_only": gap.second_only,
        "cost_difference": comparison.cost_difference,
        "left_out": [comparison.only_first, comparison.only_second],
    }
