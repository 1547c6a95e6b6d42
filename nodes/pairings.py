"""Pairings: who meets whom in a tournament; players are their seeds, 0 for the best."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

__all__ = ["Method", "Pair", "knockout_round", "matches", "rounds", "swiss_round"]

Method = Literal["knockout", "swiss"]


class Pair(NamedTuple):
    """Two players who meet."""

    better: int
    other: int


def rounds(count: int) -> int:
    """Return the number of rounds among so many players."""
    return math.ceil(math.log2(count)) if count > 1 else 0


def matches(count: int, method: Method) -> int:
    """Return the number of matches in all rounds."""
    if count < 2:
        return 0
    return count - 1 if method == "knockout" else count // 2 * rounds(count)


def knockout_round(alive: Sequence[int]) -> list[Pair]:
    """Pair the best with the last, the second with the last but one, and so on.

    Where the number left is no power of 2, the best have no match in this round, and a power of 2 is left after it.
    """
    size = 2 ** rounds(len(alive))
    return [Pair(alive[place], alive[size - 1 - place]) for place in range(size // 2) if size - 1 - place < len(alive)]


def swiss_round(points: Sequence[int], met: Collection[Pair], rested: Collection[int]) -> list[Pair]:
    """Pair neighbours in the standings, if possible such as have not met.

    With an odd number of players one is left over: the last in the standings that has not rested before.
    """
    order = sorted(range(len(points)), key=lambda seed: (-points[seed], seed))
    if len(order) % 2:
        resting = next((seed for seed in reversed(order) if seed not in rested), order[-1])
        order.remove(resting)
    pairs = _neighbours(order, met)
    again = next((place for place, pair in enumerate(pairs) if pair in met), 0)
    # Where only such as have met are left, the pairs above them are made anew, from the last one up.
    for kept in range(again - 1, -1, -1):
        settled = {seed for pair in pairs[:kept] for seed in pair}
        found = _strangers([seed for seed in order if seed not in settled], met)
        if found is not None:
            return [*pairs[:kept], *found]
    return pairs


def _neighbours(order: Sequence[int], met: Collection[Pair]) -> list[Pair]:
    """Pair each with the next that it has not met; with the next, where it has met all."""
    left = list(order)
    pairs = []
    while left:
        first = left.pop(0)
        second = next((seed for seed in left if _pair(first, seed) not in met), left[0])
        left.remove(second)
        pairs.append(_pair(first, second))
    return pairs


def _strangers(order: Sequence[int], met: Collection[Pair]) -> list[Pair] | None:
    """Pair all with such as they have not met, neighbours if possible; None where that cannot be."""
    if not order:
        return []
    first, *others = order
    for second in others:
        if _pair(first, second) not in met:
            rest = _strangers([seed for seed in others if seed != second], met)
            if rest is not None:
                return [_pair(first, second), *rest]
    return None


def _pair(one: int, other: int) -> Pair:
    return Pair(min(one, other), max(one, other))
