"""How often a verifier lets right and wrong responses pass, estimated from recorded outcomes.

What it finds are the settings of `resample_until_verified` (`rates`), and the limit that resampling comes to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from evals.stats import Interval, wilson
from nodes.resample_cap import Rates

__all__ = ["Judged", "Share", "VerifierRates", "rates_by_kind", "verifier_rates"]


class Judged(NamedTuple):
    """One response with what the verifier and the truth say of it."""

    passed: bool
    """A verdict that could not be had is no pass."""
    correct: bool


class Share(NamedTuple):
    """A proportion with its Wilson interval; not a number, and 0..1, where there is nothing to count."""

    value: float
    interval: Interval
    n: int
    """Of how many."""


class VerifierRates(NamedTuple):
    """A verifier on the responses of one model."""

    p_tp: Share
    """Right and passed, of all responses."""
    p_fp: Share
    """Wrong and passed, of all responses."""
    sensitivity: Share
    """Passed, of the right ones."""
    false_positive_rate: Share
    """Passed, of the wrong ones."""
    accuracy_limit: Share
    """Right, of those that passed: p_tp / (p_tp + p_fp), to which resampling comes on questions of one kind."""

    @property
    def rates(self) -> Rates:
        """The estimates as a setting of `resample_until_verified`; raises `ValueError` without responses."""
        return Rates(p_tp=self.p_tp.value, p_fp=self.p_fp.value, weight=self.p_tp.n)


def verifier_rates(outcomes: Iterable[Judged], *, confidence: float = 0.95) -> VerifierRates:
    """Estimate a verifier's rates; the responses are taken as independent of one another.

    Several responses to one question are alike, so that their intervals come out too narrow: for honest ones give one
    response for each question.
    """
    counts = Counter(outcomes)
    hit, false_alarm = counts[Judged(True, True)], counts[Judged(True, False)]
    right = hit + counts[Judged(False, True)]
    wrong = false_alarm + counts[Judged(False, False)]

    def share(found: int, n: int) -> Share:
        return Share(found / n if n else float("nan"), wilson(found, n, confidence), n)

    return VerifierRates(
        p_tp=share(hit, right + wrong),
        p_fp=share(false_alarm, right + wrong),
        sensitivity=share(hit, right),
        false_positive_rate=share(false_alarm, wrong),
        accuracy_limit=share(hit, hit + false_alarm),
    )


def rates_by_kind(outcomes: Mapping[str, Sequence[tuple[str, Judged]]]) -> tuple[Rates, ...]:
    """Estimate the rates of each kind of questions, weighed by how many questions there are of it.

    `outcomes` gives for each kind (a level of difficulty, a topic) pairs of question and judged response. Kinds have to
    be set apart by something other than these outcomes: sorted by their own results, questions look more unlike than
    they are. Within a kind questions are taken as alike; as far as they are not, later draws do worse than is foretold.
    Raises `ValueError` for a kind without responses.
    """
    found = []
    for kind, pairs in outcomes.items():
        if not pairs:
            raise ValueError(f"the kind {kind!r} has no responses to estimate from")
        estimated = verifier_rates(judged for _, judged in pairs)
        questions = len({question for question, _ in pairs})
        found.append(Rates(p_tp=estimated.p_tp.value, p_fp=estimated.p_fp.value, weight=questions))
    return tuple(found)
