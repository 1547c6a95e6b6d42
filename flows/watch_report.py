"""What looks found, in words: lines for a terminal, Markdown for an artifact."""

from __future__ import annotations

from collections.abc import Sequence

from flows.watch_job import Look

__all__ = ["LOOKS_HEAD", "look_text", "looks_markdown", "looks_table"]

LOOKS_HEAD = ("look", "when", "run", "items", "quality", "dollars", "alarms")


def look_text(look: Look) -> str:
    """Say what one look found, a line for each thing."""
    kinds = ", ".join(sorted({finding.kind for finding in look.alarms})).upper()
    verdict = f"; {kinds or 'no alarm'}" if look.findings else ""
    head = f"{look.name} on {look.task} ({look.watch}), {_measured(look)}{verdict}"
    marks = [" "] if not look.findings else ["!" if finding.alarm else " " for finding in look.findings]
    return "\n".join([head, *(f"  {mark} {said}" for mark, said in zip(marks, _said(look), strict=True))])


def looks_markdown(looks: Sequence[Look]) -> str:
    """Write looks at one watch as a page: the newest in words, all in a table; raises `ValueError` without looks."""
    if not looks:
        raise ValueError("a report needs a look")
    newest = looks[-1]
    alarms = {finding.sentence for finding in newest.alarms}
    table = [LOOKS_HEAD, ("---",) * len(LOOKS_HEAD), *looks_table(looks)]
    return "\n".join(
        [
            f"# {newest.name} on {newest.task}",
            "",
            f"Watch {newest.watch}, {_measured(newest)}.",
            "",
            *(f"- {'**Alarm.** ' if said in alarms else ''}{said}" for said in _said(newest)),
            "",
            *(f"| {' | '.join(row)} |" for row in table),
            "",
        ]
    )


def looks_table(looks: Sequence[Look]) -> list[tuple[str, ...]]:
    """Return a row of texts for each look."""
    return [
        (
            str(look.number) if look.number else "reference",
            f"{look.at:%Y-%m-%d %H:%M}",
            look.run_id,
            str(look.items),
            f"{100 * (look.quality if look.number else look.reference):.1f} %",
            "$?" if look.dollars is None else f"${look.dollars:.4g}",
            ", ".join(sorted({finding.kind for finding in look.alarms}))
            or ("-" if look.status == "done" else "stopped"),
        )
        for look in looks
    ]


def _measured(look: Look) -> str:
    """Say what was measured."""
    called = f"look {look.number}" if look.number else "reference"
    failed = f", {look.failed} of them failed" if look.failed else ""
    whole = f"; reference {100 * look.reference:.1f} %" if look.number else ""
    quality = look.quality if look.number else look.reference
    return f"{called}: {100 * quality:.1f} % of {look.items} items{failed}{whole}"


def _said(look: Look) -> list[str]:
    if look.status != "done":
        return [f"It was stopped: {look.reason}"]
    if look.number:
        return [finding.sentence for finding in look.findings]
    if look.smallest_fall is None:
        return ["Nothing is known of how samples of an item differ: give a reference of several, or --repeats."]
    return [
        f"A fall of {100 * look.smallest_fall:.1f} points is found within three looks nine times in ten; "
        f"more items or more repeats find a smaller one."
    ]
