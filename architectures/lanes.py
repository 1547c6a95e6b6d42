"""Lanes of sample indices for nodes that may race, so that which sample a node draws never depends on timing.

Equal requests of one question draw samples 0, 1, 2... in the order in which they are asked. That order is fixed where
one node follows another, and where both start in the same moment. Two nodes of the same technique and model that are
neither may ask in either order. So may two that both draw samples of the question (`Technique.draws_question`), also
where they start together if one of them draws later ones by what came before. Then the later in canonical order counts
in a lane of its own, from `LANE` on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from architectures.structure import ancestors

if TYPE_CHECKING:
    from architectures.spec import ArchitectureSpec

__all__ = ["LANE", "Lanes", "lanes"]

LANE: Final = 100_000
"""Distance between the first indices of two lanes; more samples than a node ever asks of one request."""

Lanes = Mapping[tuple[str, ...], int]
"""Lane by the ids on the way down to a technique; those in lane 0 are left out."""


class _Leaf(NamedTuple):
    path: tuple[str, ...]
    way: tuple[tuple[int, int], ...]
    """For each graph on the way down: its own number in it, and the set of what is done before it, as bits."""
    asks: frozenset[tuple[str, str]]
    """What it may ask that others ask as well: technique, or `generate` for all that draw like it, and model."""
    again: bool
    """Whether it asks that later than at its start, too."""
    start: tuple[object, ...] | None
    """Equal for nodes that start in the same moment; None inside a loop, which starts more than once."""


def lanes(spec: ArchitectureSpec) -> Lanes:
    """Give every technique, nested ones included, the first lane in which it cannot race."""
    given: dict[tuple[str, ...], int] = {}
    known: dict[tuple[str, str], list[_Leaf]] = {}
    for leaf in _leaves(spec, (), (), ()):
        rivals = {other.path for ask in leaf.asks for other in known.get(ask, ()) if _race(other, leaf)}
        taken = {given.get(path, 0) for path in rivals}
        lane = next(number for number in range(len(taken) + 1) if number not in taken)
        if lane:
            given[leaf.path] = lane
        for ask in leaf.asks:
            known.setdefault(ask, []).append(leaf)
    return given


def _leaves(
    spec: ArchitectureSpec,
    path: tuple[str, ...],
    way: tuple[tuple[int, int], ...],
    start: tuple[object, ...] | None,
) -> list[_Leaf]:
    before = ancestors(spec.ordered)
    leaves: list[_Leaf] = []
    for number, node in enumerate(spec.ordered):
        here = (*path, node.id)
        inner_way = (*way, (number, before[number]))
        at: tuple[object, ...] | None = (path, frozenset(node.after)) if node.after else start
        if start is None:
            at = None
        if node.kind == "technique":
            draws = node.settings.draws_question
            asks = frozenset((node.use if draws is None else "generate", model) for model in node.settings.models())
            leaves.append(_Leaf(here, inner_way, asks, draws == "later", at))
        elif node.kind == "loop":
            leaves.extend(_leaves(node.body, here, inner_way, None))
        else:
            leaves.extend(_leaves(node.spec, here, inner_way, at))
    return leaves


def _race(first: _Leaf, second: _Leaf) -> bool:
    if first.start is not None and first.start == second.start and not (first.again or second.again):
        return False
    for (one, _), (other, before) in zip(first.way, second.way, strict=False):
        if one != other:
            return not before >> one & 1
    return False
