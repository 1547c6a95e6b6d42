"""Embedded models by name or folder: where they lie, who they are, and loading them once per process."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from db.errors import ConfigError, did_you_mean
from providers.embedded.config import LlamaConfig, read_config
from providers.embedded.tokenizer import ChatTokenizer
from providers.embedded.weights import LlamaWeights, fuse_weights, read_tensors, weights_sha256

__all__ = ["EmbeddedModel", "identity", "load_model", "model_folder", "shipped_models"]

_MODELS = Path(__file__).parent / "models"


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddedModel:
    """A model in memory, shared by everything in the process that uses it."""

    name: str
    config: LlamaConfig
    tokenizer: ChatTokenizer
    weights: LlamaWeights
    sha256: str


_loaded: WeakValueDictionary[tuple[Path, str], EmbeddedModel] = WeakValueDictionary()
_loading = threading.Lock()


def shipped_models() -> tuple[str, ...]:
    """Return the names of the models that ship with Colonnade, sorted."""
    return tuple(sorted(path.parent.name for path in _MODELS.glob("*/config.json")))


def model_folder(model: str) -> Path:
    """Return the folder of a shipped model or of a path; raises `ConfigError` where there is none."""
    if model in shipped_models():
        return _MODELS / model
    if "/" in model or "\\" in model:
        folder = Path(model).expanduser()
        if folder.is_dir():
            return folder.resolve()
        raise ConfigError(f"there is no model folder '{model}'; give a shipped model's name or an existing folder.")
    raise ConfigError(f"unknown embedded model '{model}'.{did_you_mean(model, shipped_models())}")


def identity(model: str) -> str:
    """Return a model's name and the first 12 hex digits of its weights' SHA-256, as in `mini@0123456789ab`.

    It stands for the model in the key of a stored call, so that retrained weights never answer from old rows.
    """
    folder = model_folder(model)
    return f"{folder.name}@{weights_sha256(folder)[:12]}"


def load_model(folder: Path) -> EmbeddedModel:
    """Load a model folder, or return it where this process holds it already; raises `ConfigError`."""
    with _loading:
        sha256 = weights_sha256(folder)
        model = _loaded.get((folder, sha256))
        if model is None:
            config = read_config(folder)
            tokenizer = ChatTokenizer(folder)
            if tokenizer.vocab > config.vocab:
                raise ConfigError(
                    f"'{folder / 'tokenizer.json'}' has {tokenizer.vocab} tokens, config.json only {config.vocab}: "
                    "the folder mixes files of two models."
                )
            weights = fuse_weights(read_tensors(folder, config), config)
            model = EmbeddedModel(name=folder.name, config=config, tokenizer=tokenizer, weights=weights, sha256=sha256)
            _loaded[folder, sha256] = model
        return model
