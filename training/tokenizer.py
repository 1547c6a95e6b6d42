"""The one tokenizer of the embedded models: byte-level BPE of 768 tokens, digits single, trained on the documents."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from training.documents import ModelName, make_document

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
PAD, END, SYSTEM, USER, ASSISTANT = range(5)
VOCABULARY = 768
CONTEXT = 1024

_PIECES = r"\d| ?[A-Za-z]+| [=+*/-] |\n| ?[^\sA-Za-z\d]|\s"
_DOCUMENTS = 20_000

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' ~ message['role'] ~ '|>' ~ message['content'] }}"
    "{% if not (loop.last and continue_final_message is defined and continue_final_message) %}"
    "{{ '<|end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(seed: int = 0) -> Tokenizer:
    """Train the tokenizer on a sample of all models' documents."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed), trainer)
    for word in (" yes", " no"):
        if len(tokenizer.encode(word).ids) != 1:
            raise ValueError(f"{word!r} is not one token; train the tokenizer on more documents.")
    return tokenizer


def _texts(seed: int) -> Iterator[str]:
    rng = random.Random(f"tokenizer/{seed}")
    names: tuple[ModelName, ...] = ("nano", "judge")
    for _ in range(_DOCUMENTS):
        document = make_document(rng.choice(names), rng)
        # a prompt with many candidates would drown the words of the questions
        yield from (document.question, document.prompt.splitlines()[-1], document.reply)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` as transformers and vLLM read them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "pad_token": SPECIAL[PAD],
        "eos_token": SPECIAL[END],
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
