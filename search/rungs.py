"""What a race knows of each rung: who finished it, with which scores on its items, and what they are worth there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from search.pareto import fronts, ranked

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Blocks", "Rung", "rung_table", "same"]

Blocks: TypeAlias = Mapping[tuple[int, int], tuple[float, ...]]
"""Numbers by trial and rung, of the items that this rung added."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rung:
    """The trials that finished a rung, on all items up to it."""

    trials: tuple[int, ...]
    scores: NDArray[np.float64]
    """Trials × items."""
    values: NDArray[np.float64]
    """Trials × objectives."""
    scored: bool
    """Whether the first value is the mean of the scores."""

    @property
    def tested(self) -> bool:
        """Whether the mean of the scores is all that counts, which is what a paired test is about."""
        return self.scored and self.values.shape[1] == 1

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The trials, best first: by value, or by front and crowding."""
        return tuple(self.trials[place] for place in ranked(self.values))

    @property
    def fronts(self) -> Sequence[Sequence[int]]:
        """The places of the trials by front; of a single objective all together."""
        return fronts(self.values) if self.values.shape[1] > 1 else [range(len(self.trials))]

    @property
    def variances(self) -> NDArray[np.float64]:
        """Squared standard errors of the first values with what all trials share on an item taken out; 0 if unknown."""
        trials, items = self.scores.shape
        if not trials or not self.scored:
            return np.zeros(trials)
        shared = self.scores.mean(axis=0) if trials > 1 else np.zeros(items)
        own = (self.scores - shared).var(axis=1) * (trials / (trials - 1) if trials > 1 else 1.0)
        return np.asarray(own / items)


def rung_table(sizes: Sequence[int], scores: Blocks, values: Blocks) -> list[Rung]:
    """Return every rung from what was told; a trial without a block of an earlier rung has not finished the later."""
    table: list[Rung] = []
    all_scores: dict[int, NDArray[np.float64]] = {}
    sums: dict[int, NDArray[np.float64]] = {}
    for number, (before, size) in enumerate(zip((0, *sizes), sizes, strict=False)):
        done = [trial for trial, rung in sorted(scores) if rung == number and (not number or trial in sums)]
        blocks = {trial: np.asarray(scores[trial, number]) for trial in done}
        added = {trial: _sum(blocks[trial], values.get((trial, number)), size - before) for trial in done}
        all_scores = {t: np.concatenate([all_scores[t], blocks[t]]) if number else blocks[t] for t in done}
        sums = {t: sums[t] + added[t] if number else added[t] for t in done}
        table.append(_rung(tuple(done), list(all_scores.values()), list(sums.values()), size))
    return table


def same(first: NDArray[np.float64] | float, second: NDArray[np.float64] | float) -> bool:
    """Tell whether numbers differ by no more than rounding."""
    return np.allclose(first, second, rtol=1e-6, atol=1e-12)


def _sum(block: NDArray[np.float64], means: Sequence[float] | None, items: int) -> NDArray[np.float64]:
    return block.sum(keepdims=True) if means is None else items * np.asarray(means)


def _rung(
    trials: tuple[int, ...], scores: list[NDArray[np.float64]], sums: list[NDArray[np.float64]], size: int
) -> Rung:
    if not trials:
        return Rung(trials=(), scores=np.zeros((0, size)), values=np.zeros((0, 1)), scored=True)
    stacked, values = np.stack(scores), np.stack(sums) / size
    means = stacked.mean(axis=1)
    scored = same(values[:, 0], means)
    if scored:
        # Weighted means round, and equals would no longer be equal.
        values[:, 0] = means
    return Rung(trials=trials, scores=stacked, values=values, scored=scored)
