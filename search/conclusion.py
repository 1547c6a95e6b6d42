"""What is said at the end: the winner on items that the search never saw, paired with whom it has to beat."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from evals.paired import PairedDifference, paired_difference
from evals.stats import Interval, bootstrap_mean, wilson

__all__ = ["Against", "Conclusion", "conclude"]


class Against(NamedTuple):
    """The winner compared with another architecture on the held-out items."""

    name: str
    paired: PairedDifference
    """Its interval is as wide as all comparisons together ask for (Bonferroni)."""
    adjusted: float
    """The p-value after Holm's correction for all comparisons."""
    better: bool
    """Whether the winner is better with the error of all comparisons together at most alpha."""
    worse: bool
    """Whether it is worse with that error."""


class Conclusion(NamedTuple):
    """The winner's held-out quality with its interval, its comparisons, and one sentence."""

    winner: str
    quality: float
    interval: Interval
    against: tuple[Against, ...]

    @property
    def difference_found(self) -> bool:
        """Whether the winner is better or worse than any of the others."""
        return any(one.better or one.worse for one in self.against)

    @property
    def sentence(self) -> str:
        """The finding in words."""
        low, high = self.interval
        return f"{self.winner}: {self.quality:.1%} on held-out items ({low:.1%} to {high:.1%}); {self.verdict}."

    @property
    def verdict(self) -> str:
        """Whom the winner is better than, and whom not."""
        if not self.difference_found:
            return f"no difference from {', '.join(one.name for one in self.against) or 'anything'} was found"
        better = [one.name for one in self.against if one.better]
        worse = [one.name for one in self.against if one.worse]
        rest = [one.name for one in self.against if not one.better and not one.worse]
        said = (("better than", better), ("worse than", worse), ("no difference from", rest))
        return "; ".join(f"{words} {', '.join(names)}" for words, names in said if names)


def conclude(
    winner: str, scores: Sequence[float], others: Mapping[str, Sequence[float]], *, alpha: float = 0.05
) -> Conclusion:
    """Judge the winner by fresh scores on held-out items, against others on the same items in the same order.

    The winner was chosen on other items, so its interval needs no correction. Comparisons are corrected by Holm (1979,
    Scandinavian Journal of Statistics 6). Raises `ValueError` without items and for other numbers of items.
    """
    if not scores:
        raise ValueError("a conclusion needs held-out items")
    # Scores may be numpy's, whose whole numbers overflow in an exact test.
    scores, others = [*map(float, scores)], {name: [*map(float, other)] for name, other in others.items()}
    binary = {*scores} <= {0.0, 1.0}
    interval = (
        wilson(round(math.fsum(scores)), len(scores), 1 - alpha)
        if binary
        else bootstrap_mean(scores, confidence=1 - alpha)
    )
    wide = 1 - alpha / max(1, len(others))
    pairs = {name: paired_difference(scores, other, confidence=wide) for name, other in others.items()}
    adjusted = _holm({name: pair.p_value for name, pair in pairs.items()})
    against = tuple(
        Against(
            name,
            pair,
            adjusted[name],
            better=adjusted[name] <= alpha and pair.difference > 0,
            worse=adjusted[name] <= alpha and pair.difference < 0,
        )
        for name, pair in pairs.items()
    )
    return Conclusion(winner, math.fsum(scores) / len(scores), interval, against)


def _holm(p_values: Mapping[str, float]) -> dict[str, float]:
    adjusted, least = dict[str, float](), 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = least
    return adjusted
