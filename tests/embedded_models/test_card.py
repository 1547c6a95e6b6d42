"""The shipped model folders: those of the card, alike in their tokenizer, and readable by Hugging Face tools."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from jinja2 import Environment

from providers.base import Message
from providers.embedded import shipped_models
from providers.embedded.model import model_folder
from providers.embedded.tokenizer import ChatTokenizer

CARD = Path(__file__).parents[2] / "docs" / "embedded-models.md"
MODELS = ("judge", "mini", "nano")


def test_the_three_models_ship() -> None:
    assert shipped_models() == MODELS


@pytest.mark.parametrize("model", MODELS)
def test_the_weights_are_those_of_the_card(model: str) -> None:
    found = dict(re.findall(r"^\| `(\w+)` \|.*\| `([0-9a-f]{64})` \|$", CARD.read_text(), re.MULTILINE))
    weights = (model_folder(model) / "model.safetensors").read_bytes()
    assert found[model] == hashlib.sha256(weights).hexdigest()


def test_all_weights_together_fit_a_wheel() -> None:
    assert sum((model_folder(model) / "model.safetensors").stat().st_size for model in MODELS) <= 20_000_000


def test_the_tokenizer_is_one_for_all() -> None:
    assert len({(model_folder(model) / "tokenizer.json").read_bytes() for model in MODELS}) == 1
    tokenizer = ChatTokenizer(model_folder("nano"))
    assert tokenizer.vocab <= 768
    assert tokenizer.end == 1
    assert tokenizer.single(" yes") is not None
    assert tokenizer.single(" no") is not None
    assert all(tokenizer.single(digit) is not None for digit in "0123456789")
    assert tokenizer.single("12") is None


@pytest.mark.parametrize("open_ended", [False, True])
def test_the_chat_template_is_the_format_that_the_runtime_writes(open_ended: bool) -> None:
    settings = json.loads((model_folder("mini") / "tokenizer_config.json").read_text())
    messages = [Message("system", "Be brief."), Message("user", "2 + 2?"), Message("assistant", "2 + 2 =")]
    if not open_ended:
        messages.pop()
    written = (
        Environment()
        .from_string(settings["chat_template"])
        .render(
            messages=[message._asdict() for message in messages],
            add_generation_prompt=not open_ended,
            continue_final_message=open_ended,
        )
    )
    tokenizer = ChatTokenizer(model_folder("mini"))
    pieces = [piece for piece in re.split(r"(<\|\w+\|>)", written) if piece]
    special = {f"<|{name}|>": place for place, name in enumerate(("pad", "end", "system", "user", "assistant"))}
    ids: list[int] = []
    for piece in pieces:
        alone = tokenizer.encode_chat([Message("user", piece)])[1:-2]
        ids += [special[piece]] if piece in special else alone
    assert ids == tokenizer.encode_chat(messages, continue_final=open_ended)


@pytest.mark.parametrize("model", MODELS)
def test_the_configuration_is_a_plain_llama(model: str) -> None:
    config = json.loads((model_folder(model) / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["tie_word_embeddings"] is True
    assert config["max_position_embeddings"] == 1024
    assert config["eos_token_id"] == 1
