"""Recorded answers of many models as tables in which the value of every architecture is known."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Collection, Iterator
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from providers.book import ModelBook
from search import load_space, plan_space
from search.domain import Domain

if TYPE_CHECKING:
    from numpy.typing import NDArray

CALIBRATION = 0.08
"""Share of the items that the weights of the weighted vote are taken from; in neither half."""


OPEN = (
    "Athene-70B",
    "Meta-Llama-3-70B-Instruct",
    "Meta-Llama-3-8B-Instruct",
    "Meta-Llama-3.1-70B-Instruct",
    "Meta-Llama-3.1-8B-Instruct",
    "Mistral-Large-2",
    "Mistral-Nemo-Instruct-2407",
    "Mixtral-8x7B-Instruct-v0.1",
    "Phi-3.5-mini-instruct",
    "Qwen2-72B-Instruct",
    "Qwen2-7B-Instruct",
    "Yi-1.5-34B-Chat",
    "Yi-1.5-9B-Chat",
    "command-r",
    "command-r-plus",
    "gemma-2-27b-it",
    "gemma-2-2b-it",
    "gemma-2-9b-it",
)
"""Models of `gsm8k` with open weights of up to 150 billion parameters, which one may run on a machine of one's own."""
SMALL_OPEN = (
    "Meta-Llama-3-8B-Instruct",
    "Meta-Llama-3.1-8B-Instruct",
    "Phi-3.5-mini-instruct",
    "Qwen2-7B-Instruct",
    "Yi-1.5-9B-Chat",
    "gemma-2-2b-it",
    "gemma-2-9b-it",
)
FLAGSHIPS = (
    "Llama-3.1-405B-Inst@hyperbolic",
    "Mistral-Large-2",
    "Phi-3.5-mini-instruct",
    "Qwen2-72B-Instruct",
    "Yi-1.5-34B-Chat",
    "claude-3-5-sonnet-20241022",
    "command-r-plus",
    "deepseek-v2-chat-0628",
    "gemini-1.5-pro-exp-0801",
    "gpt-4o-2024-08-06",
    "reka-core-20240501",
)
COPIES = ("Llama-3.1-405B-Inst@sambanova", "Llama-3.1-405B-Inst-fp8@together")
"""The model that another host of `gsm8k` has as well."""


class Votes(NamedTuple):
    """Recorded answers, coded item by item: code 0 is the right answer."""

    models: tuple[str, ...]
    codes: NDArray[np.int16]
    """models × items; -1 where there is no answer."""
    options: int
    """Codes that occur, at most."""


class Halves(NamedTuple):
    """What points are worth on the halves of a table, and how far one half tells of another where both are random."""

    dev: NDArray[np.float64]
    held: NDArray[np.float64]
    best_dev: NDArray[np.float64]
    """The best value on the dev half, for each further way of halving."""
    its_held: NDArray[np.float64]
    """The held-out value of the point that is best on that dev half, the first of equals."""
    best_held: NDArray[np.float64]
    """The best value on that held-out half."""


class Table:
    """Points whose score on every item is known; the search sees the dev half, its pick is judged on the other."""

    name: str
    domain: Domain
    items: int
    """Items of both halves, the dev half's first."""

    @property
    def dev_items(self) -> int:
        """How many items the dev half has."""
        return self.items // 2

    def scores(self, point: int) -> NDArray[np.bool_]:
        """Tell on which items, dev first, a point is right."""
        raise NotImplementedError

    def order(self, number: int) -> NDArray[np.intp]:
        """Return the items in the order of a way of halving them: 0 is the table's own, the others are random."""
        items = np.arange(self.items)
        return items if number == 0 else np.random.default_rng((number, 3)).permutation(items)

    def grade(self, others: int = 0, processes: int = 1) -> None:
        """Set `halves`, `dev` and `held` from the scores of all points, with this many further ways of halving."""
        on_dev = np.zeros((self.items, others + 1), dtype=np.float32)
        for number in range(others + 1):
            on_dev[self.order(number)[: self.dev_items], number] = 1
        firsts = range(0, len(self.domain), _BLOCK)
        if processes == 1:
            blocks = [self._grade(on_dev, first) for first in firsts]
        else:
            with get_context("fork").Pool(processes, _lend, (self, on_dev)) as pool:
                blocks = pool.map(_graded, firsts, chunksize=1)
        best = np.argmax([block.best_dev for block in blocks], axis=0)
        self.halves = Halves(
            np.concatenate([block.dev for block in blocks]),
            np.concatenate([block.held for block in blocks]),
            np.max([block.best_dev for block in blocks], axis=0),
            np.asarray([block.its_held for block in blocks])[best, np.arange(others)],
            np.max([block.best_held for block in blocks], axis=0),
        )
        self.dev, self.held = self.halves.dev, self.halves.held

    def _grade(self, on_dev: NDArray[np.float32], first: int) -> Halves:
        points = range(first, min(first + _BLOCK, len(self.domain)))
        right = np.stack([self.scores(point) for point in points]).astype(np.float32)
        dev = right @ on_dev
        held = right.sum(axis=1)[:, None] - dev
        dev, held = dev / np.float64(self.dev_items), held / np.float64(self.items - self.dev_items)
        best, others = dev[:, 1:].argmax(axis=0), np.arange(1, dev.shape[1])
        return Halves(dev[:, 0], held[:, 0], dev[best, others], held[best, others], held[:, 1:].max(axis=0))


_BLOCK = 256
_lent: dict[str, tuple[Table, NDArray[np.float32]]] = {}


def _lend(table: Table, on_dev: NDArray[np.float32]) -> None:
    """Keep what a forked process has in its memory anyway."""
    _lent["table"] = (table, on_dev)


def _graded(first: int) -> Halves:
    table, on_dev = _lent["table"]
    return table._grade(on_dev, first)


class VoteTable(Table):
    """Subsets of models under two votes."""

    def __init__(
        self, name: str, votes: Votes, size: int, *, seed: int = 0, others: int = 0, processes: int = 1
    ) -> None:
        self.name = name
        order = np.random.default_rng(seed).permutation(votes.codes.shape[1])
        calibration = order[: int(CALIBRATION * len(order))]
        rest = order[len(calibration) :]
        weights = _log_odds((votes.codes[:, calibration] == 0).mean(axis=1), votes.options)
        self.items = len(rest)
        self._plain = _ballots(votes, rest)
        self._weighted = np.stack([b * np.int16(800 * w) for b, w in zip(self._plain, weights, strict=True)])
        members = [c for k in range(1, size + 1) for c in combinations(range(len(votes.models)), k)]
        # A weighted vote of one or two is that of the better one, so it is left out.
        self.points = [(c, False) for c in members] + [(c, True) for c in members if len(c) > 2]
        self.domain = _domain(votes, self.points)
        self.grade(others, processes)

    def scores(self, point: int) -> NDArray[np.bool_]:
        """Tell on which items, dev first, a point is right."""
        subset, weighted = self.points[point]
        ballots = self._weighted if weighted else self._plain
        total = np.zeros(ballots.shape[1:], dtype=np.int16)
        for place, model in enumerate(subset):
            total += ballots[model] if weighted else ballots[model] * _vote(place)
        return _right(total)


def _right(total: NDArray[np.int16]) -> NDArray[np.bool_]:
    return np.asarray(total[0] > total[1:].max(axis=0))


def _vote(place: int) -> np.int16:
    """A vote that outweighs all places together: of equally many the answer given first wins, as in `vote`."""
    return np.int16(64 + 2 ** (4 - place))


def mmlu_pro(data: Path) -> Votes:
    """MMLU-Pro: the 28 models that answered everything."""
    rows = _rows(data / "mmlu_pro_models" / "matrix.jsonl.gz")
    names = next(rows)["models"]
    items = list(rows)
    kept = [m for m, name in enumerate(names) if name != "DeepSeek-Coder-V2"]
    kept.sort(key=lambda m: names[m])
    codes = np.asarray([[_letter(row["preds"][m], row["gold"]) for row in items] for m in kept], dtype=np.int16)
    return Votes(tuple(names[m] for m in kept), codes, 10)


def gsm8k(data: Path, models: Collection[str] | None = None) -> Votes:
    """GSM8K: all 43 models or these, their numbers coded by the order in which they first occur on an item."""
    rows = _rows(data / "gsm8k_models" / "matrix.jsonl.gz")
    names = next(rows)["models"]
    order = sorted((m for m, name in enumerate(names) if models is None or name in models), key=names.__getitem__)
    columns: list[list[int]] = []
    for row in rows:
        seen: dict[str, int] = {}
        column = []
        for m in order:
            answer = row["answers"][m]
            wrong = -1 if answer is None else 1 + seen.setdefault(answer, len(seen))
            column.append(0 if row["correct"][m] == "1" else wrong)
        columns.append(column)
    codes = np.asarray(columns, dtype=np.int16).T
    return Votes(tuple(names[m] for m in order), codes, int(codes.max()) + 1)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _letter(answer: str, gold: str) -> int:
    if answer in "-?":
        return -1
    return 0 if answer == gold else 1 + sorted({*"ABCDEFGHIJ"} - {gold}).index(answer)


def _ballots(votes: Votes, items: NDArray[np.intp]) -> NDArray[np.int16]:
    codes = votes.codes[:, items]
    return np.stack([codes == code for code in range(max(2, int(codes.max()) + 1))], axis=1).astype(np.int16)


def _log_odds(accuracy: NDArray[np.float64], options: int) -> list[float]:
    """Weights that are best for independent voters whose wrong answers are equally likely (Nitzan and Paroush 1982)."""
    safe = np.clip(accuracy, 0.02, 0.99)
    return [math.log(p * (options - 1) / (1 - p)) for p in safe]


def _domain(votes: Votes, points: list[tuple[tuple[int, ...], bool]]) -> Domain:
    count = len(votes.models)
    levels = np.zeros((len(points), count + 1), dtype=np.int16)
    for place, (subset, weighted) in enumerate(points):
        levels[place, list(subset)] = 1
        levels[place, count] = int(weighted) if len(subset) > 2 else -1
    members = levels[:, :count].astype(np.float32)
    sizes = members.sum(axis=1)
    more = np.stack([sizes / sizes.max(), levels[:, count] == 1], axis=1).astype(np.float32)
    return Domain(
        axes=(*votes.models, "vote"),
        levels=levels,
        features=np.hstack([members, more]),
        costs=sizes.astype(float),
        keys=[f"{','.join(map(str, subset))}/{int(weighted)}" for subset, weighted in points],
        singles={"generators": tuple(range(count))},
        members={"generators": members},
    )


class Measured(Table):
    """The space `small`, measured on every item of a task; the halves are drawn by the seed, dev first."""

    def __init__(self, path: Path, seed: int = 0, others: int = 0) -> None:
        with np.load(path) as file:
            self.name = f"small_{file['task']}"
            self.points = tuple(map(str, file["labels"]))
            keys = [str(key) for key in file["architectures"]]
            self.items = len(file["paid"])
            order = np.random.default_rng(seed).permutation(self.items)
            self._right = np.unpackbits(file["right"], axis=1, count=self.items)[:, order].astype(bool)
            self.calls = file["calls"].mean(axis=1)
            self.dollars = file["dollars"].mean(axis=1) / 1e8
            """Nominal dollars that one item uses, points long like `calls`: means over the items whose use is kept."""
        self.domain = plan_space(load_space("small"), ModelBook.load(None)).domain
        if list(self.domain.keys) != keys:
            raise ValueError(f"the space is not the one that {path.name} holds; measure it anew (measure_small.py)")
        self.grade(others)

    def scores(self, point: int) -> NDArray[np.bool_]:
        """Tell on which items of both halves, dev first, a point is right."""
        return np.asarray(self._right[point])


def small(task: str, seed: int = 0, others: int = 0) -> Measured:
    """`small` on `arithmetic` or `dates`, as `measure_small.py` stored it."""
    return Measured(Path(__file__).parent / "data" / f"small_{task}.npz", seed, others)
