"""The forward pass of a Llama decoder in NumPy: a token of each of many sequences, and a chunk of a prompt beside them.

Slots take a multiple of 16 rows, a chunk a multiple of 8, 32 at least, and scores are padded to multiples of 32
positions, 64 at least. At these shapes the AVX-512 kernels of OpenBLAS give a row the same bits whatever the rows
beside it and however many (smaller products take other kernels), which is why a sample's text does not depend on
what shares its batch, nor on which beginnings of a prompt were read before. Its AVX2 kernels treat every second half
dozen of rows differently, in the last bit. Buffers are allocated once; a step allocates next to nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from providers.embedded.arena import KvArena, round_up
from providers.embedded.attention import Attention, Chunk, padded_rows
from providers.embedded.config import LlamaConfig
from providers.embedded.weights import F32, LlamaWeights

__all__ = ["CHUNK", "ROWS", "Forward"]

ROWS = 16
"""The slots of a pass, and all its rows, are a multiple of this."""
CHUNK = 128
"""Prompt tokens that one pass takes."""

I64 = npt.NDArray[np.int64]


class Forward:
    """Buffers and passes over shared weights and an arena; used by one thread."""

    def __init__(self, weights: LlamaWeights, config: LlamaConfig, arena: KvArena, max_batch: int) -> None:
        self._weights, self._config, self._arena = weights, config, arena
        slots = round_up(max_batch, ROWS)
        rows = slots + CHUNK
        self._attention = Attention(config, arena, max(slots, CHUNK))
        self._heads = config.heads + 2 * config.kv_heads
        self._tokens = np.zeros(rows, np.int64)
        self._positions = np.zeros(rows, np.int64)
        self._turn = np.empty((rows, config.head_dim // 2), np.complex64)
        self._x = np.empty((rows, config.hidden), np.float32)
        self._normed = np.empty_like(self._x)
        self._delta = np.empty_like(self._x)
        self._squares = np.empty(rows, np.float32)
        self._qkv = np.empty((rows, self._heads * config.head_dim), np.float32)
        self._attended = np.zeros((rows, config.heads * config.head_dim), np.float32)
        self._gate_up = np.empty((rows, 2 * config.intermediate), np.float32)
        self._gated = np.empty((rows, config.intermediate), np.float32)
        self._last = np.empty((slots + ROWS, config.hidden), np.float32)
        self._logits = np.empty((slots + ROWS, config.vocab), np.float32)

    def run(self, tokens: I64, positions: I64, chunk: Chunk | None = None) -> F32:
        """Feed a token to each of the slots 0..n-1 (n a multiple of `ROWS` or 0) and a chunk to a slot of its own.

        Returns logits (n or n + 1, vocab): those of the slots, then those after the chunk's last token. They are a view
        of a buffer that the next pass overwrites.
        """
        count = len(tokens)
        self._tokens[:count], self._positions[:count] = tokens, positions
        rows = count if chunk is None else self._place(chunk, count)
        if count:
            self._attention.mask_slots(positions)
        x = self._layers(rows, count, chunk)
        wanted = count if chunk is None else count + 1
        last = self._last[: round_up(wanted, ROWS)]
        last[:count] = x[:count]
        if chunk is not None:
            last[count:] = x[count + len(chunk.tokens) - 1]
        logits = self._logits[: len(last)]
        np.matmul(self._norm(last, last), self._weights.head, out=logits)
        return logits[:wanted]

    def _place(self, chunk: Chunk, first: int) -> int:
        """Lay a chunk's tokens out behind the slots' rows; returns how many rows the pass has."""
        count, size = len(chunk.tokens), padded_rows(len(chunk.tokens))
        end = round_up(first + size, ROWS)
        self._tokens[first : first + count] = chunk.tokens
        self._tokens[first + count : end] = 0
        places = self._positions[first:end]
        np.minimum(np.arange(chunk.start, chunk.start + len(places)), chunk.start + count - 1, out=places)
        self._attention.mask_chunk(chunk, places[:size])
        self._arena.touch(chunk.slot, chunk.start + count)
        return end

    def _layers(self, rows: int, slots: int, chunk: Chunk | None) -> F32:
        """Run the layers over the rows laid out; returns the residual stream (rows, hidden)."""
        config, positions = self._config, self._positions[:rows]
        x, normed, delta = self._x[:rows], self._normed[:rows], self._delta[:rows]
        qkv, attended = self._qkv[:rows], self._attended[:rows]
        turned = qkv.reshape(rows, self._heads, config.head_dim)[:, : config.heads + config.kv_heads]
        pairs = turned.view(np.complex64)
        turn = self._turn[:rows]
        np.take(self._weights.rotation, positions, axis=0, out=turn, mode="clip")
        np.take(self._weights.embedding, self._tokens[:rows], axis=0, out=x, mode="clip")
        for index, layer in enumerate(self._weights.layers):
            np.matmul(self._norm(x, normed), layer.qkv, out=qkv)
            np.multiply(pairs, turn[:, None], out=pairs)
            if slots:
                self._attention.over_slots(index, qkv[:slots], attended[:slots], positions[:slots])
            if chunk is not None:
                own = slice(slots, slots + padded_rows(len(chunk.tokens)))
                self._attention.over_chunk(index, qkv[own], attended[own], chunk)
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
