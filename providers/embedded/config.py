"""The shape of a Llama decoder, read from the `config.json` of a Hugging Face model folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from db.errors import ConfigError

__all__ = ["LlamaConfig", "read_config"]

_CURE = "export the folder anew with transformers' save_pretrained"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaConfig:
    """Sizes of a `LlamaForCausalLM`: RMSNorm, rotary positions, SwiGLU, grouped-query attention."""

    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    """Positions for prompt and generated tokens together."""
    rope_theta: float
    norm_eps: float
    tied: bool
    """The output matrix is the transposed embedding."""

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that the keys and values of one token take in float32."""
        return 4 * 2 * self.layers * self.kv_heads * self.head_dim


def read_config(folder: Path) -> LlamaConfig:
    """Read and check `config.json`; raises `ConfigError` where it is absent, malformed, or no plain Llama."""
    path = folder / "config.json"
    try:
        loaded: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"'{path}' is missing: reinstall colonnade, or {_CURE}.") from None
    except ValueError as error:
        raise ConfigError(f"'{path}' is not valid JSON ({error}): reinstall colonnade, or {_CURE}.") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"'{path}' must hold one JSON object: {_CURE}.")
    raw = cast("dict[str, object]", loaded)
    _refuse_other_shapes(path, raw)
    hidden, heads = _integer(path, raw, "hidden_size"), _integer(path, raw, "num_attention_heads")
    config = LlamaConfig(
        vocab=_integer(path, raw, "vocab_size"),
        hidden=hidden,
        intermediate=_integer(path, raw, "intermediate_size"),
        layers=_integer(path, raw, "num_hidden_layers"),
        heads=heads,
        kv_heads=_integer(path, raw, "num_key_value_heads", heads),
        head_dim=_integer(path, raw, "head_dim", hidden // heads),
        context=_integer(path, raw, "max_position_embeddings"),
        rope_theta=_rope_theta(path, raw),
        norm_eps=_number(path, raw, "rms_norm_eps", 1e-6),
        tied=bool(raw.get("tie_word_embeddings", False)),
    )
    if heads % config.kv_heads or config.head_dim % 2:
        raise ConfigError(f"'{path}': num_attention_heads must be a multiple of num_key_value_heads, head_dim even.")
    return config


def _refuse_other_shapes(path: Path, raw: dict[str, object]) -> None:
    """The runtime computes one architecture; anything else would load and talk nonsense."""
    wanted = {"model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False}
    for key, value in wanted.items():
        if raw.get(key, value) != value:
            raise ConfigError(f"'{path}' has {key} = {raw[key]!r}, the embedded runtime needs {value!r}.")


def _rope(raw: dict[str, object]) -> dict[str, object]:
    """Rotary settings: transformers 5 nests them under `rope_parameters`, 4 had `rope_scaling` beside `rope_theta`."""
    nested = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    return cast("dict[str, object]", nested) if isinstance(nested, dict) else {}


def _rope_theta(path: Path, raw: dict[str, object]) -> float:
    rope = _rope(raw)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ConfigError(f"'{path}' has rope_type = {kind!r}, the embedded runtime knows only 'default'.")
    return _number(path, rope if "rope_theta" in rope else raw, "rope_theta", 10000.0)


def _number(path: Path, raw: dict[str, object], key: str, default: float) -> float:
    value = raw.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigError(f"'{path}': {key} must be a positive number, not {value!r}.")
    return float(value)


def _integer(path: Path, raw: dict[str, object], key: str, default: int | None = None) -> int:
    value = raw.get(key)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"'{path}': {key} must be a positive integer, not {value!r}.")
    return value
