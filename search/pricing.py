"""From a space to the domain that samplers search: every point planned, what exceeds a cap left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from architectures.plan import Plans
from db.errors import SpecError
from search.caps import Cap, Figures, exceeded, figures
from search.domain import INACTIVE, Domain
from search.parameters import Parameter, Value
from search.space import Drawn, Space, Values, describe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from architectures.plan import Plan
    from architectures.planner import Speed
    from architectures.spec import ArchitectureSpec
    from providers.book import ModelBook

__all__ = ["LikelyCall", "PlannedPoint", "PlannedSpace", "Unit", "plan_space", "positive"]


Unit: TypeAlias = Literal["calls", "dollars"]


class LikelyCall(NamedTuple):
    """Calls of one template to one model: how many for one question, and what they cost together."""

    calls: float
    dollars: float | None


class PlannedPoint(NamedTuple):
    """A point of a space, its architecture, and what one question costs."""

    values: Values
    spec: ArchitectureSpec
    figures: Figures
    calls: Mapping[str, tuple[LikelyCall, ...]]
    """The calls of each node, by its id."""

    def call_costs(self, unit: Unit) -> Mapping[str, tuple[float, ...]]:
        """Return what they cost, an unknown price as nothing."""
        return {node: tuple(float(getattr(call, unit) or 0) for call in calls) for node, calls in self.calls.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class PlannedSpace:
    """The points of a space that meet its caps, in the order of the domain."""

    space: Space
    points: tuple[PlannedPoint, ...]
    domain: Domain
    unit: Unit
    """What the domain's costs count: the likely dollars of a question where every price is known, else its calls."""


def plan_space(
    space: Space,
    book: ModelBook,
    question: float | str | Sequence[str] | None = None,
    *,
    caps: Sequence[Cap] = (),
    speeds: Mapping[str, Speed] | None = None,
) -> PlannedSpace:
    """Check and plan every point, and leave out what passes a cap of the space or one of `caps`; makes no call.

    Raises `SpecError` for a space without points, a figure that a cap needs and nobody knows, and caps that no point
    meets, with the cheapest point and its cost.
    """
    held = (*space.caps, *caps)
    plans = Plans(book, question, speeds=speeds)
    planned = [_planned(drawn, plans.of(drawn.spec)) for drawn in space.points(book)]
    kept = tuple(point for point in planned if exceeded(point.figures, held) is None)
    if not kept:
        raise _nothing(space, planned, held)
    priced = all(point.figures.likely["dollars"] for point in kept)
    unit: Unit = "dollars" if priced else "calls"
    costs = positive(np.asarray([float(point.figures.likely[unit] or 0) for point in kept]))
    return PlannedSpace(space=space, points=kept, domain=_domain(space, kept, costs, book), unit=unit)


def positive(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return costs of which none is 0: what asks nobody, as a test may hold it, costs as little as the cheapest."""
    return np.maximum(costs, costs[costs > 0].min() if (costs > 0).any() else 1.0)


def _planned(drawn: Drawn, plan: Plan) -> PlannedPoint:
    calls = {
        node.id: tuple(
            LikelyCall(found.calls.likely, float(found.dollars.likely) if found.dollars else None)
            for found in (call.quantities for call in node.calls)
        )
        for node in plan.nodes
    }
    return PlannedPoint(drawn.values, drawn.spec, figures(drawn.spec, plan), calls)


def _nothing(space: Space, planned: Sequence[PlannedPoint], caps: Sequence[Cap]) -> SpecError:
    """Say which cap nothing meets, or that only all of them together leave nothing."""
    for cap in caps:
        known = [(figure, point) for point in planned if (figure := point.figures.of(cap)) is not None]
        if not known:
            unknown = f"the cap of {cap} cannot be held, since no point's {cap.name} are known"
            return space.place.error(f"{unknown}; {_cure(cap)}")
        figure, cheapest = min(known, key=lambda pair: pair[0])
        if figure > cap.most:
            needs = Cap(cap.name, figure.normalize() if figure else Decimal(0))
            return space.place.error(
                f"no point meets the cap of {cap}: the cheapest ({describe(cheapest.values)}) needs {needs}."
            )
    cheapest = min(planned, key=lambda point: point.figures.high["calls"] or Decimal("Infinity"))
    needs_of = ", ".join(str(Cap(cap.name, figure)) for cap in caps if (figure := cheapest.figures.of(cap)) is not None)
    return space.place.error(
        f"no point meets all caps together; that with the fewest calls ({describe(cheapest.values)}) needs {needs_of}."
    )


def _cure(cap: Cap) -> str:
    if cap.name == "seconds":
        return (
            "speeds are those of stored calls, so ask its models a few questions first (colonnade eval), give them "
            "max_tokens, or remove the cap."
        )
    return "give its models a price or max_tokens, or remove the cap."


def _domain(space: Space, points: Sequence[PlannedPoint], costs: NDArray[np.float64], book: ModelBook) -> Domain:
    varying = [parameter for parameter in space.parameters if len(parameter.choices) > 1]
    columns = [_levels(parameter, points) for parameter in varying]
    features = [_features(parameter, levels) for parameter, levels in zip(varying, columns, strict=True)]
    levels = np.stack(columns, axis=1) if columns else np.zeros((len(points), 0), dtype=np.int16)
    places = {point.spec.id: place for place, point in enumerate(points)}
    singles = {role: _singles(space, role, places, book) for role in space.singles}
    return Domain(
        axes=tuple(parameter.name for parameter in varying),
        levels=levels.astype(np.int16),
        features=np.hstack(features).astype(np.float32) if features else np.zeros((len(points), 1), dtype=np.float32),
        costs=costs,
        keys=[point.spec.id for point in points],
        singles={role: found for role, found in singles.items() if found},
        members={role: _members(space, role, points) for role in space.models},
    )


def _levels(parameter: Parameter, points: Sequence[PlannedPoint]) -> NDArray[np.int16]:
    # By type too, since True is 1 to a dictionary.
    places = {(type(choice.value), choice.value): level for level, choice in enumerate(parameter.choices)}
    name = parameter.name
    found = [places[type(p.values[name]), p.values[name]] if name in p.values else INACTIVE for p in points]
    return np.asarray(found, dtype=np.int16)


def _features(parameter: Parameter, levels: NDArray[np.int16]) -> NDArray[np.float32]:
    """One column of a number's level, or one for each choice or model; one more where the parameter may be absent."""
    active = levels != INACTIVE
    if parameter.kind == "number":
        table = np.linspace(0, 1, len(parameter.choices))[:, None]
    elif parameter.kind == "models":
        chosen = [choice.value if isinstance(choice.value, tuple) else () for choice in parameter.choices]
        names = sorted({name for value in chosen for name in value})
        table = np.asarray([[*(float(n in value) for n in names), len(value) / len(names)] for value in chosen])
    else:
        table = np.eye(len(parameter.choices))
    columns = np.where(active[:, None], table[levels], 0.0)
    if not active.all():
        columns = np.hstack([columns, active[:, None]])
    return columns.astype(np.float32)


def _singles(space: Space, role: str, places: Mapping[str, int], book: ModelBook) -> tuple[int, ...]:
    """The points that measure each model; none where one of them is outside the space or above a cap."""
    found = [places.get(space.single(role, model, book).id) for model in space.models[role]]
    known = tuple(place for place in found if place is not None)
    return known if len(known) == len(found) else ()


def _members(space: Space, role: str, points: Sequence[PlannedPoint]) -> NDArray[np.float32]:
    names = [parameter.name for parameter in space.parameters if parameter.role == role]
    rows = [[_share(point.values, names, model) for model in space.models[role]] for point in points]
    return np.asarray(rows, dtype=np.float32)


def _share(values: Values, names: Sequence[str], model: str) -> float:
    chosen: list[Value] = [values.get(name) for name in names]
    return float(sum(model in one if isinstance(one, tuple) else model == one for one in chosen))
