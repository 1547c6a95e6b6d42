"""A study as one HTML file that asks nothing of any network: plotly's own script stands in it, once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from colonnade.cli.console import dollars, number, percent, seconds
from colonnade.report.figures import figure_front, figure_history, figure_importances, figure_rungs
from colonnade.report.importance import importances
from colonnade.report.shown import (
    held_out,
    history,
    parallel_coordinates,
    quality_cost,
    rung_survival,
    winner_svg,
)
from colonnade.report.values import written_values
from colonnade.tables import NOMINAL
from db.errors import ConfigError

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from flows.study_view import StudyView

__all__ = ["write_report"]


def write_report(view: StudyView, path: Path) -> None:
    """Write the report of a study, running or ended, to an HTML file of about 5 MB.

    Its content policy forbids every request, so plotly's parallel coordinates, which compile WebGL programs, cannot
    run; the page draws its own. Raises `ConfigError` without plotly.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ConfigError("A report needs plotly: pip install 'colonnade[search]'.") from error
    environment = Environment(
        loader=PackageLoader("colonnade.report", "page"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"dollars": dollars, "number": number, "percent": percent, "seconds": seconds}
    parallel = parallel_coordinates(view)
    text = environment.get_template("report.html.jinja").render(
        view=view,
        held_out=held_out(view),
        leader=next((trial for trial in view.trials if trial.number == view.leader), None),
        figures={name: _safe_json(figure.to_json()) for name, figure in _figures(view).items()},
        front=sorted((point for point in quality_cost(view).points if point.on_front), key=lambda point: point.cost),
        untold=[one.parameter for one in importances(view) if one.share is None],
        parallel=_safe_json(json.dumps(parallel._asdict())) if parallel.lines and parallel.axes else None,
        winner=winner_svg(view),
        about=written_values,
        plotly=get_plotlyjs(),
        nominal=NOMINAL if view.nominal else None,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _figures(view: StudyView) -> dict[str, Figure]:
    """Return the pictures that have something to show."""
    steps, front, found = history(view), quality_cost(view), importances(view)
    figures: dict[str, Figure] = {}
    if steps:
        figures["history"] = figure_history(steps, view.objectives[0])
        figures["rungs"] = figure_rungs(rung_survival(view))
    if front.points:
        figures["front"] = figure_front(front)
    if any(one.share is not None for one in found):
        figures["importances"] = figure_importances(found)
    return figures


def _safe_json(text: str) -> str:
    """Return JSON that cannot end the element of the page that it stands in."""
    return text.replace("<", "\\u003c")
