"""The forward pass against a plain second implementation, and that a row does not depend on its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from providers.base import WireRequest
from providers.embedded import EmbeddedTransport
from providers.embedded.arena import KvArena
from providers.embedded.attention import Chunk
from providers.embedded.config import LlamaConfig, read_config
from providers.embedded.forward import CHUNK, ROWS, Forward
from providers.embedded.model import load_model
from providers.embedded.weights import read_tensors

F64 = npt.NDArray[np.float64]


def plain_llama(folder: Path, tokens: list[int]) -> F64:
    """Compute the logits after every token as the paper writes it: float64, no cache, one head at a time."""
    config = read_config(folder)
    tensors = {name: value.astype(np.float64) for name, value in read_tensors(folder, config).items()}

    def norm(x: F64, gain: F64) -> F64:
        normed: F64 = x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_eps) * gain
        return normed

    def rotate(x: F64) -> F64:
        half = config.head_dim // 2
        angle = np.arange(len(x))[:, None] * config.rope_theta ** (-np.arange(half) * 2 / config.head_dim)
        first, second = x[:, :half], x[:, half:]
        cosine, sine = np.cos(angle), np.sin(angle)
        return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)

    def heads(x: F64, weight: F64) -> list[F64]:
        return np.split(x @ weight.T, weight.shape[0] // config.head_dim, axis=-1)

    x = tensors["model.embed_tokens.weight"][tokens]
    future = np.triu(np.full((len(tokens), len(tokens)), -np.inf), 1)
    for index in range(config.layers):
        part = {name.split(f"layers.{index}.")[-1]: value for name, value in tensors.items() if f".{index}." in name}
        normed = norm(x, part["input_layernorm.weight"])
        queries = heads(normed, part["self_attn.q_proj.weight"])
        keys = heads(normed, part["self_attn.k_proj.weight"])
        values = heads(normed, part["self_attn.v_proj.weight"])
        mixed = []
        for head, query in enumerate(queries):
            group = head * config.kv_heads // config.heads
            scores = rotate(query) @ rotate(keys[group]).T / config.head_dim**0.5 + future
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            mixed.append(weights / weights.sum(-1, keepdims=True) @ values[group])
        x = x + np.concatenate(mixed, -1) @ part["self_attn.o_proj.weight"].T
        normed = norm(x, part["post_attention_layernorm.weight"])
        gate = normed @ part["mlp.gate_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (normed @ part["mlp.up_proj.weight"].T)) @ part["mlp.down_proj.weight"].T
    head_name = "model.embed_tokens.weight" if config.tied else "lm_head.weight"
    return norm(x, tensors["model.norm.weight"]) @ tensors[head_name].T


def forward_of(folder: Path, slots: int = ROWS + 1) -> tuple[Forward, KvArena, LlamaConfig]:
    model = load_model(folder)
    arena = KvArena(slots, model.config)
    return Forward(model.weights, model.config, arena, slots - 1), arena, model.config


NONE = np.empty(0, np.int64)


def prefill(forward: Forward, tokens: npt.NDArray[np.int64], start: int, slot: int) -> npt.NDArray[np.float32]:
    logits: npt.NDArray[np.float32] = forward.run(NONE, NONE, Chunk(tokens, start, slot))[-1]
    return logits


def tokens_of(count: int, config: LlamaConfig, seed: int = 3) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, config.vocab, count)


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"kv_heads": 4},
        {"kv_heads": 1, "tied": False},
        {"hidden": 128, "heads": 4, "kv_heads": 4, "layers": 4, "intermediate": 384},
    ],
    ids=["grouped", "multi-head", "multi-query-untied", "as-nano"],
)
def test_prefill_and_decode_equal_the_plain_implementation(
    make_model: Callable[..., Path], sizes: dict[str, int]
) -> None:
    folder = make_model(**sizes)
    forward, arena, config = forward_of(folder)
    tokens = tokens_of(40, config)
    expected = plain_llama(folder, tokens.tolist())
    scale = expected.std()
    logits = prefill(forward, tokens[:30], 0, ROWS)
    assert np.abs(logits - expected[29]).max() < 2e-5 * scale
    arena.load(5, arena.copy_out(ROWS, 30))
    for place in range(30, 40):
        batch, positions = np.zeros(ROWS, np.int64), np.zeros(ROWS, np.int64)
        batch[5], positions[5] = tokens[place], place
        logits = forward.run(batch, positions)[5]
        assert np.abs(logits - expected[place]).max() < 2e-5 * scale


async def test_greedy_text_equals_the_plain_implementation(model: Path, ask: Callable[..., WireRequest]) -> None:
    loaded, transport = load_model(model), EmbeddedTransport(str(model))
    for number in range(5):
        request = ask(f"the baker sells {number}", temperature=0.0, max_tokens=20, top_logprobs=0)
        (done,) = (await transport.complete(request)).completions
        tokens = loaded.tokenizer.encode_chat(request.messages)
        expected: list[str] = []
        while len(expected) < 20 and expected[-1:] != ["<|end|>"]:
            tokens.append(int(plain_llama(model, tokens)[-1].argmax()))
            expected.append(loaded.tokenizer.text(tokens[-1]))
        assert [entry.token for entry in done.logprobs or ()] == expected
    await transport.aclose()


def test_prompt_in_several_chunks_equals_the_plain_implementation(make_model: Callable[..., Path]) -> None:
    folder = make_model(context=400)
    forward, _, config = forward_of(folder)
    tokens = tokens_of(CHUNK + 77, config)
    prefill(forward, tokens[:CHUNK], 0, 0)
    logits = prefill(forward, tokens[CHUNK:], CHUNK, 0)
    expected = plain_llama(folder, tokens.tolist())
    assert np.abs(logits - expected[-1]).max() < 2e-5 * expected.std()


def test_a_row_does_not_depend_on_the_rows_beside_it(make_model: Callable[..., Path]) -> None:
    folder = make_model(hidden=128, heads=4, kv_heads=4, layers=4, intermediate=384)
    forward, _, config = forward_of(folder, slots=33)
    prompts = [tokens_of(10 + 2 * slot, config, seed=slot) for slot in range(32)]
    for slot, prompt in enumerate(prompts):
        prefill(forward, prompt, 0, slot)
    last = np.array([prompt[-1] for prompt in prompts])
    positions = np.array([len(prompt) for prompt in prompts])
    together = forward.run(last, positions).copy()
    first = forward.run(last[:ROWS], positions[:ROWS])
    assert np.abs(together[:ROWS] - first).max() < 1e-5 * together.std()
    assert (together[:ROWS].argmax(-1) == first.argmax(-1)).all()


def test_a_prompt_read_beside_a_batch_changes_neither(make_model: Callable[..., Path]) -> None:
    folder = make_model(hidden=128, heads=4, kv_heads=4, layers=4, intermediate=384)
    forward, arena, config = forward_of(folder)
    prompts = [tokens_of(10 + slot, config, seed=slot) for slot in range(ROWS)]
    for slot, prompt in enumerate(prompts):
        prefill(forward, prompt, 0, slot)
    last = np.array([prompt[-1] for prompt in prompts])
    positions = np.array([len(prompt) for prompt in prompts])
    chunk = Chunk(tokens_of(45, config, seed=99), 0, ROWS)
    batch_alone, chunk_alone = forward.run(last, positions).copy(), forward.run(NONE, NONE, chunk)[-1].copy()
    kv_alone = arena.copy_out(ROWS, 45)
    both = forward.run(last, positions, chunk)
    assert both.shape == (ROWS + 1, config.vocab)
    tolerance = 1e-5 * batch_alone.std()
    assert np.abs(both[:ROWS] - batch_alone).max() < tolerance
    assert np.abs(both[ROWS] - chunk_alone).max() < tolerance
    assert np.abs(arena.copy_out(ROWS, 45) - kv_alone).max() < 1e-4


def test_a_long_sequence_gives_its_pages_back(make_model: Callable[..., Path]) -> None:
    config = read_config(make_model(context=1024))
    arena = KvArena(3, config)
    for length, kept in ((300, True), (900, False)):
        arena.load(1, np.ones((config.layers, 2, config.kv_heads, length, config.head_dim), np.float32))
        arena.release(1)
        assert bool(arena.data[1].any()) is kept
