"""Small random models in Hugging Face folders, written by the tests themselves: real files and real inference."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio

from providers.base import Message, Sampling, WireRequest
from providers.embedded import EmbeddedTransport

SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a random model."""

    hidden: int = 32
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 48
    context: int = 128
    tied: bool = True
    padding: int = 0
    """Tokens of the model that the tokenizer does not have."""
    seed: int = 0


def write_tokenizer(folder: Path) -> int:
    """Train and write a byte-level tokenizer; returns its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = ["the baker sells seven loaves and keeps three, is it right? yes no", "Answer: 12\nstep 1: 3 + 4 = 7"] * 9
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return int(tokenizer.get_vocab_size())


def bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Cut float32 to the upper half of its bits."""
    return (np.ascontiguousarray(values).view(np.uint32) >> 16).astype(np.uint16)


def random_tensors(shape: Shape, vocab: int) -> dict[str, npt.NDArray[np.float32]]:
    """Draw weights that are exact in bfloat16, spread enough for tokens to depend on the whole prompt."""
    rng = np.random.default_rng(shape.seed)
    head = shape.hidden // shape.heads

    def drawn(rows: int, columns: int) -> npt.NDArray[np.float32]:
        matrix: npt.NDArray[np.float32] = (rng.standard_normal((rows, columns)) * 1.3 / columns**0.5).astype(np.float32)
        return matrix

    tensors = {
        "model.embed_tokens.weight": drawn(vocab, shape.hidden) * np.float32(1.5),
        "model.norm.weight": (1 + 0.1 * rng.standard_normal(shape.hidden)).astype(np.float32),
    }
    if not shape.tied:
        tensors["lm_head.weight"] = drawn(vocab, shape.hidden) * np.float32(1.5)
    for index in range(shape.layers):
        prefix = f"model.layers.{index}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            gain = (1 + 0.1 * rng.standard_normal(shape.hidden)).astype(np.float32)
            tensors[f"{prefix}{name}.weight"] = gain
        for name, rows, columns in (
            ("self_attn.q_proj", shape.hidden, shape.hidden),
            ("self_attn.k_proj", shape.kv_heads * head, shape.hidden),
            ("self_attn.v_proj", shape.kv_heads * head, shape.hidden),
            ("self_attn.o_proj", shape.hidden, shape.hidden),
            ("mlp.gate_proj", shape.intermediate, shape.hidden),
            ("mlp.up_proj", shape.intermediate, shape.hidden),
            ("mlp.down_proj", shape.hidden, shape.intermediate),
        ):
            tensors[f"{prefix}{name}.weight"] = drawn(rows, columns)
    return {
        name: (bfloat16(value).astype(np.uint32) << np.uint32(16)).view(np.float32) for name, value in tensors.items()
    }


def write_tensors(path: Path, tensors: dict[str, npt.NDArray[np.float32]]) -> None:
    """Write a safetensors file in bfloat16 by hand: length of the header, header, data."""
    header: dict[str, object] = {}
    data = bytearray()
    for name, value in tensors.items():
        stored = bfloat16(value).tobytes()
        header[name] = {"dtype": "BF16", "shape": value.shape, "data_offsets": [len(data), len(data) + len(stored)]}
        data += stored
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + bytes(data))


def write_model(folder: Path, shape: Shape) -> Path:
    """Write a whole model folder."""
    folder.mkdir(parents=True)
    vocab = write_tokenizer(folder) + shape.padding
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": shape.tied,
    }
    (folder / "config.json").write_text(json.dumps(config))
    write_tensors(folder / "model.safetensors", random_tensors(shape, vocab))
    return folder


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write (once) a random model with the given sizes and return its folder."""
    root = tmp_path_factory.mktemp("models")
    made: dict[Shape, Path] = {}

    def make(**sizes: int) -> Path:
        shape = replace(Shape(), **sizes)  # type: ignore[arg-type]  # tied is a bool, which is an int
        if shape not in made:
            made[shape] = write_model(root / f"tiny{len(made)}", shape)
        return made[shape]

    return make


@pytest.fixture
def model(make_model: Callable[..., Path]) -> Path:
    """A tiny random model."""
    return make_model()


@pytest_asyncio.fixture
async def transport(model: Path) -> AsyncIterator[EmbeddedTransport]:
    """A transport on the tiny model."""
    transport = EmbeddedTransport(str(model))
    yield transport
    await transport.aclose()


@pytest.fixture
def ask(model: Path) -> Callable[..., WireRequest]:
    """Build a request to the tiny model."""

    def build(
        content: str = "the baker sells 7",
        *,
        seeds: tuple[int, ...] = (11,),
        continued: str | None = None,
        timeout_s: float = 600.0,
        name: str | None = None,
        **sampling: object,
    ) -> WireRequest:
        messages = [Message("user", content)]
        if continued is not None:
            messages.append(Message("assistant", continued))
        return WireRequest(
            model=name or model.name,
            messages=tuple(messages),
            sampling=Sampling(**sampling),  # type: ignore[arg-type]  # keywords are passed through
            indices=tuple(range(len(seeds))),
            seeds=seeds,
            continue_final=continued is not None,
            timeout_s=timeout_s,
        )

    return build
