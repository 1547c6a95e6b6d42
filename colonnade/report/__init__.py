"""A study as pictures and as a report: what is shown is data first, how it is drawn comes after."""

from colonnade.report.importance import Importance, importances
from colonnade.report.page import write_report
from colonnade.report.papers import draw_pictures
from colonnade.report.shown import (
    Axis,
    Front,
    FrontPoint,
    HeldOut,
    HistoryPoint,
    Line,
    Parallel,
    RungCount,
    held_out,
    history,
    parallel_coordinates,
    quality_cost,
    rung_survival,
    winner_svg,
)

__all__ = [
    "Axis",
    "Front",
    "FrontPoint",
    "HeldOut",
    "HistoryPoint",
    "Importance",
    "Line",
    "Parallel",
    "RungCount",
    "draw_pictures",
    "held_out",
    "history",
    "importances",
    "parallel_coordinates",
    "quality_cost",
    "rung_survival",
    "winner_svg",
    "write_report",
]
