"""Pictures: what is shown is a `NamedTuple`, how it is drawn comes after, so that tests can look at the former."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from db.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flows.evaluate import Evaluation

__all__ = ["CostPoint", "accuracy_cost", "plot_accuracy_cost"]


class CostPoint(NamedTuple):
    """One evaluation in the picture of accuracy against cost."""

    name: str
    dollars: float
    """Per item, of all samples used."""
    accuracy: float
    low: float
    high: float
    on_front: bool
    """No other point is both cheaper (or as cheap) and better."""


def accuracy_cost(evaluations: Sequence[Evaluation]) -> tuple[CostPoint, ...]:
    """Return the points of the picture; evaluations without results or with an unknown price are left out."""
    points = []
    for one in evaluations:
        s = one.summary
        if s is not None and s.cost_used is not None:
            each = float(s.cost_used) / s.items
            points.append(CostPoint(one.name, each, s.accuracy, s.interval.low, s.interval.high, False))
    return tuple(point._replace(on_front=_on_front(point, points)) for point in points)


def _on_front(point: CostPoint, points: Sequence[CostPoint]) -> bool:
    return not any(
        other.dollars <= point.dollars
        and other.accuracy >= point.accuracy
        and (other.dollars, other.accuracy) != (point.dollars, point.accuracy)
        for other in points
    )


def plot_accuracy_cost(evaluations: Sequence[Evaluation], path: Path) -> tuple[CostPoint, ...]:
    """Draw accuracy against dollars per item to a file (.svg, .png, .pdf) and return what is shown.

    Raises `ConfigError` without matplotlib, or where no evaluation has a known cost.
    """
    points = accuracy_cost(evaluations)
    if not points:
        raise ConfigError("There is nothing to plot: no evaluation has both results and a known price.")
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ConfigError("A plot needs matplotlib: pip install 'colonnade[plot]'.") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    _draw(axes, points)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        figure.savefig(path)
    except ValueError as error:
        raise ConfigError(f"{path}: a plot can be .svg, .png or .pdf, not '{path.suffix}'.") from error
    finally:
        plt.close(figure)
    return points


def _draw(axes: Axes, points: Sequence[CostPoint]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    prices = [1000 * point.dollars for point in points]
    for point, price in zip(points, prices, strict=True):
        colour = "tab:blue" if point.on_front else "tab:gray"
        errors = [[point.accuracy - point.low], [point.high - point.accuracy]]
        axes.errorbar(price, point.accuracy, yerr=errors, fmt="o", color=colour, capsize=3)
        # Names stand on the side where there is room.
        left = price * price > min(prices) * max(prices)
        axes.annotate(
            point.name,
            (price, point.accuracy),
            xytext=(-7 if left else 7, 4),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=8,
        )
    front = sorted((1000 * point.dollars, point.accuracy) for point in points if point.on_front)
    axes.step([x for x, _ in front], [y for _, y in front], where="post", color="tab:blue", alpha=0.4)
    axes.set(xlabel="dollars per 1,000 items", ylabel="accuracy (95 % interval)", ylim=(0, 1.02))
    if min(prices) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("${x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.1)
    axes.grid(alpha=0.25)
