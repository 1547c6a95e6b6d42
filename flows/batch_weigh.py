"""The rows of a batch weighed before anything is sent: their tokens, the rows that ask the same, a fair sample."""

from __future__ import annotations

import hashlib
import random
from array import array
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from architectures.estimator import text_tokens
from db.errors import DataError
from flows.batch_input import InputRow, read_input
from flows.batch_rows import question_of
from nodes.base import ZERO, Range

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.batch_job import OpenBatch

__all__ = ["Weighed", "gold_tokens", "pilot_rows", "weigh"]

_MOST_REMEMBERED = 2_000_000


class Weighed(NamedTuple):
    """The rows of a job; about a hundred bytes for each are held while it is made."""

    rows: int
    bad: int
    """Rows that cannot be asked."""
    distinct: int
    """Questions that are asked: rows that ask the same are paid once."""
    tokens: Range
    """Of one question: the means of least, likely and most."""
    gold: Range
    """Of one right answer, the same; zero where no scorer shows it to a model."""
    numbers: NDArray[np.int64]
    """The first rows of the distinct questions, from the shortest question to the longest."""
    sizes: NDArray[np.float64]
    """Their likely tokens."""


def weigh(batch: OpenBatch) -> Weighed:
    """Count the tokens of every question; the file is read, not held."""
    specs = [batch.session.book.resolve(model) for model in batch.architecture.spec.models()]
    seen: set[int] = set()
    rows = bad = 0
    total = gold = ZERO
    numbers, sizes = array("q"), array("d")
    for row in read_input(batch.job.input):
        rows += 1
        try:
            question = question_of(batch, row)
        except DataError:
            bad += 1
            continue
        mark = int.from_bytes(hashlib.blake2b(question.encode(), digest_size=8).digest())
        if mark in seen:
            continue
        if len(seen) < _MOST_REMEMBERED:
            seen.add(mark)
        size = text_tokens([question], specs)
        total, gold = total.plus(size), gold.plus(gold_tokens(batch, row))
        numbers.append(row.number)
        sizes.append(size.likely)
    order = np.argsort(sizes, kind="stable")
    mean, mean_gold = (Range(*(value / max(1, len(sizes)) for value in one)) for one in (total, gold))
    return Weighed(rows, bad, len(sizes), mean, mean_gold, np.asarray(numbers)[order], np.asarray(sizes)[order])


def gold_tokens(batch: OpenBatch, row: InputRow) -> Range:
    """Count the tokens of a row's right answer for the models that the scorer asks; zero where it asks none."""
    if batch.scorer is None or batch.job.gold is None or not batch.scorer.models():
        return ZERO
    specs = [batch.session.book.resolve(model) for model in batch.scorer.models()]
    return text_tokens([str(row.values.get(batch.job.gold) or "")], specs)


def pilot_rows(batch: OpenBatch, weighed: Weighed, count: int) -> list[InputRow]:
    """Draw rows at random, one from each of `count` equally full classes of length; the same ones every time."""
    total = len(weighed.numbers)
    chance = random.Random(batch.run_id)
    edges = [total * place // min(count, total) for place in range(min(count, total) + 1)] if total else []
    drawn = sorted(int(weighed.numbers[chance.randrange(low, high)]) for low, high in pairwise(edges))
    wanted, rows = set(drawn), []
    for row in read_input(batch.job.input):
        if row.number in wanted:
            rows.append(row)
        if drawn and row.number == drawn[-1]:
            break
    return rows
