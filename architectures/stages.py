"""The cut of a graph into stages: where waiting for everything costs nothing, and who waits for whom in between.

A LangGraph superstep is a barrier. A barrier between two nodes is free only where the later needs all that came
before; so the graph is cut exactly there, and inside a stage every node starts as soon as its own predecessors are
done (docs/decisions/0002-stages.md has the measurements).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from architectures.structure import ancestors

if TYPE_CHECKING:
    from architectures.spec import AnyNode

__all__ = ["Stage", "stages"]


class Stage(NamedTuple):
    """Nodes between two free barriers, by their numbers in the canonical order."""

    nodes: tuple[int, ...]
    waits: Mapping[int, tuple[int, ...]]
    """For each node that waits inside the stage: for which others of it, in their order."""


def stages(nodes: Sequence[AnyNode]) -> tuple[Stage, ...]:
    """Cut nodes in canonical order into stages."""
    before = ancestors(nodes)
    depth = _depths(nodes)
    cut: list[list[int]] = [[]]
    done = 0
    for level in range(max(depth) + 1):
        here = [index for index in range(len(nodes)) if depth[index] == level]
        if level and all(before[index] == done for index in here):
            cut.append([])
        cut[-1].extend(here)
        done |= sum(1 << index for index in here)
    return tuple(_stage(nodes, sorted(numbers)) for numbers in cut)


def _depths(nodes: Sequence[AnyNode]) -> list[int]:
    """Count, for each node, the nodes of the longest way to it."""
    depths: dict[str, int] = {}
    for node in nodes:
        depths[node.id] = 1 + max((depths[name] for name in node.after), default=-1)
    return list(depths.values())


def _stage(nodes: Sequence[AnyNode], numbers: list[int]) -> Stage:
    position = {nodes[index].id: index for index in numbers}
    inside = {index: tuple(sorted(position[n] for n in nodes[index].after if n in position)) for index in numbers}
    return Stage(tuple(numbers), {index: earlier for index, earlier in inside.items() if earlier})
