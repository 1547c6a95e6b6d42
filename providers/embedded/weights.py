"""Weights of an embedded model: read from safetensors, checked, and laid out for few and large matrix products."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from db.errors import ConfigError
from providers.embedded.config import LlamaConfig

__all__ = ["F32", "Layer", "LlamaWeights", "fuse_weights", "read_tensors", "weights_sha256"]

F32 = npt.NDArray[np.float32]
_FILE = "model.safetensors"
_CURE = "reinstall colonnade, or copy the model folder anew"


class Layer(NamedTuple):
    """One decoder layer, each matrix as (inputs, outputs), contiguous."""

    qkv: F32
    """Queries, keys, values side by side; norm gain and attention scale folded in; rotary halves interleaved."""
    out: F32
    gate_up: F32
    """Gate and up side by side, both negated, which spares a pass: silu(g)·u = (-g)(-u) / (1 + exp(-g))."""
    down: F32


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaWeights:
    """Everything that a forward pass reads; never written to after loading, so threads share it."""

    embedding: F32
    """(vocab, hidden)"""
    layers: tuple[Layer, ...]
    head: F32
    """(hidden, vocab), with the gain of the last norm folded in."""
    rotation: npt.NDArray[np.complex64]
    """(context, head_dim / 2): the unit complex number by which a pair of a head's numbers is turned at a position."""


def weights_sha256(folder: Path) -> str:
    """SHA-256 of the weights file in hex, kept until the file changes; raises `ConfigError` where it is missing."""
    path = folder / _FILE
    try:
        stat = path.stat()
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be read ({error.strerror}): {_CURE}.") from error
    return _sha256(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=32)
def _sha256(path: Path, _mtime_ns: int, _size: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_tensors(folder: Path, config: LlamaConfig) -> dict[str, F32]:
    """Read the weights as float32, exactly the stored values, by their Hugging Face names.

    Raises `ConfigError` with one sentence where the file is missing, cut off, of another shape, or holds numbers
    that are not finite.
    """
    from safetensors import SafetensorError, deserialize

    path = folder / _FILE
    try:
        entries = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]  # the package leaves it unannotated
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be read ({error.strerror}): {_CURE}.") from error
    except SafetensorError as error:
        raise ConfigError(f"'{path}' is corrupted ({error}): {_CURE}.") from error
    tensors = {name: _widen(path, name, entry["dtype"], entry["data"], entry["shape"]) for name, entry in entries}
    for name, shape in _shapes(config).items():
        found = tensors.get(name)
        if found is None:
            raise ConfigError(f"'{path}' has no tensor '{name}', which its config.json asks for: {_CURE}.")
        if found.shape != shape:
            raise ConfigError(f"'{path}': '{name}' is {found.shape}, config.json asks for {shape}: {_CURE}.")
        if not np.isfinite(found).all():
            raise ConfigError(f"'{path}' is corrupted ('{name}' holds numbers that are not finite): {_CURE}.")
    return tensors


def _widen(path: Path, name: str, dtype: str, data: bytes, shape: list[int]) -> F32:
    """Widen to float32; a bfloat16 is the upper half of the float32 of the same value."""
    if dtype == "BF16":
        bits = np.frombuffer(data, dtype="<u2").astype(np.uint32)
        return np.left_shift(bits, 16, out=bits).view(np.float32).reshape(shape)
    if dtype in ("F16", "F32"):
        return np.frombuffer(data, dtype="<f2" if dtype == "F16" else "<f4").astype(np.float32).reshape(shape)
    raise ConfigError(f"'{path}': '{name}' is stored as {dtype}; save the model as BF16, F16 or F32.")


def _shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    hidden, queries, keys = config.hidden, config.heads * config.head_dim, config.kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config.vocab, hidden),
        "model.norm.weight": (hidden,),
    }
    if not config.tied:
        shapes["lm_head.weight"] = (config.vocab, hidden)
    for index in range(config.layers):
        prefix = f"model.layers.{index}."
        shapes |= {
            f"{prefix}input_layernorm.weight": (hidden,),
            f"{prefix}post_attention_layernorm.weight": (hidden,),
            f"{prefix}self_attn.q_proj.weight": (queries, hidden),
            f"{prefix}self_attn.k_proj.weight": (keys, hidden),
            f"{prefix}self_attn.v_proj.weight": (keys, hidden),
            f"{prefix}self_attn.o_proj.weight": (hidden, queries),
            f"{prefix}mlp.gate_proj.weight": (config.intermediate, hidden),
            f"{prefix}mlp.up_proj.weight": (config.intermediate, hidden),
            f"{prefix}mlp.down_proj.weight": (hidden, config.intermediate),
        }
    return shapes


def fuse_weights(tensors: Mapping[str, F32], config: LlamaConfig) -> LlamaWeights:
    """Lay the tensors out for the forward pass: transposed, fused, with gains, scale and signs folded in."""
    embedding = tensors["model.embed_tokens.weight"]
    head = embedding if config.tied else tensors["lm_head.weight"]
    return LlamaWeights(
        embedding=embedding,
        layers=tuple(_layer(tensors, config, f"model.layers.{index}.") for index in range(config.layers)),
        head=np.ascontiguousarray((head * tensors["model.norm.weight"]).T),
        rotation=_rotation(config),
    )


def _layer(tensors: Mapping[str, F32], config: LlamaConfig, prefix: str) -> Layer:
    def get(name: str) -> F32:
        return tensors[f"{prefix}{name}.weight"]

    queries = _interleave(get("self_attn.q_proj"), config.head_dim) * np.float32(config.head_dim**-0.5)
    keys = _interleave(get("self_attn.k_proj"), config.head_dim)
    qkv = np.concatenate([queries, keys, get("self_attn.v_proj")]) * get("input_layernorm")
    gate_up = np.concatenate([get("mlp.gate_proj"), get("mlp.up_proj")]) * -get("post_attention_layernorm")
    return Layer(
        qkv=np.ascontiguousarray(qkv.T),
        out=np.ascontiguousarray(get("self_attn.o_proj").T),
        gate_up=np.ascontiguousarray(gate_up.T),
        down=np.ascontiguousarray(get("mlp.down_proj").T),
    )


def _interleave(matrix: F32, head_dim: int) -> F32:
    """Order a head's rows 0, d/2, 1, d/2+1, ... so that each rotated pair is one complex number in memory.

    Queries and keys are reordered alike, which leaves their products as they were.
    """
    heads = matrix.reshape(-1, 2, head_dim // 2, matrix.shape[-1])
    return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(matrix.shape)


def _rotation(config: LlamaConfig) -> npt.NDArray[np.complex64]:
    """RoPE (arXiv 2104.09864): pair i turns by position · theta^(-2i/d), the angle rounded to float32 as in vLLM."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = (np.float32(1.0) / np.float32(config.rope_theta) ** exponents).astype(np.float32)
    angles = np.arange(config.context, dtype=np.float32)[:, None] * frequencies
    rotation = np.empty(angles.shape, dtype=np.complex64)
    rotation.real, rotation.imag = np.cos(angles), np.sin(angles)
    return rotation
