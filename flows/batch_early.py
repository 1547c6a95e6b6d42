"""What a batch saved by techniques that stop early: votes that are settled, cascades that begin cheaply."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING

from architectures.plan import ASSUMED_QUESTION, Plans
from flows.batch_report import Saving, Spending
from nodes import registry

if TYPE_CHECKING:
    from architectures.plan import NodeForecast
    from architectures.spec import ArchitectureSpec
    from flows.batch_report import Sums
    from providers.book import ModelBook

__all__ = ["early_stops"]

_MEASURE = "drawn"
"""What a technique measures that draws until it has enough."""


def early_stops(spec: ArchitectureSpec, book: ModelBook, sums: Sums) -> tuple[Saving, ...]:
    """Say which calls the nodes that draw until they have enough did without, at what their other calls cost.

    Set against all that they may ask for a row, over the rows in which they asked anything.
    """
    forecasts = Plans(book, ASSUMED_QUESTION).of(spec).nodes
    early = [one for one in forecasts if _MEASURE in registry.get(one.technique).measures and sums.ran[one.id]]
    return tuple(saving for one in early if (saving := _saved(one, sums)) is not None)


def _saved(node: NodeForecast, sums: Sums) -> Saving | None:
    most: dict[str, float] = {}
    for call in node.calls:
        most[call.model] = most.get(call.model, 0.0) + call.quantities.calls.high * sums.ran[node.id]
    if not all(map(math.isfinite, most.values())):
        return None
    left: dict[str, int] = {}
    dollars: list[Decimal | None] = []
    for model, calls in most.items():
        made = sums.uses.get((node.id, model), Spending())
        missed = round(calls) - made.calls
        if missed > 0:
            left[model] = missed
            # What a model costs that was never asked is not known.
            dollars.append(made.cost / made.calls * missed if made.cost is not None and made.calls else None)
    if not left:
        return None
    known = [one for one in dollars if one is not None]
    missing = ", ".join(f"{calls:,} calls to {model}" for model, calls in left.items())
    return Saving(
        "early_stop",
        sum(known, Decimal(0)) if len(known) == len(dollars) else None,
        f"node '{node.id}' had enough before {missing}",
    )
