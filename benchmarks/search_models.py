"""Recorded answers of many models as tables in which the value of every architecture is known."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from search.domain import Domain

if TYPE_CHECKING:
    from numpy.typing import NDArray

CALIBRATION = 0.08
"""Share of the items that the weights of the weighted vote are taken from; in neither half."""


class Votes(NamedTuple):
    """Recorded answers, coded item by item: code 0 is the right answer."""

    models: tuple[str, ...]
    codes: NDArray[np.int16]
    """models × items; -1 where there is no answer."""
    options: int
    """Codes that occur, at most."""


class Table:
    """Subsets of models under two votes: every point's score on every item, the dev half and the held-out half."""

    def __init__(self, name: str, votes: Votes, size: int, seed: int = 0) -> None:
        self.name = name
        order = np.random.default_rng(seed).permutation(votes.codes.shape[1])
        calibration = order[: int(CALIBRATION * len(order))]
        rest = order[len(calibration) :]
        weights = _log_odds((votes.codes[:, calibration] == 0).mean(axis=1), votes.options)
        self.dev_items = len(rest) // 2
        self.size = size
        self._plain = _ballots(votes, rest)
        self._weighted = np.stack([b * np.int16(800 * w) for b, w in zip(self._plain, weights, strict=True)])
        members = [c for k in range(1, size + 1) for c in combinations(range(len(votes.models)), k)]
        # A weighted vote of one or two is that of the better one, so it is left out.
        self.points = [(c, False) for c in members] + [(c, True) for c in members if len(c) > 2]
        self.domain = _domain(votes, self.points)
        values = dict(self._values((), np.int16(0), np.int16(0)))
        self.dev, self.held = np.asarray([values[point] for point in self.points]).T

    def scores(self, point: int) -> NDArray[np.bool_]:
        """Tell on which items of both halves, dev first, a point is right."""
        subset, weighted = self.points[point]
        if weighted:
            return _right(self._weighted[list(subset)].sum(axis=0, dtype=np.int16))
        places = enumerate(subset)
        return _right(np.sum([self._plain[m] * _vote(place) for place, m in places], axis=0, dtype=np.int16))

    def _values(
        self, subset: tuple[int, ...], plain: NDArray[np.int16] | np.int16, weighted: NDArray[np.int16] | np.int16
    ) -> Iterator[tuple[tuple[tuple[int, ...], bool], tuple[float, float]]]:
        """Go through all subsets that begin with this one, each made of one addition."""
        for model in range(subset[-1] + 1 if subset else 0, len(self._plain)):
            longer = (*subset, model)
            here = np.asarray(plain + self._plain[model] * _vote(len(subset)), dtype=np.int16)
            there = np.asarray(weighted + self._weighted[model], dtype=np.int16)
            yield (longer, False), self._halves(here)
            if len(longer) > 2:
                yield (longer, True), self._halves(there)
            if len(longer) < self.size:
                yield from self._values(longer, here, there)

    def _halves(self, total: NDArray[np.int16]) -> tuple[float, float]:
        right = _right(total)
        return float(right[: self.dev_items].mean()), float(right[self.dev_items :].mean())


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


def gsm8k(data: Path) -> Votes:
    """GSM8K: 43 models, their numbers coded by the order in which they first occur on an item."""
    rows = _rows(data / "gsm8k_models" / "matrix.jsonl.gz")
    names = next(rows)["models"]
    order = sorted(range(len(names)), key=names.__getitem__)
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
