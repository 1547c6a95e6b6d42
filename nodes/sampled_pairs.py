"""Pairs of responses to compare where all pairs are too many: spread evenly, the same on every machine."""

from __future__ import annotations

import hashlib
import random

__all__ = ["pair_count", "sampled_pairs"]


def pair_count(count: int, most: int | None) -> int:
    """Return how many pairs of so many responses are compared; None for all."""
    every = count * (count - 1) // 2 if count > 1 else 0
    return every if most is None else min(most, every)


def sampled_pairs(count: int, most: int | None, key: str) -> list[tuple[int, int]]:
    """Return up to `most` different pairs of 0..count - 1, drawn from `key`; a longer list begins with the shorter one.

    The responses are set in a ring, in an order that the key decides (so that neighbours are not samples of one model),
    and compared first with their neighbours, then two places on, and so on. Every response has its turn equally often,
    give or take two, as often in the first place as in the second, and from count - 1 pairs on each is linked with
    every other one.
    """
    source = random.Random(int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big"))
    ring = source.sample(range(count), count)
    pairs = []
    for distance in range(1, count // 2 + 1):
        # Opposite places of an even ring would meet twice.
        steps = count // 2 if 2 * distance == count else count
        pairs += [(ring[place], ring[(place + distance) % count]) for place in range(steps)]
    return pairs[: pair_count(count, most)]
