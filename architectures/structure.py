"""What makes nodes a graph: known names, no cycle, nothing idle, and one order that does not depend on the writing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from architectures.places import Place

if TYPE_CHECKING:
    from architectures.spec import AnyNode, ArchitectureSpec

__all__ = ["ancestors", "check_graph", "check_names", "ordered"]


def check_graph(spec: ArchitectureSpec, place: Place | None = None) -> None:
    """Raise `SpecError` for a repeated or unknown node id, a cycle, or a node that leads nowhere."""
    place = place or Place(spec.name)
    known = [node.id for node in spec.nodes]
    for index, node_id in enumerate(known):
        if node_id in known[:index]:
            raise place.at("nodes").error(f"two nodes are called {node_id!r}; give each its own name.")
    check_names(place.at("output"), spec.output, known)
    for node in spec.nodes:
        check_names(place.at("nodes", node.id, "after"), node.after, known)
    reached = {node.id for node in _visit(spec, place)}
    idle = [node_id for node_id in known if node_id not in reached]
    if idle:
        _refuse_cycle(spec, place, idle)
        ends = ", ".join(repr(name) for name in spec.output)
        raise place.at("nodes", idle[0]).error(
            f"the output ({ends}) does not depend on it; name it in an 'after' or in 'output', or remove it."
        )


def ordered(spec: ArchitectureSpec) -> tuple[AnyNode, ...]:
    """Put every node after those it follows, by a walk from the output that goes through `after` in its order."""
    return tuple(_visit(spec, Place(spec.name)))


def ancestors(nodes: Sequence[AnyNode]) -> list[int]:
    """For nodes in `ordered` order: the set of those that must be done before each, as bits of an integer."""
    position = {node.id: index for index, node in enumerate(nodes)}
    sets: list[int] = []
    for node in nodes:
        bits = 0
        for name in node.after:
            bits |= sets[position[name]] | 1 << position[name]
        sets.append(bits)
    return sets


def check_names(place: Place, names: Sequence[str], known: Sequence[str]) -> None:
    """Raise `SpecError` for a name that is not known or stands there twice."""
    for index, name in enumerate(names):
        if name not in known:
            raise place.unknown("node", name, known)
        if name in names[:index]:
            raise place.error(f"{name!r} stands there twice.")


def _visit(spec: ArchitectureSpec, place: Place) -> list[AnyNode]:
    by_id = {node.id: node for node in spec.nodes}
    done: dict[str, AnyNode] = {}
    for end in spec.output:
        trail: list[str] = []
        todo: list[tuple[str, bool]] = [(end, False)]
        while todo:
            name, leaving = todo.pop()
            if leaving:
                trail.pop()
                done[name] = by_id[name]
            elif name in trail:
                raise _cycle(place, trail[trail.index(name) :])
            elif name not in done:
                trail.append(name)
                todo.append((name, True))
                todo.extend((before, False) for before in reversed(by_id[name].after))
    return list(done.values())


def _refuse_cycle(spec: ArchitectureSpec, place: Place, idle: Sequence[str]) -> None:
    by_id = {node.id: node for node in spec.nodes}
    for start in idle:
        trail = [start]
        while inside := [name for name in by_id[trail[-1]].after if name in idle]:
            if inside[0] in trail:
                raise _cycle(place, trail[trail.index(inside[0]) :])
            trail.append(inside[0])


def _cycle(place: Place, against: Sequence[str]) -> Exception:
    way = [*reversed(against)]
    return place.at("nodes").error(
        f"{' → '.join([way[-1], *way])} is a cycle; a repetition is written as a node with 'use: loop'."
    )
