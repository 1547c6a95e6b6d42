"""The pictures of a study for plotly: interactive, in colours that are readable on light and on dark ground."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Final

from colonnade.cli.console import dollars, number, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plotly.graph_objects import Figure

    from colonnade.report.importance import Importance
    from colonnade.report.shown import Front, HistoryPoint, RungCount

__all__ = ["COLOURS", "KINDS", "figure_front", "figure_history", "figure_importances", "figure_rungs"]

COLOURS: Final = {
    "best": "#3f9a5c",
    "dropped": "#c9574b",
    "grown": "#3f7fc4",
    "quiet": "#7d8590",
    "running": "#8259c2",
    "standing": "#3f9a5c",
    "waiting": "#c98a1b",
}
KINDS: Final = {
    "grown": "went on",
    "standing": "scored on all items",
    "waiting": "wait",
    "running": "running",
    "dropped": "dropped by a test",
}
"""What becomes of a trial at a rung, in words."""
_LINE: Final = "rgba(125, 133, 144, 0.25)"
_LONGEST: Final = 48


def figure_history(points: Sequence[HistoryPoint], objective: str) -> Figure:
    """Draw every told job, the leader so far, and the spend on the right."""
    from plotly import graph_objects as go

    priced = all(point.dollars_paid is not None for point in points)
    items, share = [point.items for point in points], objective == "quality"
    spend = [point.dollars_paid if priced else point.calls_paid for point in points]
    jobs = go.Scatter(
        x=items,
        y=[point.value for point in points],
        mode="markers",
        name="a job that was told",
        marker={"color": COLOURS["grown"], "size": [6 + 3 * point.rung for point in points], "opacity": 0.7},
        hoverinfo="text",
        hovertext=[_lines(f"{_value(p.value, share=share)} after rung {p.rung + 1}\n{p.about}") for p in points],
    )
    best = go.Scatter(
        x=items,
        y=[point.best for point in points],
        mode="lines",
        line={"shape": "hv", "color": COLOURS["best"], "width": 2.5},
        name="the leader so far",
        hoverinfo="text",
        hovertext=[f"trial {p.leader} leads with {_value(p.best, share=share)}" for p in points],
    )
    unit = "dollars paid" if priced else "calls paid"
    paid = go.Scatter(
        x=items,
        y=spend,
        mode="lines",
        line={"dash": "dot", "color": COLOURS["waiting"]},
        name=unit,
        yaxis="y2",
        hoverinfo="text",
        hovertext=[
            f"{number(p.calls_paid)} of {number(p.calls_used)} calls paid, {dollars(p.dollars_paid)}" for p in points
        ],
    )
    figure = _figure([jobs, best, paid], "item evaluations", html.escape(objective))
    figure.update_layout(
        yaxis2={"title": unit, "overlaying": "y", "side": "right", "showgrid": False, "rangemode": "tozero"},
        yaxis={"tickformat": ".0%" if share else ""},
    )
    return figure


def figure_front(front: Front) -> Figure:
    """Draw quality with 95 % intervals against cost; the front is joined and numbered."""
    from plotly import graph_objects as go

    traces = []
    for name, chosen, colour in (("other trials", False, "quiet"), ("the front", True, "grown")):
        points = sorted((p for p in front.points if p.on_front == chosen), key=lambda p: p.cost)
        traces.append(
            go.Scatter(
                x=[p.cost for p in points],
                y=[p.quality for p in points],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [p.high - p.quality for p in points],
                    "arrayminus": [p.quality - p.low for p in points],
                    "thickness": 1,
                    "width": 2,
                },
                mode="lines+markers+text" if chosen else "markers",
                line={"shape": "hv", "color": COLOURS[colour]},
                marker={"color": COLOURS[colour], "size": 9 if chosen else 6},
                opacity=1 if chosen else 0.6,
                # Names in full would lie on each other where the front is dense; they stand beside the pointer.
                text=[f"#{p.trial}" for p in points] if chosen else None,
                textposition="bottom right",
                name=name,
                hoverinfo="text",
                hovertext=[
                    _lines(
                        f"{percent(p.quality)} ({percent(p.low)} to {percent(p.high)}) on {p.items} items\n"
                        f"{_cost(p.cost, front.unit)} an item\n{p.about}"
                    )
                    for p in points
                ],
            )
        )
    figure = _figure(traces, f"{front.unit} per item", "quality (95 % interval)")
    if front.points and min(point.cost for point in front.points) > 0:
        figure.update_xaxes(type="log", tickprefix="$" if front.unit == "dollars" else "", dtick="D2")
    figure.update_yaxes(tickformat=".0%")
    return figure


def figure_importances(found: Sequence[Importance]) -> Figure:
    """Draw the shares of the parameters that have one, with their intervals, the greatest at the top."""
    from plotly import graph_objects as go

    known = [(one.parameter, one.share, one.low or 0.0, one.high or 0.0) for one in found if one.share is not None]
    bars = go.Bar(
        orientation="h",
        x=[share for _, share, _, _ in known],
        y=[_short(name) for name, *_ in known],
        marker={"color": COLOURS["grown"]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [max(0.0, high - share) for _, share, _, high in known],
            "arrayminus": [max(0.0, share - low) for _, share, low, _ in known],
            "color": COLOURS["quiet"],
        },
        hoverinfo="text",
        hovertext=[_lines(f"{name}: {percent(s)} ({percent(low)} to {percent(high)})") for name, s, low, high in known],
    )
    figure = _figure([bars], "share of the variance between trials (95 % interval)", "")
    figure.update_xaxes(range=[0, 1], tickformat=".0%")
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(showlegend=False, height=120 + 32 * len(known))
    return figure


def figure_rungs(counts: Sequence[RungCount]) -> Figure:
    """Draw how many trials reached each rung, and what became of them there."""
    from plotly import graph_objects as go

    places = [f"rung {one.rung + 1}<br>{number(one.items)} items" for one in counts]
    bars = [
        go.Bar(
            x=places,
            y=[getattr(one, kind) for one in counts],
            name=name,
            marker={"color": COLOURS[kind]},
            hoverinfo="text",
            hovertext=[f"{getattr(one, kind)} of {one.reached}: {name}" for one in counts],
        )
        for kind, name in KINDS.items()
    ]
    figure = _figure(bars, "", "trials")
    figure.update_layout(barmode="stack")
    return figure


def _figure(traces: Sequence[object], x: str, y: str) -> Figure:
    from plotly import graph_objects as go

    axis = {"gridcolor": _LINE, "zerolinecolor": _LINE, "linecolor": _LINE}
    return go.Figure(
        traces,
        layout={
            "template": "none",
            "paper_bgcolor": "rgba(0, 0, 0, 0)",
            "plot_bgcolor": "rgba(0, 0, 0, 0)",
            "height": 420,
            "margin": {"l": 64, "r": 64, "t": 16, "b": 56},
            "xaxis": {"title": x, **axis},
            "yaxis": {"title": y, **axis},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
            "hoverlabel": {"align": "left"},
            "hovermode": "closest",
        },
    )


def _lines(text: str) -> str:
    """Escape a text of several lines: plotly reads some HTML in words."""
    return html.escape(text).replace("\n", "<br>")


def _short(text: str) -> str:
    return html.escape(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")


def _value(value: float, *, share: bool) -> str:
    return percent(value) if share else f"{value:.4g}"


def _cost(cost: float, unit: str) -> str:
    return dollars(cost) if unit == "dollars" else f"{cost:.3g} calls"
