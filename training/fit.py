"""Trains one model on its shards: documents of like length side by side, bfloat16, compiled, AdamW on a cosine."""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.documents import ModelName
from training.model import Llama, Shape, after_attention, before_attention, normed, save_model
from training.shards import REPLY_WEIGHT, read_shard
from training.tokenizer import PAD

LENGTHS = (64, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024)
TOKENS_A_STEP = 92_160
"""Divisible by every length, so that the compiled parts see one shape only."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained."""

    shape: Shape
    steps: int
    rate: float
    shards: int


RECIPES: dict[ModelName, Recipe] = {
    "nano": Recipe(
        shape=Shape(hidden=128, layers=4, heads=4, kv_heads=4, feed_forward=384), steps=7000, rate=4e-3, shards=180
    ),
    "mini": Recipe(
        shape=Shape(hidden=256, layers=6, heads=8, kv_heads=4, feed_forward=640), steps=4000, rate=2.5e-3, shards=180
    ),
    "judge": Recipe(
        shape=Shape(hidden=256, layers=7, heads=8, kv_heads=4, feed_forward=576), steps=8000, rate=2.5e-3, shards=260
    ),
}


class Rows(NamedTuple):
    """Documents of one length class, padded to (documents, length)."""

    tokens: Tensor
    weights: Tensor


class Corpus:
    """The documents read so far, on the device, by length class."""

    def __init__(self, folder: Path, model: ModelName, device: torch.device) -> None:
        self._folder, self._model, self._device = folder, model, device
        self._read: set[Path] = set()
        self.rows: dict[int, Rows] = {}

    def read_more(self) -> int:
        """Read the shards that were written since; return how many there are."""
        fresh = sorted(set(self._folder.glob(f"{self._model}-*.npz")) - self._read)
        found: dict[int, list[Rows]] = {length: [rows] for length, rows in self.rows.items()}
        for path in fresh:
            for length, rows in _padded(path).items():
                found.setdefault(length, []).append(Rows(*(part.to(self._device) for part in rows)))
        if fresh:
            self.rows = {
                length: Rows(torch.cat([r.tokens for r in rows]), torch.cat([r.weights for r in rows]))
                for length, rows in found.items()
            }
        self._read |= set(fresh)
        return len(self._read)

    def batch(self, rng: np.random.Generator) -> Rows:
        """Draw a length class by its number of tokens, and documents of it at random."""
        lengths = sorted(self.rows)
        sizes = np.array([length * len(self.rows[length].tokens) for length in lengths], np.float64)
        length = lengths[rng.choice(len(lengths), p=sizes / sizes.sum())]
        rows = self.rows[length]
        picked = torch.from_numpy(rng.integers(0, len(rows.tokens), TOKENS_A_STEP // length)).to(self._device)
        return Rows(rows.tokens[picked].long(), rows.weights[picked].float() / REPLY_WEIGHT)


def _padded(path: Path) -> dict[int, Rows]:
    shard = read_shard(path)
    starts = np.concatenate(([0], shard.ends[:-1]))
    sizes = shard.ends - starts
    classes = np.array(LENGTHS)[np.searchsorted(LENGTHS, sizes)]
    found: dict[int, Rows] = {}
    for length in np.unique(classes):
        chosen = np.flatnonzero(classes == length)
        places = starts[chosen, None] + np.arange(length)
        inside = np.arange(length) < sizes[chosen, None]
        places = np.where(inside, places, 0)
        tokens = np.where(inside, shard.tokens[places], PAD).astype(np.int16)
        weights = np.where(inside, shard.weights[places], 0).astype(np.uint8)
        found[int(length)] = Rows(torch.from_numpy(tokens), torch.from_numpy(weights))
    return found


class Network:
    """The forward pass of training; everything but the attention runs on flat, equally long tensors."""

    def __init__(self, model: Llama, *, compiled: bool) -> None:
        self.model = model
        self._before = torch.compile(before_attention, dynamic=False) if compiled else before_attention
        self._after = torch.compile(after_attention, dynamic=False) if compiled else after_attention
        self._loss = torch.compile(_loss, dynamic=False) if compiled else _loss

    def loss(self, rows: Rows) -> Tensor:
        """Return the weighted mean cross-entropy of the next token, in nats."""
        model, (batch, length) = self.model, rows.tokens.shape
        x = functional.embedding(rows.tokens.flatten(), model.embedding).to(torch.bfloat16)
        cos, sin = (table[:length].repeat(batch, 1) for table in (model.cos, model.sin))
        for index in range(model.shape.layers):
            layer = model.layer(index)
            parts = self._before(x, layer, cos, sin, model.shape.head)
            q, k, v = (part.view(batch, length, -1, model.shape.head).transpose(1, 2) for part in parts)
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            x = self._after(x, mixed.transpose(1, 2).reshape(len(x), -1), layer)
        targets = rows.tokens.roll(-1, 1).flatten()
        weights = rows.weights.roll(-1, 1)
        weights[:, -1] = 0
        return self._loss(x, model.norm, model.embedding, targets, weights.flatten())


def _loss(x: Tensor, norm: Tensor, embedding: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    h = normed(x, norm)
    losses = functional.cross_entropy((h @ embedding.to(h.dtype).T).float(), targets, reduction="none")
    return (losses * weights).sum() / weights.sum().clamp_min(1)


def _warm(network: Network, device: torch.device) -> None:
    """Compile before the clock starts."""
    tokens = torch.ones(TOKENS_A_STEP // 128, 128, dtype=torch.long, device=device)
    for _ in range(2):
        network.loss(Rows(tokens, torch.ones_like(tokens).float())).backward()
    network.model.zero_grad(set_to_none=True)


def _rate(progress: float, step: int) -> float:
    warmup = min(1.0, (step + 1) / 200)
    return warmup * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def fit(name: ModelName, shards: Path, out: Path, *, recipe: Recipe, seconds: float, device: torch.device) -> None:
    """Train a model and save it; past `seconds` of training the schedule is cut short to end there."""
    torch.set_float32_matmul_precision("high")
    model = Llama(recipe.shape, seed=1).to(device)
    network = Network(model, compiled=device.type == "cuda")
    _warm(network, device)
    corpus, rng = Corpus(shards, name, device), np.random.default_rng(1)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": [p for p in model.parameters() if p.ndim < 2]}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.97), weight_decay=0.0, fused=True)
    while corpus.read_more() < min(16, recipe.shards):
        time.sleep(0.5)
    began = time.monotonic()
    step = 0
    while (progress := max(step / recipe.steps, (time.monotonic() - began) / seconds)) < 1:
        if step % 250 == 0:
            count = corpus.read_more()
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * _rate(progress, step)
        loss = network.loss(corpus.batch(rng))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 250 == 0:
            spent = time.monotonic() - began
            print(f"{name} step {step} loss {loss.item():.4f} shards {count} at {spent:.1f} s", flush=True)
        step += 1
    save_model(model, out)
    spent = time.monotonic() - began
    print(
        f"{name} done: {model.parameter_count()} weights, {step} steps, {spent:.1f} s, loss {loss.item():.4f}",
        flush=True,
    )


def main() -> None:
    """Train one model as a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=tuple(RECIPES))
    parser.add_argument("shards", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    recipe = RECIPES[arguments.model]
    fit(arguments.model, arguments.shards, arguments.out, recipe=recipe, seconds=arguments.seconds, device=device)


if __name__ == "__main__":
    main()
