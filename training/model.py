"""The network in PyTorch, exactly as `LlamaForCausalLM` computes it, with what training and sampling need."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.tokenizer import CONTEXT, END, PAD, VOCABULARY

_EPSILON = 1e-5
_THETA = 10_000.0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The size of a model."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int

    @property
    def head(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


class Layer(NamedTuple):
    """The weights of one decoder layer, each (out, in)."""

    norm_in: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    norm_post: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor


_NAMES = Layer(
    norm_in="input_layernorm",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    out="self_attn.o_proj",
    norm_post="post_attention_layernorm",
    gate="mlp.gate_proj",
    up="mlp.up_proj",
    down="mlp.down_proj",
)  # type: ignore[arg-type]  # the same fields, holding the names that Hugging Face gives the tensors


def normed(x: Tensor, weight: Tensor) -> Tensor:
    """RMSNorm, computed in float32."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + _EPSILON) * weight).to(x.dtype)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn (tokens, heads, width) by their positions, halves paired as Hugging Face pairs them."""
    first, second = x.float().chunk(2, -1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)


def before_attention(x: Tensor, layer: Layer, cos: Tensor, sin: Tensor, head: int) -> tuple[Tensor, Tensor, Tensor]:
    """Give queries, keys and values, each (tokens, heads, width), of flat hidden states (tokens, hidden)."""
    h = normed(x, layer.norm_in)
    q, k, v = (
        functional.linear(h, w.to(h.dtype)).view(len(x), -1, head) for w in (layer.query, layer.key, layer.value)
    )
    return rotated(q, cos, sin), rotated(k, cos, sin), v


def after_attention(x: Tensor, attended: Tensor, layer: Layer) -> Tensor:
    """Add the attention's output and the feed-forward part to the flat hidden states."""
    x = x + functional.linear(attended, layer.out.to(x.dtype))
    h = normed(x, layer.norm_post)
    inner = functional.silu(functional.linear(h, layer.gate.to(h.dtype))) * functional.linear(h, layer.up.to(h.dtype))
    return x + functional.linear(inner, layer.down.to(h.dtype))


class Llama(nn.Module):
    """Embedding (tied to the output), decoder layers, final norm; master weights in float32."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        generator = torch.Generator().manual_seed(seed)
        small = 0.02 / (2 * shape.layers) ** 0.5

        def drawn(*size: int, deviation: float = 0.02) -> nn.Parameter:
            return nn.Parameter(torch.randn(size, generator=generator) * deviation)

        h, kv, f = shape.hidden, shape.kv_heads * shape.head, shape.feed_forward
        self.embedding = drawn(VOCABULARY, h)
        self.layers = nn.ModuleList()
        for _ in range(shape.layers):
            self.layers.append(
                nn.ParameterDict(
                    Layer(
                        norm_in=nn.Parameter(torch.ones(h)),
                        query=drawn(h, h),
                        key=drawn(kv, h),
                        value=drawn(kv, h),
                        out=drawn(h, h, deviation=small),
                        norm_post=nn.Parameter(torch.ones(h)),
                        gate=drawn(f, h),
                        up=drawn(f, h),
                        down=drawn(h, f, deviation=small),
                    )._asdict()
                )
            )
        self.norm = nn.Parameter(torch.ones(h))
        frequencies = _THETA ** (-torch.arange(0, shape.head, 2).double() / shape.head)
        angles = torch.arange(CONTEXT).double()[:, None] * frequencies
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def layer(self, index: int) -> Layer:
        """Return the weights of a layer."""
        stored = self.layers[index]
        return Layer(*(stored[name] for name in Layer._fields))

    def parameter_count(self) -> int:
        """Count the weights."""
        return sum(p.numel() for p in self.parameters())


def save_model(model: Llama, folder: Path) -> None:
    """Write `config.json`, `generation_config.json` and `model.safetensors` in bfloat16."""
    from safetensors.torch import save_file

    tensors = {"model.embed_tokens.weight": model.embedding, "model.norm.weight": model.norm}
    for index in range(model.shape.layers):
        for name, tensor in zip(_NAMES, model.layer(index), strict=True):
            tensors[f"model.layers.{index}.{name}.weight"] = tensor
    stored = {name: tensor.detach().to(torch.bfloat16).contiguous().cpu() for name, tensor in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(_config(model.shape), indent=2) + "\n")
    ends = {"eos_token_id": END, "pad_token_id": PAD}
    (folder / "generation_config.json").write_text(json.dumps(ends, indent=2) + "\n")


def load_model(folder: Path) -> Llama:
    """Read a folder that `save_model` wrote."""
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text())
    shape = Shape(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        feed_forward=config["intermediate_size"],
    )
    model = Llama(shape)
    stored = load_file(folder / "model.safetensors")
    with torch.no_grad():
        model.embedding.copy_(stored["model.embed_tokens.weight"])
        model.norm.copy_(stored["model.norm.weight"])
        for index in range(shape.layers):
            for name, tensor in zip(_NAMES, model.layer(index), strict=True):
                tensor.copy_(stored[f"model.layers.{index}.{name}.weight"])
    return model


def _config(shape: Shape) -> dict[str, object]:
    sizes = asdict(shape)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": sizes["hidden"],
        "intermediate_size": sizes["feed_forward"],
        "num_hidden_layers": sizes["layers"],
        "num_attention_heads": sizes["heads"],
        "num_key_value_heads": sizes["kv_heads"],
        "head_dim": shape.head,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": _EPSILON,
        "rope_theta": _THETA,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": END,
        "pad_token_id": PAD,
        "torch_dtype": "bfloat16",
    }
