"""Files: exact values, one sentence for each fault, one copy in memory."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from db.errors import ConfigError
from providers.embedded import EmbeddedTransport, identity, shipped_models
from providers.embedded.config import read_config
from providers.embedded.model import load_model, model_folder
from providers.embedded.weights import read_tensors, weights_sha256


@pytest.fixture
def broken(model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(model, tmp_path / "broken"))


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_values_are_exactly_the_stored_bfloat16(model: Path) -> None:
    raw = (model / "model.safetensors").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    tensors = read_tensors(model, read_config(model))
    assert set(tensors) == set(header)
    for name, value in tensors.items():
        begin, end = header[name]["data_offsets"]
        stored = np.frombuffer(raw[8 + size + begin : 8 + size + end], np.uint16).reshape(header[name]["shape"])
        bits = value.view(np.uint32)
        assert value.dtype == np.float32
        assert ((bits >> 16) == stored).all()
        assert not (bits & 0xFFFF).any()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(broken: Path, name: str) -> None:
    (broken / name).unlink()
    with pytest.raises(ConfigError, match=rf"{name}'.*(reinstall|copy)"):
        load_model(broken)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_file_cut_off_is_named_with_the_cure(broken: Path, name: str) -> None:
    path = broken / name
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ConfigError, match=rf"{name}'.*(reinstall|copy)") as caught:
        load_model(broken)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_corrupted(broken: Path) -> None:
    path = broken / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-2] + b"\xc0\x7f")
    with pytest.raises(ConfigError, match=r"model\.safetensors' is corrupted \('model.*not finite"):
        load_model(broken)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 3}, r"no tensor 'model\.layers\.2\."),
        ({"intermediate_size": 44}, r"\(48, 32\), config.json asks for \(44, 32\)"),
        ({"vocab_size": "many"}, "vocab_size must be a positive integer, not 'many'"),
        ({"rms_norm_eps": -1}, "rms_norm_eps must be a positive number"),
        ({"num_key_value_heads": 3}, "multiple of num_key_value_heads"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_type = 'yarn'"),
        ({"vocab_size": 100}, r"\d+ tokens, config.json only 100"),
    ],
)
def test_a_config_that_does_not_fit_is_one_sentence(broken: Path, changes: dict[str, object], message: str) -> None:
    edit_config(broken, **changes)
    with pytest.raises(ConfigError, match=message):
        load_model(broken)


def test_a_config_that_is_no_object(broken: Path) -> None:
    (broken / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match="one JSON object"):
        load_model(broken)


def test_rope_settings_of_transformers_4_and_5_read_alike(broken: Path) -> None:
    edit_config(broken, rope_theta=500.0)
    old = read_config(broken)
    edit_config(broken, rope_theta=1.0, rope_parameters={"rope_type": "default", "rope_theta": 500.0})
    assert read_config(broken) == old
    assert old.rope_theta == 500.0


@pytest.mark.parametrize(("dtype", "stored"), [("F32", np.float32), ("F16", np.float16), ("I32", np.int32)])
def test_other_types_of_numbers(broken: Path, dtype: str, stored: type[np.generic]) -> None:
    from safetensors.numpy import save_file

    config = read_config(broken)
    tensors = read_tensors(broken, config)
    save_file({name: value.astype(stored) for name, value in tensors.items()}, broken / "model.safetensors")
    if dtype == "I32":
        with pytest.raises(ConfigError, match="stored as I32; save the model as BF16, F16 or F32"):
            read_tensors(broken, config)
        return
    for name, value in read_tensors(broken, config).items():
        assert np.abs(value - tensors[name]).max() < (1e-3 if dtype == "F16" else 1e-12)


def test_unknown_models_are_named() -> None:
    with pytest.raises(ConfigError, match="unknown embedded model 'minni'"):
        EmbeddedTransport("minni")
    with pytest.raises(ConfigError, match=r"no model folder '\./nowhere'"):
        EmbeddedTransport("./nowhere")


def test_shipped_models_are_found_by_name() -> None:
    assert [model_folder(name).name for name in shipped_models()] == list(shipped_models())


@pytest.mark.parametrize("setting", [{"max_batch": 0}, {"threads": 0}])
def test_settings_out_of_range(model: Path, setting: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="max_batch must be 1 to 512"):
        EmbeddedTransport(str(model), **setting)


def test_identity_follows_the_weights(broken: Path) -> None:
    before = identity(str(broken))
    assert before == f"broken@{weights_sha256(broken)[:12]}"
    path = broken / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data) + b"")
    assert identity(str(broken)) != before


def test_loading_twice_gives_the_same_arrays_and_the_last_user_frees_them(make_model: Callable[..., Path]) -> None:
    folder = make_model(seed=77)
    first, second = load_model(folder), load_model(folder)
    assert first is second
    del first, second
    gc.collect()
    assert load_model(folder).name == folder.name


def drop_byte(vocabulary: dict[str, int]) -> None:
    vocabulary["qqqq"] = vocabulary.pop("Z")


def foreign_character(vocabulary: dict[str, int]) -> None:
    vocabulary["漢"] = vocabulary.pop("Z")


@pytest.mark.parametrize(
    ("damage", "message"),
    [(drop_byte, "lacks 1 of the 256 single-byte tokens"), (foreign_character, "no byte-level vocabulary")],
)
def test_a_vocabulary_that_is_not_byte_level(
    broken: Path, damage: Callable[[dict[str, int]], None], message: str
) -> None:
    path = broken / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["merges"] = []
    damage(content["model"]["vocab"])
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=message):
        load_model(broken)


def test_a_tokenizer_without_the_chat_tokens(broken: Path) -> None:
    path = broken / "tokenizer.json"
    path.write_text(path.read_text().replace("<|user|>", "<|human|>"))
    with pytest.raises(ConfigError, match=r"no token '<\|user\|>'"):
        load_model(broken)
