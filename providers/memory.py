"""The hot part of the cache: the samples used last, in memory, bounded by their weight."""

from __future__ import annotations

from collections import OrderedDict

from providers.codec import Stored

__all__ = ["Memory"]


class Memory:
    """A least-recently-used map from key to sample; `limit` is in bytes, roughly."""

    def __init__(self, limit: int = 64 * 2**20) -> None:
        self._limit = limit
        self._weight = 0
        self._samples: OrderedDict[str, Stored] = OrderedDict()

    def get(self, key: str) -> Stored | None:
        """Return a sample and count it as used."""
        stored = self._samples.get(key)
        if stored is not None:
            self._samples.move_to_end(key)
        return stored

    def put(self, stored: Stored) -> None:
        """Keep a sample; the longest unused ones make room."""
        old = self._samples.pop(stored.key, None)
        if old is not None:
            self._weight -= old.weight
        self._samples[stored.key] = stored
        self._weight += stored.weight
        while self._weight > self._limit and self._samples:
            _, dropped = self._samples.popitem(last=False)
            self._weight -= dropped.weight

    def __len__(self) -> int:
        return len(self._samples)
