"""The winner among finalists, by a guard split that is looked at as little as possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from search.holdout import ReusableHoldout

__all__ = ["Choice", "choose"]


class Choice(NamedTuple):
    """The finalists in the order of what the guard says of them."""

    order: tuple[int, ...]
    """Trials, best first; of equals first what was better in training, then the older. What was trained on fewer items
    stands behind, whatever it seems to be worth."""
    values: Mapping[int, float]
    """What the guard says each trial is worth."""
    shown: int
    """How often the guard's items were shown; elsewhere they agreed with the training scores, which stand."""


def choose(
    finalists: Mapping[int, Sequence[float]], guard_scores: Mapping[int, Sequence[float]], guard: ReusableHoldout
) -> Choice:
    """Order finalists by the answers of a reusable holdout; both mappings hold a trial's scores.

    The best of many trials in training is partly the luckiest on those items; where the guard's items disagree, its
    answer counts. It is asked of the best in training first, while its budget lasts. Where a budget brought some
    finalists to fewer items than others, the few are no match for the many: more trials had them, so the best on them
    is luckier. Raises `ValueError` without finalists, for other trials in one mapping than in the other, and for a
    trial without scores.
    """
    if not finalists or finalists.keys() != guard_scores.keys():
        raise ValueError(f"finalists need scores on both parts ({sorted(finalists)}, {sorted(guard_scores)})")
    values, budget = dict[int, float](), guard.budget
    for trial in sorted(finalists, key=lambda t: (-len(finalists[t]), -fmean(finalists[t] or [0.0]), t)):
        values[trial], _, guard = guard.ask(finalists[trial], guard_scores[trial])
    # The sort is stable, so equals stay in the order of training.
    order = sorted(values, key=lambda trial: (-len(finalists[trial]), -values[trial]))
    return Choice(tuple(order), values, budget - guard.budget)
