"""The forward pass of a Llama decoder in NumPy: a chunk of one prompt, or one token of each of many sequences.

A step has a multiple of 16 rows, a chunk a multiple of 8, 32 at least, and scores are padded to multiples of 32
positions, 64 at least. At these shapes the AVX-512 kernels of OpenBLAS give a row the same bits whatever the rows beside it and however many
(smaller products take other kernels), which is why a sample's text does not depend on what shares its batch, nor on
which beginnings of a prompt were read before. Its AVX2 kernels treat every second half dozen of rows differently, in
the last bit. Buffers are allocated once; a step allocates next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from providers.embedded.arena import KvArena, round_up
from providers.embedded.config import LlamaConfig
from providers.embedded.weights import F32, LlamaWeights

__all__ = ["CHUNK", "ROWS", "Forward"]

ROWS = 16
"""Rows of a step are padded to multiples of this."""
CHUNK = 128
"""Prompt tokens that one pass takes."""
_CHUNK_ROWS = 32

I64 = npt.NDArray[np.int64]
_Attend = Callable[[int, F32, F32], None]


def _width(positions: int) -> int:
    return max(64, round_up(positions, 32))


class Forward:
    """Buffers and passes over shared weights and an arena; used by one thread."""

    def __init__(self, weights: LlamaWeights, config: LlamaConfig, arena: KvArena, max_batch: int) -> None:
        self._weights, self._config, self._arena = weights, config, arena
        rows = max(round_up(max_batch, ROWS), CHUNK)
        self._heads = config.heads + 2 * config.kv_heads
        self._x = np.empty((rows, config.hidden), np.float32)
        self._normed = np.empty_like(self._x)
        self._delta = np.empty_like(self._x)
        self._squares = np.empty(rows, np.float32)
        self._qkv = np.empty((rows, self._heads * config.head_dim), np.float32)
        self._turn = np.empty((rows, config.head_dim // 2), np.complex64)
        self._queries = np.empty(rows * config.heads * config.head_dim, np.float32)
        self._mixed = np.empty_like(self._queries)
        self._attended = np.empty((rows, config.heads * config.head_dim), np.float32)
        self._scores = np.empty(rows * config.heads * arena.length, np.float32)
        self._peak = np.empty(rows * config.heads, np.float32)
        self._gate_up = np.empty((rows, 2 * config.intermediate), np.float32)
        self._gated = np.empty((rows, config.intermediate), np.float32)
        self._logits = np.empty((rows, config.vocab), np.float32)
        self._mask = np.empty(rows * arena.length, np.float32)
        self._ones = np.ones(arena.length, np.float32)
        self._ramp = np.arange(arena.length, dtype=np.int64)
        self._row_index = np.arange(rows, dtype=np.int64)

    def decode(self, tokens: I64, positions: I64) -> F32:
        """Feed one token to each of the slots 0..n-1 (n a multiple of `ROWS`); return logits (n, vocab).

        The result is a view of a buffer that the next pass overwrites.
        """
        count = len(tokens)
        width = _width(int(positions.max()) + 1)
        mask = self._mask[: count * width].reshape(count, 1, 1, width)
        self._fill_mask(mask[:, 0, 0], positions)

        def attend(layer: int, qkv: F32, out: F32) -> None:
            self._attend_batch(layer, qkv, out, positions, mask)

        x = self._run(tokens, positions, attend)
        return self._head(x, self._logits[:count])

    def prefill(self, tokens: I64, start: int, slot: int) -> F32:
        """Feed a prompt's tokens from position `start`, at most `CHUNK`, into a slot; return the last one's logits."""
        count = len(tokens)
        rows = max(_CHUNK_ROWS, round_up(count, 8))
        padded = np.zeros(rows, np.int64)
        padded[:count] = tokens
        positions = np.minimum(np.arange(start, start + rows), start + count - 1)
        width = _width(start + count)
        mask = self._mask[: rows * width].reshape(rows, width)
        self._fill_mask(mask, positions)
        self._arena.touch(slot, start + count)

        def attend(layer: int, qkv: F32, out: F32) -> None:
            self._attend_chunk(layer, qkv, out, (slot, start, count), mask)

        x = self._run(padded, positions, attend)
        logits: F32 = self._head(x[count - 1 : count], self._logits[:1])[0]
        return logits

    def _fill_mask(self, mask: F32, positions: I64) -> None:
        np.copyto(mask, np.float32(0.0))
        np.copyto(mask, np.float32(-np.inf), where=self._ramp[: mask.shape[1]] > positions[:, None])

    def _run(self, tokens: I64, positions: I64, attend: _Attend) -> F32:
        """Run the layers over rows of tokens; returns the residual stream (rows, hidden)."""
        rows, config = len(tokens), self._config
        x, normed, delta = self._x[:rows], self._normed[:rows], self._delta[:rows]
        qkv, attended = self._qkv[:rows], self._attended[:rows]
        turned = qkv.reshape(rows, self._heads, config.head_dim)[:, : config.heads + config.kv_heads]
        pairs = turned.view(np.complex64)
        turn = self._turn[:rows]
        np.take(self._weights.rotation, positions, axis=0, out=turn, mode="clip")
        np.take(self._weights.embedding, tokens, axis=0, out=x, mode="clip")
        for index, layer in enumerate(self._weights.layers):
            np.matmul(self._norm(x, normed), layer.qkv, out=qkv)
            np.multiply(pairs, turn[:, None], out=pairs)
            attend(index, qkv, attended)
            np.add(x, np.matmul(attended, layer.out, out=delta), out=x)
            np.matmul(self._norm(x, normed), layer.gate_up, out=self._gate_up[:rows])
            np.add(x, np.matmul(self._gate(rows), layer.down, out=delta), out=x)
        return x

    def _norm(self, x: F32, out: F32) -> F32:
        """RMSNorm without its gain, which is folded into the matrix that follows."""
        squares = self._squares[: len(x)]
        np.vecdot(x, x, out=squares)
        np.multiply(squares, np.float32(1.0 / self._config.hidden), out=squares)
        np.add(squares, np.float32(self._config.norm_eps), out=squares)
        np.sqrt(squares, out=squares)
        return np.divide(x, squares[:, None], out=out)

    def _gate(self, rows: int) -> F32:
        """SwiGLU of the negated gate and up that the fused matrix yields."""
        negated, gated = self._gate_up[:rows], self._gated[:rows]
        gate, up = negated[:, : self._config.intermediate], negated[:, self._config.intermediate :]
        np.exp(gate, out=gated)
        np.add(gated, np.float32(1.0), out=gated)
        np.divide(gate, gated, out=gated)
        return np.multiply(gated, up, out=gated)

    def _head(self, x: F32, out: F32) -> F32:
        return np.matmul(self._norm(x, self._normed[: len(x)]), self._weights.head, out=out)

    def _attend_batch(self, layer: int, qkv: F32, out: F32, positions: I64, mask: F32) -> None:
        """Attention of one token a slot over the slot's own past."""
        config, count, width = self._config, len(qkv), mask.shape[-1]
        data, query_width = self._arena.data, config.heads * config.head_dim
        new = qkv[:, query_width:].reshape(count, 2, config.kv_heads, config.head_dim)
        data[self._row_index[:count], layer, :, :, positions] = new
        queries = qkv[:, :query_width].reshape(count, config.kv_heads, -1, config.head_dim)
        scores = self._scores[: count * config.heads * width].reshape(count, config.kv_heads, -1, width)
        np.matmul(queries, data[:count, layer, 0, :, :width].swapaxes(-1, -2), out=scores)
        np.add(scores, mask, out=scores)
        total = self._exponentiate(scores)
        mixed = out.reshape(queries.shape)
        np.matmul(scores, data[:count, layer, 1, :, :width], out=mixed)
        by_head = out.reshape(-1, config.head_dim)
        np.divide(by_head, total[:, None], out=by_head)

    def _attend_chunk(self, layer: int, qkv: F32, out: F32, place: tuple[int, int, int], mask: F32) -> None:
        """Attention of consecutive tokens of one slot over the slot's past and each other."""
        config, rows, width = self._config, len(qkv), mask.shape[-1]
        slot, start, count = place
        query_width = config.heads * config.head_dim
        new = qkv[:count, query_width:].reshape(count, 2, config.kv_heads, config.head_dim)
        region = self._arena.data[slot, layer]
        region[:, :, start : start + count] = new.transpose(1, 2, 0, 3)
        grouped = (config.kv_heads, config.heads // config.kv_heads, rows, config.head_dim)
        queries = self._queries[: rows * query_width].reshape(grouped)
        mixed = self._mixed[: rows * query_width].reshape(grouped)
        queries[...] = qkv[:, :query_width].reshape(rows, *grouped[:2], -1).transpose(1, 2, 0, 3)
        scores = self._scores[: config.heads * rows * width].reshape(*grouped[:3], width)
        flat = (config.kv_heads, -1, config.head_dim)
        np.matmul(queries.reshape(flat), region[0, :, :width].swapaxes(-1, -2), out=scores.reshape(*flat[:2], width))
        np.add(scores, mask, out=scores)
        total = self._exponentiate(scores)
        np.matmul(scores.reshape(*flat[:2], width), region[1, :, :width], out=mixed.reshape(flat))
        by_head = mixed.reshape(-1, config.head_dim)
        np.divide(by_head, total[:, None], out=by_head)
        out.reshape(rows, *grouped[:2], -1)[...] = mixed.transpose(2, 0, 1, 3)

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
