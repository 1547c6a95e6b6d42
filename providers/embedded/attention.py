"""Attention over the arena: for one token of each slot, and for consecutive tokens of one slot."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from providers.embedded.arena import KvArena, round_up
from providers.embedded.config import LlamaConfig
from providers.embedded.weights import F32

__all__ = ["Attention", "Chunk", "padded_rows"]

I64 = npt.NDArray[np.int64]


class Chunk(NamedTuple):
    """Consecutive tokens of a prompt, to be read into a slot from position `start` on."""

    tokens: I64
    start: int
    slot: int


def padded_rows(count: int) -> int:
    """Return the rows that a chunk of so many tokens takes."""
    return max(32, round_up(count, 8))


def _width(positions: int) -> int:
    return max(64, round_up(positions, 32))


class Attention:
    """Buffers for one pass at a time; used by one thread.

    `mask_slots` and `mask_chunk` prepare a pass; then, for every layer, `over_slots` and `over_chunk` take rows of
    queries, keys and values side by side, store the keys and values, and write the mixed values to `out`.
    """

    def __init__(self, config: LlamaConfig, arena: KvArena, rows: int) -> None:
        self._config, self._arena = config, arena
        self._width = config.heads * config.head_dim
        self._queries = np.empty(rows * self._width, np.float32)
        self._mixed = np.empty_like(self._queries)
        self._scores = np.empty(rows * config.heads * arena.length, np.float32)
        self._peak = np.empty(rows * config.heads, np.float32)
        self._masks = (np.empty(rows * arena.length, np.float32), np.empty(rows * arena.length, np.float32))
        self._slot_mask: F32 = self._masks[0]
        self._chunk_mask: F32 = self._masks[1]
        self._ones = np.ones(arena.length, np.float32)
        self._ramp = np.arange(arena.length, dtype=np.int64)

    def mask_slots(self, positions: I64) -> None:
        """Hide from each slot's token what lies behind its position."""
        width = _width(int(positions.max()) + 1)
        mask = self._masks[0][: len(positions) * width].reshape(len(positions), 1, 1, width)
        self._fill(mask[:, 0, 0], positions)
        self._slot_mask = mask

    def mask_chunk(self, chunk: Chunk, positions: I64) -> None:
        """Hide from each of a chunk's rows what lies behind its position."""
        width = _width(chunk.start + len(chunk.tokens))
        self._chunk_mask = self._masks[1][: len(positions) * width].reshape(len(positions), width)
        self._fill(self._chunk_mask, positions)

    def over_slots(self, layer: int, qkv: F32, out: F32, positions: I64) -> None:
        """Attention of one token a slot, row i being slot i, over the slot's own past."""
        config, count, width = self._config, len(qkv), self._slot_mask.shape[-1]
        data = self._arena.data
        new = qkv[:, self._width :].reshape(count, 2, config.kv_heads, config.head_dim)
        data[self._ramp[:count], layer, :, :, positions] = new
        queries = qkv[:, : self._width].reshape(count, config.kv_heads, -1, config.head_dim)
        scores = self._scores[: count * config.heads * width].reshape(count, config.kv_heads, -1, width)
        np.matmul(queries, data[:count, layer, 0, :, :width].swapaxes(-1, -2), out=scores)
        np.add(scores, self._slot_mask, out=scores)
        total = self._exponentiate(scores)
        np.matmul(scores, data[:count, layer, 1, :, :width], out=out.reshape(queries.shape))
        by_head = out.reshape(-1, config.head_dim)
        np.divide(by_head, total[:, None], out=by_head)

    def over_chunk(self, layer: int, qkv: F32, out: F32, chunk: Chunk) -> None:
        """Attention of a chunk's rows over the slot's past and each other."""
        config, rows, width = self._config, len(qkv), self._chunk_mask.shape[-1]
        count = len(chunk.tokens)
        new = qkv[:count, self._width :].reshape(count, 2, config.kv_heads, config.head_dim)
        region = self._arena.data[chunk.slot, layer]
        region[:, :, chunk.start : chunk.start + count] = new.transpose(1, 2, 0, 3)
        groups, flat = config.heads // config.kv_heads, (config.kv_heads, -1, config.head_dim)
        queries = self._queries[: rows * self._width].reshape(config.kv_heads, groups, rows, config.head_dim)
        mixed = self._mixed[: rows * self._width].reshape(queries.shape)
        queries[...] = qkv[:, : self._width].reshape(rows, config.kv_heads, groups, -1).transpose(1, 2, 0, 3)
        scores = self._scores[: config.heads * rows * width].reshape(config.kv_heads, groups, rows, width)
        by_group = scores.reshape(config.kv_heads, -1, width)
        np.matmul(queries.reshape(flat), region[0, :, :width].swapaxes(-1, -2), out=by_group)
        np.add(scores, self._chunk_mask, out=scores)
        total = self._exponentiate(scores)
        np.matmul(by_group, region[1, :, :width], out=mixed.reshape(flat))
        by_head = mixed.reshape(-1, config.head_dim)
        np.divide(by_head, total[:, None], out=by_head)
        out.reshape(rows, config.kv_heads, groups, -1)[...] = mixed.transpose(2, 0, 1, 3)

    def _fill(self, mask: F32, positions: I64) -> None:
        np.copyto(mask, np.float32(0.0))
        np.copyto(mask, np.float32(-np.inf), where=self._ramp[: mask.shape[1]] > positions[:, None])

    def _exponentiate(self, scores: F32) -> F32:
        """Turn scores into unnormalised weights in place and return each row's sum.

        The sum is a product with ones: its order of addition does not change with the padding, a reduction's does.
        """
        flat = scores.reshape(-1, scores.shape[-1])
        peak = self._peak[: len(flat)]
        np.max(flat, axis=-1, out=peak)
        np.subtract(flat, peak[:, None], out=flat)
        np.exp(flat, out=flat)
        return np.matmul(flat, self._ones[: flat.shape[1]], out=peak)
