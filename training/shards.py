"""Documents as token arrays: written by many processes, read by the trainers while more are still being written."""

from __future__ import annotations

import os
import random
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.documents import Document, ModelName, make_document
from training.tokenizer import ASSISTANT, CONTEXT, END, USER

DOCUMENTS_A_SHARD = 5_000
REPLY_WEIGHT, SCORE_WEIGHT, SHOWN_WEIGHT = 10, 30, 3
"""Tenths of a token's loss: replies count fully, yes or no of a score three times, right lines of shown candidates a
third: they teach what a right step looks like, and there are many of them."""


class Shard(NamedTuple):
    """Tokens of some documents one after another, the loss weight of each token, and where each document ends."""

    tokens: NDArray[np.uint16]
    weights: NDArray[np.uint8]
    ends: NDArray[np.int64]


def make_shard(model: ModelName, index: int, tokenizer_path: str) -> Shard:
    """Write and tokenize the documents of one shard; model and index are its seed."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(tokenizer_path)
    rng = random.Random(f"shard/{model}/{index}")
    documents = [make_document(model, rng) for _ in range(DOCUMENTS_A_SHARD)]
    prompts = tokenizer.encode_batch([d.prompt for d in documents])
    newline = tokenizer.encode("\n").ids[0]
    replies = tokenizer.encode_batch([d.reply for d in documents])
    tokens: list[int] = []
    weights: list[int] = []
    ends: list[int] = []
    for document, prompt, reply in zip(documents, prompts, replies, strict=True):
        ids = [USER, *prompt.ids, END, ASSISTANT, *reply.ids, END]
        if len(ids) > CONTEXT:
            continue
        tokens += ids
        weights += [0, *_prompt_weights(document, prompt.ids, newline), 0, 0]
        weights += [SCORE_WEIGHT if document.role == "score" else REPLY_WEIGHT] * len(reply.ids) + [REPLY_WEIGHT]
        ends.append(len(tokens))
    return Shard(np.array(tokens, np.uint16), np.array(weights, np.uint8), np.array(ends, np.int64))


def _prompt_weights(document: Document, ids: list[int], newline: int) -> list[int]:
    """Weigh the tokens of the prompt's lines that are steps of the solution which the model takes for right."""
    right = set(document.believed)
    by_line: list[int] = []
    for line in document.prompt.split("\n"):
        by_line.append(SHOWN_WEIGHT if line in right else 0)
        # a further candidate with the same line would only teach copying
        right.discard(line)
    weights: list[int] = []
    place = 0
    for token in ids:
        weights.append(by_line[place])
        place += token == newline
    return weights


def _write(task: tuple[ModelName, int, str, str]) -> None:
    model, index, tokenizer_path, folder = task
    shard = make_shard(model, index, tokenizer_path)
    partial = Path(folder) / f"{model}-{index:04d}.part"
    with partial.open("wb") as file:
        np.savez(file, **shard._asdict())
    partial.rename(partial.with_suffix(".npz"))


def write_shards(counts: dict[ModelName, int], tokenizer_path: Path, folder: Path, processes: int) -> None:
    """Write so many shards for each model, the models in turn."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [
        (model, index, str(tokenizer_path), str(folder))
        for index in range(max(counts.values()))
        for model, count in counts.items()
        if index < count
    ]
    with get_context("spawn").Pool(processes) as pool:
        for _ in pool.imap_unordered(_write, tasks):
            pass


def read_shard(path: Path) -> Shard:
    """Read a shard back."""
    with np.load(path) as stored:
        return Shard(stored["tokens"], stored["weights"], stored["ends"])
