"""The embedded models' forward pass in PyTorch: the engine, its batches and its draws stay as they are, on a GPU.

`install` puts it in the place of NumPy's in this process. Numbers are float32 throughout (no TF32), so logits differ
from NumPy's in the last bits, as they also do between two kinds of processor (`providers/embedded/forward.py`); a text
differs where a draw falls between the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from providers.embedded import worker

if TYPE_CHECKING:
    from torch import Tensor

    from providers.embedded.attention import Chunk
    from providers.embedded.config import LlamaConfig
    from providers.embedded.forward import I64
    from providers.embedded.weights import F32, LlamaWeights

__all__ = ["install"]

_CHUNK = 512
"""Prompt tokens that one pass takes: a pass is a fixed number of launches, so more than NumPy's 128."""


def install(device: str) -> None:
    """Let all engines that are started in this process from now on compute on a device."""
    torch.set_num_threads(1)
    here = torch.device(device)
    worker.KvArena = lambda slots, config: Arena(slots, config, here)
    worker.Forward = Forward
    worker.CHUNK = _CHUNK


class Arena:
    """Keys and values of all slots, (slot, layer, key or value, head, position, head_dim), on a device."""

    def __init__(self, slots: int, config: LlamaConfig, device: torch.device) -> None:
        shape = (slots, config.layers, 2, config.kv_heads, config.context, config.head_dim)
        self.data = torch.zeros(shape, device=device)

    def load(self, slot: int, stored: Tensor) -> None:
        """Copy the keys and values of a prompt, (layer, 2, head, length, head_dim), to the start of a slot."""
        self.data[slot, :, :, :, : stored.shape[-2]] = stored

    def copy_out(self, slot: int, length: int) -> Tensor:
        """Return a copy of the first `length` positions of a slot."""
        return self.data[slot, :, :, :, :length].clone()

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a sequence to another slot."""
        self.load(target, self.data[source, :, :, :, :length])

    def touch(self, slot: int, length: int) -> None:
        """Nothing is committed page by page here."""

    def release(self, slot: int) -> None:
        """What a freed slot holds is overwritten or masked."""


class Forward:
    """Passes over an arena; used by one thread."""

    def __init__(self, weights: LlamaWeights, config: LlamaConfig, arena: Arena, max_batch: int) -> None:
        self._config, self._arena, device = config, arena, arena.data.device
        self._embedding, self._head, self._turns = (
            torch.from_numpy(matrix).to(device) for matrix in (weights.embedding, weights.head, weights.rotation)
        )
        self._layers = [[torch.from_numpy(matrix).to(device) for matrix in layer] for layer in weights.layers]
        self._ramp = torch.arange(max(config.context, max_batch), device=device)

    def run(self, tokens: I64, positions: I64, chunk: Chunk | None = None) -> F32:
        """Feed a token to each of the slots 0..n-1 and a chunk to a slot of its own; the logits are as in NumPy's."""
        slots, config, device = len(tokens), self._config, self._arena.data.device
        if chunk is not None:
            tokens = np.concatenate([tokens, chunk.tokens])
            positions = np.concatenate([positions, np.arange(chunk.start, chunk.start + len(chunk.tokens))])
        fed, places = torch.from_numpy(np.stack([tokens, positions])).to(device)
        rows, heads = len(fed), config.heads + 2 * config.kv_heads
        x, turn = self._embedding[fed], self._turns[places][:, None]
        # The longest past among the slots; the chunk's own rows come last.
        hidden = self._hidden(places[:slots], int(positions[:slots].max()) + 1) if slots else None
        ahead = self._hidden(places[slots:], int(positions[-1]) + 1) if chunk is not None else None
        for index, (qkv, out, gate_up, down) in enumerate(self._layers):
            mixed = (self._norm(x) @ qkv).view(rows, heads, config.head_dim)
            pairs = torch.view_as_complex(mixed.view(rows, heads, -1, 2)[:, : config.heads + config.kv_heads])
            pairs.mul_(turn)
            parts = []
            if hidden is not None:
                parts.append(self._over_slots(index, mixed[:slots], places[:slots], hidden))
            if chunk is not None and ahead is not None:
                parts.append(self._over_chunk(index, mixed[slots:], chunk, ahead))
            x = torch.addmm(x, torch.cat(parts) if len(parts) > 1 else parts[0], out)
            # Both halves are stored negated: silu(g)·u = silu(-(-g)) · -(-u).
            gate, up = (self._norm(x) @ gate_up).neg_().chunk(2, dim=-1)
            x = torch.addmm(x, torch.nn.functional.silu(gate) * up, down)
        last = x[:slots] if chunk is None else torch.cat([x[:slots], x[-1:]])
        return np.asarray((self._norm(last) @ self._head).cpu().numpy())

    def _norm(self, x: Tensor) -> Tensor:
        return torch.nn.functional.rms_norm(x, (self._config.hidden,), eps=self._config.norm_eps)

    def _hidden(self, places: Tensor, width: int) -> Tensor:
        """Return -inf where a position lies behind a row's own, rows × width."""
        behind = self._ramp[:width] > places[:, None]
        return torch.zeros(behind.shape, device=behind.device).masked_fill_(behind, float("-inf"))

    def _over_slots(self, layer: int, mixed: Tensor, places: Tensor, hidden: Tensor) -> Tensor:
        count, config = len(mixed), self._config
        data, width = self._arena.data[:count, layer], hidden.shape[-1]
        new = mixed[:, config.heads :].view(count, 2, config.kv_heads, config.head_dim)
        data.permute(0, 3, 1, 2, 4)[self._ramp[:count], places] = new
        queries = mixed[:, : config.heads].reshape(count, config.kv_heads, -1, config.head_dim)
        scores = queries @ data[:, 0, :, :width].transpose(-1, -2) + hidden[:, None, None]
        return (scores.softmax(-1) @ data[:, 1, :, :width]).reshape(count, -1)

    def _over_chunk(self, layer: int, mixed: Tensor, chunk: Chunk, hidden: Tensor) -> Tensor:
        count, config = len(mixed), self._config
        region, width = self._arena.data[chunk.slot, layer], hidden.shape[-1]
        new = mixed[:, config.heads :].view(count, 2, config.kv_heads, config.head_dim)
        region[:, :, chunk.start : chunk.start + count] = new.permute(1, 2, 0, 3)
        queries = mixed[:, : config.heads].view(count, config.kv_heads, -1, config.head_dim).permute(1, 2, 0, 3)
        flat = queries.reshape(config.kv_heads, -1, config.head_dim)
        scores = (flat @ region[0, :, :width].transpose(-1, -2)).view(config.kv_heads, -1, count, width) + hidden
        weights = scores.softmax(-1).view(config.kv_heads, -1, width)
        by_head = (weights @ region[1, :, :width]).view(config.kv_heads, -1, count, config.head_dim)
        return by_head.permute(2, 0, 1, 3).reshape(count, -1)
