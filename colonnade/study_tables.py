"""Studies as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from colonnade.cli.console import dollars, number, percent, seconds
from colonnade.tables import NOMINAL, columns

if TYPE_CHECKING:
    from flows.study_view import Spent, StudyView, TrialView

__all__ = ["sharing_note", "study_text"]

_STATES = {"dropped": "dropped", "running": "under way", "standing": "all items", "waiting": "waits"}


def study_text(view: StudyView, *, trials: int = 10) -> str:
    """Return a study as text: how far it is, its best trials, its end, and what it cost."""
    parts = [_head(view)]
    if view.trials:
        parts.append(_trial_table(view, trials))
    if view.ending is not None:
        parts += [_end_table(view), view.ending.sentence]
    notes = [sharing_note("The search alone", view.steps[-1].spent)] if view.steps else []
    notes.append(sharing_note("With baselines and the end", view.spent))
    if view.nominal:
        notes.append(NOMINAL)
    return "\n\n".join([*parts, "\n".join(notes)])


def sharing_note(what: str, spent: Spent) -> str:
    """Say what was paid, and what would have been without shared samples."""
    times = f", {spent.calls_used / spent.calls_paid:.1f} times as many" if spent.calls_paid else ""
    return (
        f"{what}: {number(spent.calls_paid)} calls paid ({dollars(spent.dollars_paid)}); without shared samples "
        f"{number(spent.calls_used)} ({dollars(spent.dollars_used)}){times}."
    )


def _head(view: StudyView) -> str:
    scored = view.steps[-1].items if view.steps else 0
    caps = f" under {', '.join(view.caps)} a question" if view.caps else ""
    lines = [
        f"Study {view.id}: {view.status}, {seconds(view.seconds)}. Space {view.space}{caps}: {number(view.points)} "
        f"architectures of {number(view.raw)} combinations; task {view.task}; {view.sampler}.",
        f"{len(view.trials)} tried, {number(scored)} evaluations of one item, rungs of "
        f"{', '.join(map(str, view.rungs))} items, {sum(t.state == 'dropped' for t in view.trials)} dropped by tests.",
    ]
    if view.reason:
        lines.append(f"It stopped: {view.reason}")
    return "\n".join(lines)


def _trial_table(view: StudyView, most: int) -> str:
    ranked = sorted(
        view.trials, key=lambda t: (t.state != "dropped", t.rung, t.objectives[:1] or (float("-inf"),)), reverse=True
    )
    head = ("trial", "items", "quality", "95 % interval", "calls", "dollars", "", "architecture")
    table = columns([head, *(_trial_row(one, view) for one in ranked[:most])], left=frozenset({6, 7}))
    rest = len(ranked) - most
    return f"{table}\n… and {rest} more (--trials {len(ranked)})" if rest > 0 else table


def _trial_row(one: TrialView, view: StudyView) -> Sequence[str]:
    interval = "-" if one.interval is None else f"{100 * one.interval.low:.1f} – {100 * one.interval.high:.1f}"
    marks = [_STATES[one.state]] if one.state != "standing" else []
    marks += ["leads"] if one.number == view.leader else []
    marks += ["front"] if one.on_front else []
    calls = "-" if one.calls is None else f"{one.calls:.1f}"
    price = "-" if one.items == 0 else dollars(one.dollars)
    return (str(one.number), str(one.items), percent(one.quality), interval, calls, price, ", ".join(marks), one.label)


def _end_table(view: StudyView) -> str:
    assert view.ending is not None
    against = {one.name: one for one in view.ending.against}
    head = ("held out", "quality", "95 % interval", "calls", "dollars", "winner ahead by", "interval", "p")
    rows = [head]
    for one in view.ending.contenders:
        interval = f"{100 * one.interval.low:.1f} – {100 * one.interval.high:.1f}"
        row = (one.name, percent(one.quality), interval, f"{one.calls:.1f}", dollars(one.dollars))
        gap = against.get(one.name)
        if gap is None:
            rows.append((*row, "", "", ""))
        else:
            low, high = gap.interval
            rows.append(
                (*row, f"{100 * gap.difference:+.1f}", f"{100 * low:+.1f} – {100 * high:+.1f}", f"{gap.p_value:.2g}")
            )
    return columns(rows)
