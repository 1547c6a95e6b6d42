"""A layered layout, from top to bottom: rows by dependence, few crossings, each box near those it hangs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

__all__ = ["Layout", "Point", "Size", "lay_out"]

GAP_X: Final = 28.0
GAP_Y: Final = 44.0
_SWEEPS: Final = 24
_TIP: Final = 10.0
"""The last stretch of an arrow, which is straight."""
_PORT: Final = 22.0
"""Greatest distance between the ends of two arrows at one side of a box."""


class Size(NamedTuple):
    """Width and height."""

    width: float
    height: float


class Point(NamedTuple):
    """A place, from the top left."""

    x: float
    y: float


class Layout(NamedTuple):
    """Where boxes stand, and the points that each arrow goes through: straight and bending in turn, straight first."""

    corners: tuple[Point, ...]
    """The top left of each box."""
    routes: tuple[tuple[Point, ...], ...]
    size: Size


@dataclass(slots=True)
class _Rows:
    """Boxes and the bends of long arrows, in rows; a bend is a box without size."""

    sizes: list[Size]
    rows: list[list[int]]
    up: dict[int, list[int]] = field(default_factory=dict)
    down: dict[int, list[int]] = field(default_factory=dict)

    def link(self, tail: int, head: int) -> None:
        self.down.setdefault(tail, []).append(head)
        self.up.setdefault(head, []).append(tail)


def lay_out(sizes: Sequence[Size], arrows: Sequence[tuple[int, int]]) -> Layout:
    """Place boxes, given in order of dependence, so that every arrow goes down."""
    rows, chains = _in_rows(sizes, arrows)
    _order(rows)
    centres = _centres(rows)
    tops, heights = _heights(rows)
    left = min(centres[i] - rows.sizes[i].width / 2 for i in centres)
    centres = {index: x - left for index, x in centres.items()}
    width = max(centres[i] + rows.sizes[i].width / 2 for i in centres)
    row_of = {index: number for number, row in enumerate(rows.rows) for index in row}
    corners = tuple(
        Point(
            centres[index] - size.width / 2,
            tops[row_of[index]] + (heights[row_of[index]] - size.height) / 2,
        )
        for index, size in enumerate(sizes)
    )
    routes = _routes(rows, chains, corners, centres, tops, heights, row_of)
    return Layout(corners, routes, Size(width, tops[-1] + heights[-1]))


def _in_rows(sizes: Sequence[Size], arrows: Sequence[tuple[int, int]]) -> tuple[_Rows, list[list[int]]]:
    depth = [0] * len(sizes)
    for tail, head in sorted(arrows, key=lambda arrow: arrow[1]):
        depth[head] = max(depth[head], depth[tail] + 1)
    rows = _Rows(list(sizes), [[] for _ in range(max(depth, default=0) + 1)])
    for index, row in enumerate(depth):
        rows.rows[row].append(index)
    chains = []
    for tail, head in arrows:
        chain = [tail]
        for row in range(depth[tail] + 1, depth[head]):
            bend = len(rows.sizes)
            rows.sizes.append(Size(0, 0))
            rows.rows[row].append(bend)
            rows.link(chain[-1], bend)
            chain.append(bend)
        rows.link(chain[-1], head)
        chains.append([*chain, head])
    return rows, chains


def _order(rows: _Rows) -> None:
    """Order each row by where its neighbours stand (the barycentre method), down and up in turn."""
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        order = range(1, len(rows.rows)) if down else range(len(rows.rows) - 2, -1, -1)
        for number in order:
            near = rows.rows[number - 1 if down else number + 1]
            place = {index: float(at) for at, index in enumerate(near)}
            here = {index: float(at) for at, index in enumerate(rows.rows[number])}
            links = rows.up if down else rows.down
            rows.rows[number].sort(key=lambda i: _mean([place[j] for j in links.get(i, [])], here[i]))


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _centres(rows: _Rows) -> dict[int, float]:
    """Give each box the x of its neighbours' middle, as near as the order and the gaps of its row allow."""
    centres: dict[int, float] = {}
    for row in rows.rows:
        at = 0.0
        for index in row:
            centres[index] = at + rows.sizes[index].width / 2
            at += rows.sizes[index].width + GAP_X
        middle = (at - GAP_X) / 2
        centres.update({index: centres[index] - middle for index in row})
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in rows.rows if down else reversed(rows.rows):
            links: Sequence[Mapping[int, list[int]]] = (
                (rows.up, rows.down) if sweep >= _SWEEPS - 2 else ((rows.up,) if down else (rows.down,))
            )
            wanted = [
                _mean([centres[j] for link in links for j in link.get(index, [])], centres[index]) for index in row
            ]
            centres.update(zip(row, _apart(wanted, [rows.sizes[index].width for index in row]), strict=True))
    return centres


def _apart(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Move points as little as possible (least squares) so that boxes of these widths keep their order and gaps."""
    offsets = [0.0]
    for left, right in pairwise(widths):
        offsets.append(offsets[-1] + (left + right) / 2 + GAP_X)
    # With the gaps taken out, what is left is to be in rising order: pooled where neighbours would pass each other.
    pools: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        value, count = want - offset, 1
        while pools and pools[-1][0] > value:
            other, others = pools.pop()
            value, count = (value * count + other * others) / (count + others), count + others
        pools.append((value, count))
    flat = [value for value, count in pools for _ in range(count)]
    return [value + offset for value, offset in zip(flat, offsets, strict=True)]


def _heights(rows: _Rows) -> tuple[list[float], list[float]]:
    heights = [max(rows.sizes[index].height for index in row) for row in rows.rows]
    tops = [0.0]
    for height in heights[:-1]:
        tops.append(tops[-1] + height + GAP_Y)
    return tops, heights


def _routes(
    rows: _Rows,
    chains: Sequence[Sequence[int]],
    corners: Sequence[Point],
    centres: Mapping[int, float],
    tops: Sequence[float],
    heights: Sequence[float],
    row_of: Mapping[int, int],
) -> tuple[tuple[Point, ...], ...]:
    leaving = _ports(rows.down, rows, centres, len(corners))
    arriving = _ports(rows.up, rows, centres, len(corners))
    routes = []
    for chain in chains:
        tail, head = chain[0], chain[-1]
        x = leaving[tail, chain[1]]
        # Straight to the edge of the row, so that an arrow bends between rows only and never crosses a box.
        points = [
            Point(x, corners[tail].y + rows.sizes[tail].height),
            Point(x, tops[row_of[tail]] + heights[row_of[tail]]),
        ]
        for bend in chain[1:-1]:
            top = tops[row_of[bend]]
            points += [Point(centres[bend], top), Point(centres[bend], top + heights[row_of[bend]])]
        x = arriving[head, chain[-2]]
        points += [Point(x, tops[row_of[head]] - _TIP), Point(x, corners[head].y)]
        routes.append(tuple(points))
    return tuple(routes)


def _ports(
    links: Mapping[int, list[int]], rows: _Rows, centres: Mapping[int, float], count: int
) -> dict[tuple[int, int], float]:
    """Spread the ends of arrows along the side of a box, in the order of where they come from or go to."""
    ports: dict[tuple[int, int], float] = {}
    for index, others in links.items():
        if index >= count:
            continue
        step = min(_PORT, rows.sizes[index].width * 0.7 / max(1, len(others)))
        for at, other in enumerate(sorted(others, key=lambda j: centres[j])):
            ports[index, other] = centres[index] + (at - (len(others) - 1) / 2) * step
    return ports
