"""What `effects.py` finds of each comparison, and its tables: for people, for the documentation, as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from effects_base import Comparison
from effects_list import ABSENT
from effects_measure import Row
from effects_race import Race

from evals.paired import PairedDifference, paired_difference

__all__ = ["Found", "Side", "found_of", "markdown", "record", "report"]

SAVING = 0.95
"""A technique that loses nothing and costs at most this part of its baseline saves."""


class Side(NamedTuple):
    """Means over the items."""

    accuracy: float
    calls: float
    dollars: float
    failed: int
    """Items on which the architecture failed; they count as wrong."""


class Found(NamedTuple):
    """What came of a comparison."""

    comparison: Comparison
    against: str
    technique: Side
    baseline: Side
    difference: PairedDifference

    @property
    def verdict(self) -> str:
        """Say whether the technique pays: by the interval, and where that holds zero by the dollars."""
        low, high = self.difference.interval
        if low > 0:
            return "pays"
        if high < 0:
            return "costs points"
        share = self.technique.dollars / self.baseline.dollars
        return f"no difference, for {share:.0%} of the dollars" if share <= SAVING else "no difference"

    @property
    def met(self) -> bool | None:
        """Say whether the bar is met; None where there is none."""
        bar = self.comparison.bar
        if bar is None:
            return None
        points = bar.points is None or self.difference.difference >= bar.points - 1e-12
        return points and (bar.calls is None or self.technique.calls <= bar.calls * self.baseline.calls)


def side(rows: Sequence[Row]) -> Side:
    """Take means."""
    count = len(rows)
    return Side(
        math.fsum(row.score for row in rows) / count,
        sum(row.calls for row in rows) / count,
        math.fsum(row.dollars for row in rows) / count,
        sum(row.failed for row in rows),
    )


def found_of(comparison: Comparison, against: str, technique: Sequence[Row], baseline: Sequence[Row]) -> Found:
    """Compare a technique with its baseline on the same items."""
    difference = paired_difference([row.score for row in technique], [row.score for row in baseline])
    return Found(comparison, against, side(technique), side(baseline), difference)


def asked(found: Found) -> str:
    """Say in words what the issue asks, and whether it is so."""
    bar = found.comparison.bar
    if bar is None:
        return ""
    wants = []
    if bar.points is not None:
        wants.append(f"≥ {100 * bar.points:+.0f} points" if bar.points else "≥ baseline")
    if bar.calls is not None:
        wants.append(f"≤ {bar.calls:.0%} of the calls")
    return f"{', '.join(wants)}: {'met' if found.met else 'missed'}"


_HEADS = (
    "technique",
    "setting",
    "baseline",
    "accuracy",
    "baseline's",
    "difference, points",
    "calls",
    "10⁻⁶ dollars",
    "verdict",
)


def cells(found: Found) -> tuple[str, ...]:
    """Write a row."""
    comparison, gap = found.comparison, found.difference
    low, high = (100 * end for end in gap.interval)
    one, two = found.technique, found.baseline
    notes = [found.verdict, asked(found), comparison.note]
    if one.failed or two.failed:
        notes.append(f"failed items: {one.failed} and {two.failed}")
    return (
        comparison.about,
        comparison.what,
        found.against,
        f"{100 * one.accuracy:.1f}",
        f"{100 * two.accuracy:.1f}",
        f"{100 * gap.difference:+.1f} [{low:+.1f}, {high:+.1f}]",
        f"{one.calls:.1f} : {two.calls:.1f}",
        f"{1e6 * one.dollars:.0f} : {1e6 * two.dollars:.0f}",
        "; ".join(note for note in notes if note),
    )


_RACED = ("time", "questions", "ms a token", "short-m@k, s", "majority, s", "time saved", "difference, points", "asked")


def raced(race: Race) -> tuple[str, ...]:
    """Write the row of a race for time."""
    low, high = (100 * end for end in race.difference.interval)
    return (
        f"short-{race.m}@{race.k} beside a majority of {race.k}: {race.what}",
        f"{race.items}",
        f"{1000 * race.token_s:g}",
        f"{race.short_s:.2f}",
        f"{race.majority_s:.2f}",
        f"{race.saved:.0%}",
        f"{100 * race.difference.difference:+.1f} [{low:+.1f}, {high:+.1f}]",
        f"≥ 30 % at no significant loss: {'met' if race.saved >= 0.3 and high >= 0 else 'missed'}",
    )


def report(found: Sequence[Found], races: Sequence[Race]) -> None:
    """Print the tables."""
    _aligned([_HEADS, *map(cells, found)])
    if races:
        print()
        _aligned([_RACED, *map(raced, races)])


def _aligned(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def markdown(found: Sequence[Found], races: Sequence[Race], items: Mapping[str, int]) -> str:
    """Write the tables of the documentation, with what is not compared and why."""
    parts = [f"{' and '.join(f'{n} items of `{task}`' for task, n in items.items())}."]
    parts.append(_table(_HEADS, [(f"`{one.comparison.about}`", *cells(one)[1:]) for one in found]))
    if races:
        parts.append(_table(_RACED, [raced(race) for race in races]))
    parts.append(_table(("not compared", "why"), [(f"`{name}`", reason) for name, reason in ABSENT.items()]))
    return "\n\n".join(parts) + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


class _Entry(NamedTuple):
    about: str
    what: str
    baseline: str
    accuracy: float
    baseline_accuracy: float
    difference: float
    low: float
    high: float
    p_value: float
    calls: float
    baseline_calls: float
    dollars: float
    baseline_dollars: float
    failed: int
    verdict: str
    met: bool | None


def record(found: Sequence[Found], races: Sequence[Race], items: Mapping[str, int]) -> dict[str, object]:
    """Return everything as JSON data."""
    entries = [
        _Entry(
            one.comparison.about,
            one.comparison.what,
            one.against,
            round(one.technique.accuracy, 4),
            round(one.baseline.accuracy, 4),
            round(one.difference.difference, 4),
            round(one.difference.interval[0], 4),
            round(one.difference.interval[1], 4),
            round(one.difference.p_value, 4),
            round(one.technique.calls, 2),
            round(one.baseline.calls, 2),
            one.technique.dollars,
            one.baseline.dollars,
            one.technique.failed,
            one.verdict,
            one.met,
        )._asdict()
        for one in found
    ]
    timed = [
        {**race._asdict(), "saved": round(race.saved, 4), "difference": round(race.difference.difference, 4)}
        for race in races
    ]
    return {"items": dict(items), "rows": entries, "races": timed, "absent": dict(ABSENT)}
