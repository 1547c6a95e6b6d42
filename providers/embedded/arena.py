"""Memory for keys and values: one region a slot, reserved at once, committed by the system page by page as it fills."""

from __future__ import annotations

import mmap

import numpy as np

from providers.embedded.config import LlamaConfig
from providers.embedded.weights import F32

__all__ = ["KvArena", "round_up"]

_KEEP = 384
"""Tokens whose pages a slot keeps when it is freed; what a longer sequence touched goes back to the system."""


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple that is not below `value`."""
    return -(-value // multiple) * multiple


class KvArena:
    """Keys and values of `slots` sequences, (slot, layer, key or value, head, position, head_dim).

    The memory is an anonymous map and not a NumPy allocation, because NumPy asks for huge pages, which would
    commit every region to its full length with its first token.
    """

    def __init__(self, slots: int, config: LlamaConfig) -> None:
        self.length = max(64, round_up(config.context, 32))
        shape = (slots, config.layers, 2, config.kv_heads, self.length, config.head_dim)
        self._stride = 4 * int(np.prod(shape[1:]))
        self._map = mmap.mmap(-1, slots * self._stride, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.data: F32 = np.frombuffer(self._map, dtype=np.float32).reshape(shape)
        self._touched = [0] * slots

    def touch(self, slot: int, length: int) -> None:
        """Note that a slot's first `length` positions hold data."""
        self._touched[slot] = max(self._touched[slot], length)

    def load(self, slot: int, stored: F32) -> None:
        """Copy the keys and values of a prompt, (layer, 2, head, length, head_dim), to the start of a slot."""
        length = stored.shape[-2]
        self.data[slot, :, :, :, :length] = stored
        self.touch(slot, length)

    def copy_out(self, slot: int, length: int) -> F32:
        """Return a copy of the first `length` positions of a slot."""
        return self.data[slot, :, :, :, :length].copy()

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a sequence to another slot."""
        self.load(target, self.data[source, :, :, :, :length])

    def release(self, slot: int) -> None:
        """Take note that a slot is free; a long one gives its pages back (they read as zeros afterwards)."""
        if self._touched[slot] <= _KEEP or self._stride % mmap.PAGESIZE:
            return
        self._map.madvise(mmap.MADV_DONTNEED, slot * self._stride, self._stride)
        self._touched[slot] = 0
