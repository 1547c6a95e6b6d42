"""Samples from a model in batches with a key-value cache, to measure what was trained before it leaves the GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from training.model import Llama, after_attention, before_attention, load_model, normed
from training.tokenizer import ASSISTANT, CONTEXT, END, USER

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TOKENS_A_BATCH = 600_000


class Sampler:
    """A trained model with its tokenizer on a device, in float32."""

    def __init__(self, folder: Path, device: torch.device, seed: int = 0) -> None:
        from tokenizers import Tokenizer

        self._model: Llama = load_model(folder).to(device).eval()
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._device = device
        self._random = torch.Generator(device).manual_seed(seed)

    @torch.inference_mode()
    def sample(self, prompts: list[str], *, temperature: float = 0.8, most: int = 128) -> list[str]:
        """Return one reply to each prompt; with temperature 0 the likeliest."""
        replies: list[list[int]] = [[] for _ in prompts]
        for batch in self._batches(prompts, most):
            ids = [self._encoded(prompts[i])[most - CONTEXT :] for i in batch]
            for place, found in zip(batch, self._decode(ids, temperature, most), strict=True):
                replies[place] = found
        return self._tokenizer.decode_batch(replies, skip_special_tokens=True)

    @torch.inference_mode()
    def yes(self, prompts: list[str]) -> list[float]:
        """Return p(yes) / (p(yes) + p(no)) of the first token of the reply to each prompt."""
        words = [self._tokenizer.encode(word).ids[0] for word in (" yes", " no")]
        found = [0.0] * len(prompts)
        for batch in self._batches(prompts, 1):
            logits, _, _ = self._prefill([self._encoded(prompts[i])[-CONTEXT:] for i in batch], 1)
            chances = logits[:, words].softmax(-1)[:, 0].tolist()
            for place, chance in zip(batch, chances, strict=True):
                found[place] = chance
        return found

    def _encoded(self, prompt: str) -> list[int]:
        return [USER, *self._tokenizer.encode(prompt).ids, END, ASSISTANT]

    def _batches(self, prompts: list[str], most: int) -> list[list[int]]:
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        batches: list[list[int]] = [[]]
        for place in order:
            # a character is at least half a token in these prompts, so this is a safe measure of length
            if (len(batches[-1]) + 1) * (len(prompts[place]) + most) > _TOKENS_A_BATCH:
                batches.append([])
            batches[-1].append(place)
        return batches

    def _prefill(self, ids: list[list[int]], room: int) -> tuple[Tensor, Tensor, Tensor]:
        """Run the prompts; return the last logits, the cache (layer, 2, batch, heads, time, width), and the lengths."""
        model, longest = self._model, max(map(len, ids))
        lengths = torch.tensor([len(row) for row in ids], device=self._device)
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids], device=self._device)
        shape, batch = model.shape, len(ids)
        cache = torch.zeros(shape.layers, 2, batch, shape.kv_heads, longest + room, shape.head, device=self._device)
        x = functional.embedding(padded.flatten(), model.embedding)
        cos, sin = (table[:longest].repeat(batch, 1) for table in (model.cos, model.sin))
        for index in range(shape.layers):
            parts = before_attention(x, model.layer(index), cos, sin, shape.head)
            q, k, v = (part.view(batch, longest, -1, shape.head).transpose(1, 2) for part in parts)
            cache[index, 0, :, :, :longest], cache[index, 1, :, :, :longest] = k, v
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            x = after_attention(x, mixed.transpose(1, 2).reshape(len(x), -1), model.layer(index))
        last = x.view(batch, longest, -1)[torch.arange(batch, device=self._device), lengths - 1]
        return self._logits(last), cache, lengths

    def _logits(self, x: Tensor) -> Tensor:
        return normed(x, self._model.norm) @ self._model.embedding.T

    def _step(self, tokens: Tensor, cache: Tensor, lengths: Tensor) -> Tensor:
        """Feed one token to each row at its position `lengths`; return logits."""
        model, batch = self._model, len(tokens)
        x = functional.embedding(tokens, model.embedding)
        cos, sin = model.cos[lengths], model.sin[lengths]
        rows = torch.arange(batch, device=self._device)
        seen = torch.arange(cache.shape[4], device=self._device) <= lengths[:, None]
        for index in range(model.shape.layers):
            q, k, v = before_attention(x, model.layer(index), cos, sin, model.shape.head)
            cache[index, 0, rows, :, lengths], cache[index, 1, rows, :, lengths] = k, v
            mixed = functional.scaled_dot_product_attention(
                q[:, :, None], cache[index, 0], cache[index, 1], attn_mask=seen[:, None, None], enable_gqa=True
            )
            x = after_attention(x, mixed.reshape(batch, -1), model.layer(index))
        return self._logits(x)

    def _decode(self, ids: list[list[int]], temperature: float, most: int) -> list[list[int]]:
        logits, cache, lengths = self._prefill(ids, most)
        drawn: list[Tensor] = []
        ended = torch.zeros(len(ids), dtype=torch.bool, device=self._device)
        for step in range(most):
            tokens = self._draw(logits, temperature)
            drawn.append(torch.where(ended, END, tokens))
            ended |= tokens == END
            if step + 1 == most or (step % 8 == 7 and bool(ended.all())):
                break
            logits = self._step(tokens, cache, lengths)
            lengths = lengths + 1
        rows: list[list[int]] = torch.stack(drawn, 1).tolist()
        return [row[: row.index(END)] if END in row else row for row in rows]

    def _draw(self, logits: Tensor, temperature: float) -> Tensor:
        if temperature == 0:
            return logits.argmax(-1)
        return torch.multinomial((logits / temperature).softmax(-1), 1, generator=self._random)[:, 0]
