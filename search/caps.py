"""Caps on what one question may cost by `plan`; what exceeds one is never among the points of a domain."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from architectures.places import Place

if TYPE_CHECKING:
    from architectures.plan import Plan
    from architectures.spec import ArchitectureSpec

__all__ = ["Cap", "CapName", "Figures", "exceeded", "figures", "read_caps"]

CapName = Literal["calls", "completion_tokens", "depth", "dollars", "prompt_tokens", "seconds", "tokens"]
Estimate = Literal["high", "likely"]

_UNITS: Final[Mapping[CapName, str]] = {
    "calls": "calls",
    "completion_tokens": "completion tokens",
    "depth": "nodes one after the other",
    "dollars": "dollars",
    "prompt_tokens": "prompt tokens",
    "seconds": "seconds",
    "tokens": "tokens",
}


class Cap(NamedTuple):
    """The most of something that one question may cost."""

    name: CapName
    most: Decimal
    by: Estimate = "high"
    """What is held against it: the most that the plan foresees, or the likely."""

    def __str__(self) -> str:
        return f"{self.most:f} {_UNITS[self.name]}"


class Figures(NamedTuple):
    """What one question costs in the caps' terms; None where a price, a speed or a bound is unknown."""

    high: Mapping[CapName, Decimal | None]
    likely: Mapping[CapName, Decimal | None]

    def of(self, cap: Cap) -> Decimal | None:
        """Return the figure that a cap looks at."""
        return (self.high if cap.by == "high" else self.likely)[cap.name]


def figures(spec: ArchitectureSpec, plan: Plan) -> Figures:
    """Return the figures of an architecture that was planned for one question."""
    depth, total = Decimal(_depth(spec)), plan.total
    high, likely = (
        {
            "calls": _number(calls),
            "completion_tokens": _number(completion),
            "depth": depth,
            "dollars": dollars if dollars is not None and dollars.is_finite() else None,
            "prompt_tokens": _number(prompt),
            "seconds": _number(seconds),
            "tokens": _number(completion + prompt),
        }
        for calls, completion, prompt, dollars, seconds in (
            (
                getattr(total.calls, end),
                getattr(total.completion_tokens, end),
                getattr(total.prompt_tokens, end),
                getattr(total.dollars, end) if total.dollars else None,
                getattr(plan.seconds, end) if plan.seconds else None,
            )
            for end in ("high", "likely")
        )
    )
    return Figures(high, likely)  # type: ignore[arg-type]  # mypy widens the keys of a dict in a generator to str


def exceeded(found: Figures, caps: tuple[Cap, ...]) -> Cap | None:
    """Return the first cap that is passed; an unknown figure passes every cap on it."""
    for cap in caps:
        figure = found.of(cap)
        if figure is None or figure > cap.most:
            return cap
    return None


def read_caps(data: object, place: Place) -> tuple[Cap, ...]:
    """Read `{calls: 40, dollars: 0.01, tokens: {at_most: 9000, by: likely}}`; raises `SpecError`."""
    if not isinstance(data, dict):
        raise place.error("caps are a mapping such as {calls: 40, dollars: 0.01}.")
    caps: list[Cap] = []
    for name, written in data.items():
        here = place.at(name)
        if name not in _UNITS:
            raise place.unknown("cap", name, _UNITS)
        entry = written if isinstance(written, dict) else {"at_most": written}
        most, by = entry.get("at_most"), entry.get("by", "high")
        if isinstance(most, bool) or not isinstance(most, int | float | Decimal) or not most >= 0:
            raise here.error(f"a cap is a number from 0 up, not {most!r}.")
        if by not in get_args(Estimate) or not {*entry} <= {"at_most", "by"}:
            raise here.error("a cap is a number, or {at_most: number, by: high} or {at_most: number, by: likely}.")
        caps.append(Cap(name, Decimal(str(most)), by))
    return tuple(caps)


def _number(value: float | None) -> Decimal | None:
    return None if value is None or value == float("inf") else Decimal(str(value))


def _depth(spec: ArchitectureSpec) -> int:
    """Nodes on the longest way; a loop counts as often as it may run, a nested architecture as deep as it is."""
    until: dict[str, int] = {}
    for node in spec.ordered:
        own = 1
        if node.kind != "technique":
            own = node.max * _depth(node.body) if node.kind == "loop" else _depth(node.spec)
        until[node.id] = own + max((until[name] for name in node.after), default=0)
    return max(until[name] for name in spec.output)
