"""What the recorded judges of LLMBar say of its pairs, and how well that agrees with gold.

A pair agrees where the response that gold names has a preference above one half; a preference of exactly one half is a
tie and counts half. A verdict that the data lack is unreadable, as a node would find it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from papers_replay import Row

from nodes.parsing import read_preference
from nodes.position_bias import Comparison, Correction, corrected, position_bias

__all__ = ["SUBSETS", "Agreement", "Pair", "agreement", "fitted", "judges", "pairs_of", "reply"]

SUBSETS = ("Natural", "Adversarial/Neighbor", "Adversarial/GPTInst", "Adversarial/GPTOut", "Adversarial/Manual")
_EVEN = 1e-6
"""Preferences this close to one half are ties: a fit ends near its optimum, not on it."""


class Pair(NamedTuple):
    """What a judge said of a pair."""

    gold: int
    """0 or 1."""
    seen: tuple[Comparison, ...]
    """In the order of the data, then turned round; what cannot be read is left out."""


class Agreement(NamedTuple):
    """How well a judge agrees with gold on some pairs; shares are 0..1."""

    first: float
    """In the order of the data."""
    second: float
    """Turned round."""
    swap: float
    decided: float
    """The share of pairs that are no tie after `swap`."""
    of_decided: float
    bias: float

    @property
    def note(self) -> str:
        """What stands beside the agreement."""
        return (
            f"as given {100 * self.first:.1f}, turned {100 * self.second:.1f}; {100 * self.decided:.1f} % decided "
            f"alike in both orders, of these {100 * self.of_decided:.1f} right; bias {self.bias:+.2f}"
        )


def judges(recorded: Sequence[Row]) -> dict[str, dict[str, Agreement]]:
    """Return the agreement of every recorded judge, by judge and subset (`all` for all of them)."""
    return {
        judge: {
            "all": agreement(pairs_of(recorded, judge)),
            **{subset: agreement(pairs_of(recorded, judge, subset)) for subset in SUBSETS},
        }
        for judge in sorted(recorded[0]["judges"])
    }


def agreement(pairs: Sequence[Pair]) -> Agreement:
    """Hold the preferences of pairs, each on its own, against gold."""
    both = [_agreed(pair, pair.seen, "swap") for pair in pairs]
    decided = [score for score in both if score != 0.5]
    return Agreement(
        first=fmean(_agreed(pair, [one for one in pair.seen if one.first == 0], "none") for pair in pairs),
        second=fmean(_agreed(pair, [one for one in pair.seen if one.first == 1], "none") for pair in pairs),
        swap=fmean(both),
        decided=len(decided) / len(both),
        of_decided=fmean(decided),
        bias=position_bias(_joined(pairs)),
    )


def _agreed(pair: Pair, seen: Sequence[Comparison], correction: Correction) -> float:
    return _right(corrected(seen, 2, correction).preferences[pair.gold][1 - pair.gold])


def _right(preference: float) -> float:
    return 0.5 if abs(preference - 0.5) < _EVEN else float(preference > 0.5)


def fitted(pairs: Sequence[Pair]) -> tuple[list[float], float]:
    """Fit all pairs at once with one effect of the place; agreement by pair, and the effect as a bias."""
    found = corrected(_joined(pairs), 2 * len(pairs), "bradley_terry")
    golds = [2 * place + pair.gold for place, pair in enumerate(pairs)]
    return [_right(found.preferences[gold][gold ^ 1]) for gold in golds], found.position_bias


def _joined(pairs: Sequence[Pair]) -> list[Comparison]:
    return [
        Comparison(one.first + 2 * place, one.second + 2 * place, one.outcome)
        for place, pair in enumerate(pairs)
        for one in pair.seen
    ]


def pairs_of(recorded: Sequence[Row], judge: str, subset: str = "") -> list[Pair]:
    """Return what a judge said of the pairs of a subset, of all without one."""
    return [_pair(row, judge) for row in recorded if not subset or row["subset"] == subset]


def _pair(row: Row, judge: str) -> Pair:
    outcomes = (read_preference(reply(row, judge, turned=turned)) for turned in (False, True))
    seen = (Comparison(place, 1 - place, value) for place, value in enumerate(outcomes) if value is not None)
    return Pair(int(row["label"]) - 1, tuple(seen))


def reply(row: Row, judge: str, *, turned: bool) -> str:
    """Return a verdict in the words that the ranking prompt asks for; the data name outputs, whichever came first."""
    winner = str(row["judges"][judge]["w"][turned])
    if winner not in "12":
        return "No verdict was recorded."
    return f"Better: [{3 - int(winner) if turned else winner}]"
