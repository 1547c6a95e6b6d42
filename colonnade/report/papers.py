"""The pictures of a study for papers: static files, each a figure of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from colonnade.report.figures import COLOURS, KINDS
from colonnade.report.importance import importances
from colonnade.report.shown import (
    held_out,
    history,
    parallel_coordinates,
    quality_cost,
    rung_survival,
    winner_svg,
)
from db.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flows.study_view import StudyView

__all__ = ["draw_pictures"]


def draw_pictures(view: StudyView, folder: Path, suffix: str = ".svg") -> tuple[Path, ...]:
    """Draw what a study has to show, each picture to a file of its own, and return the files.

    They are `history`, `front`, `importances`, `rungs`, `parallel` and `held-out`, as .svg, .pdf or .png, and `winner`,
    which is always an .svg. Equal studies give equal bytes of .svg. Raises `ConfigError` without matplotlib, before
    anything was measured, and for another suffix.
    """
    if not view.steps:
        raise ConfigError(f"There is nothing to draw: no trial of study {view.id!r} was measured yet.")
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("Pictures need matplotlib: pip install 'colonnade[plot]'.") from error
    if suffix not in (".pdf", ".png", ".svg"):
        raise ConfigError(f"A picture can be .svg, .pdf or .png, not '{suffix}'.")
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    # Names of models are no formulas; and a salt of our own makes equal pictures equal files.
    with mpl.rc_context({"text.parse_math": False, "svg.hashsalt": view.id, "font.size": 9}):
        for name, draw in _drawings(view).items():
            figure = Figure(figsize=(7, 4.2), layout="constrained")
            draw(figure.subplots())
            files.append(folder / f"{name}{suffix}")
            figure.savefig(files[-1], dpi=200, metadata={"Date": None} if suffix == ".svg" else None)
    if (winner := winner_svg(view)) is not None:
        files.append(folder / "winner.svg")
        files[-1].write_text(winner, encoding="utf-8")
    return tuple(files)


def _drawings(view: StudyView) -> dict[str, Callable[[Axes], None]]:
    """Return how to draw the pictures that have something to show."""
    drawings: dict[str, Callable[[Axes], None]] = {
        "history": lambda axes: _history(axes, view),
        "rungs": lambda axes: _rungs(axes, view),
    }
    if quality_cost(view).points:
        drawings["front"] = lambda axes: _front(axes, view)
    if any(one.share is not None for one in importances(view)):
        drawings["importances"] = lambda axes: _importances(axes, view)
    if parallel_coordinates(view).axes:
        drawings["parallel"] = lambda axes: _parallel(axes, view)
    if view.ending is not None:
        drawings["held-out"] = lambda axes: _held_out(axes, view)
    return drawings


def _history(axes: Axes, view: StudyView) -> None:
    points = history(view)
    items = [point.items for point in points]
    sizes = [12 + 14 * point.rung for point in points]
    axes.scatter(items, [point.value for point in points], sizes, COLOURS["grown"], alpha=0.6, label="a job, by rung")
    axes.step(items, [point.best for point in points], COLOURS["best"], where="post", label="the leader so far")
    axes.set(xlabel="item evaluations", ylabel=view.objectives[0])
    axes.legend(frameon=False)
    axes.grid(alpha=0.25)


def _front(axes: Axes, view: StudyView) -> None:
    front = quality_cost(view)
    costs = [point.cost for point in front.points]
    for point in front.points:
        colour = COLOURS["grown" if point.on_front else "quiet"]
        errors = [[point.quality - point.low], [point.high - point.quality]]
        axes.errorbar(point.cost, point.quality, errors, fmt="o", ms=4, color=colour, alpha=0.9, elinewidth=0.7)
        if point.on_front:
            axes.annotate(f"#{point.trial}", (point.cost, point.quality), (5, 4), textcoords="offset points")
    chosen = sorted((point.cost, point.quality) for point in front.points if point.on_front)
    axes.step(*zip(*chosen, strict=True), color=COLOURS["grown"], where="post", alpha=0.5)
    axes.set(xlabel=f"{front.unit} per item", ylabel="quality (95 % interval)")
    if min(costs) > 0:
        axes.set_xscale("log")
    axes.grid(alpha=0.25)


def _importances(axes: Axes, view: StudyView) -> None:
    known = [one for one in importances(view) if one.share is not None][::-1]
    shares = [one.share or 0.0 for one in known]
    low = [max(0.0, share - (one.low or 0.0)) for share, one in zip(shares, known, strict=True)]
    high = [max(0.0, (one.high or 0.0) - share) for share, one in zip(shares, known, strict=True)]
    axes.barh([one.parameter for one in known], shares, xerr=[low, high], color=COLOURS["grown"], ecolor="gray")
    axes.set(xlabel="share of the variance between trials (95 % interval)", xlim=(0, 1))


def _rungs(axes: Axes, view: StudyView) -> None:
    counts = rung_survival(view)
    places, below = [f"rung {one.rung + 1}\n{one.items} items" for one in counts], [0] * len(counts)
    for kind, name in KINDS.items():
        numbers = [int(getattr(one, kind)) for one in counts]
        axes.bar(places, numbers, bottom=below, color=COLOURS[kind], label=name)
        below = [a + b for a, b in zip(below, numbers, strict=True)]
    axes.set(ylabel="trials")
    axes.legend(frameon=False)


def _parallel(axes: Axes, view: StudyView) -> None:
    shown = parallel_coordinates(view)
    values = [line.value for line in shown.lines]
    least, span = min(values), (max(values) - min(values)) or 1.0
    for line in sorted(shown.lines, key=lambda line: line.value):
        part = (line.value - least) / span
        # Within a level the lines lie by their value, so that they can be told apart.
        places = [
            (place + 0.2 + 0.6 * part) / len(axis.levels) for place, axis in zip(line.places, shown.axes, strict=True)
        ]
        axes.plot([*places, part], color=(0.25 + 0.1 * part, 0.35 + 0.3 * part, 0.8 - 0.5 * part), lw=0.8, alpha=0.7)
    for at, axis in enumerate(shown.axes):
        axes.axvline(at, color="gray", lw=0.6)
        for place, text in enumerate(axis.levels):
            axes.text(at + 0.03, (place + 0.5) / len(axis.levels), text[:20], fontsize=6, va="center")
    names = [*(axis.name for axis in shown.axes), shown.objective]
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.yaxis.tick_right()
    axes.set_yticks([0, 1], [f"{least:.3g}", f"{max(values):.3g}"])
    axes.set(xlim=(-0.1, len(names) - 1), ylim=(-0.02, 1.02))


def _held_out(axes: Axes, view: StudyView) -> None:
    rows = held_out(view)[::-1]
    for place, row in enumerate(rows):
        errors = [[row.quality - row.interval.low], [row.interval.high - row.quality]]
        colour = COLOURS["best" if row.role == "winner" else "quiet"]
        axes.errorbar(row.quality, place, xerr=errors, fmt="o", color=colour, capsize=3)
    axes.set_yticks(range(len(rows)), ["\n".join(row.name.split(" ", 3)[:4])[:60] for row in rows])
    axes.set(xlabel="quality on held-out items (95 % interval)")
    axes.margins(y=0.1)
    axes.grid(axis="x", alpha=0.25)
