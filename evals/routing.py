"""Routing between a weak and a strong model: the curve of a router, its area, and a router learned from outcomes.

A router gives each question a number; the questions with the highest ones go to the strong model. How many do is a
choice, so a router is a curve: accuracy by the share of questions that the strong model answers. RouteLLM
(arXiv 2406.18665) calls the share of the gap between the models that is recovered PGR, and its mean over all shares of
strong calls APGR: 0.5 for a router that draws lots.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from db.errors import DataError
from evals.stats import Interval, quantile
from nodes.routing_model import RoutingModel, hashed_words, log_length

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_array

__all__ = ["Outcome", "RoutingCurve", "TrainedRouter", "oracle_scores", "routing_curve", "train_router"]

_STRENGTHS = (0.1, 0.3, 1.0, 3.0)
_FEWEST = 20


class Outcome(NamedTuple):
    """A question with how well each model answered it, from 0 to 1."""

    question: str
    weak: float
    strong: float


class RoutingCurve(NamedTuple):
    """Accuracy by the share of questions that go to the strong model; both begin with none and end with all."""

    shares: tuple[float, ...]
    accuracies: tuple[float, ...]
    apgr: float
    """Average performance gap recovered; not a number where the models are equally good."""
    apgr_interval: Interval
    """95 %, over resampled questions."""
    area: float
    """Under the curve: the mean accuracy over all shares of strong calls."""

    def accuracy_at(self, share: float) -> float:
        """Return the accuracy where a share (0..1) of the questions goes to the strong model."""
        import numpy as np

        return float(np.interp(share, self.shares, self.accuracies))

    def share_for(self, recovered: float) -> float | None:
        """Return the least share of strong calls that recovers a part (0..1) of the gap, None where none does.

        RouteLLM's CPT, the call-performance threshold.
        """
        wanted = self.accuracies[0] + recovered * (self.accuracies[-1] - self.accuracies[0])
        ends = itertools.pairwise(zip(self.shares, self.accuracies, strict=True))
        for (before, low), (after, high) in ends:
            if low >= wanted:
                return before
            if high >= wanted:
                return before + (after - before) * (wanted - low) / (high - low)
        return None


class TrainedRouter(NamedTuple):
    """A router with what was found while it was trained."""

    model: RoutingModel
    strength: float
    """How freely weights may grow (the variance of their prior), as cross-validation chose it."""
    apgr: float
    """Of predictions on questions that each fold did not see; what may be expected on new ones like them. Not a number
    where the models are equally good."""


def oracle_scores(outcomes: Sequence[Outcome]) -> list[float]:
    """Return what a router would give that knows the answers: what the strong model gains on each question."""
    return [outcome.strong - outcome.weak for outcome in outcomes]


def routing_curve(
    scores: Sequence[float], outcomes: Sequence[Outcome], *, resamples: int = 500, seed: int = 0
) -> RoutingCurve:
    """Return the curve of a router from its scores; questions with equal scores go in random order, in expectation.

    Raises `ValueError` without questions and for lists of unequal length.
    """
    import numpy as np

    if len(scores) != len(outcomes) or not outcomes:
        raise ValueError(f"a curve needs a score for each question ({len(scores)} and {len(outcomes)})")
    given = np.asarray(scores, dtype=float)
    order = np.argsort(-given, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(given[order])) + 1, len(order))
    weak = np.asarray([float(outcome.weak) for outcome in outcomes])[order]
    gains = np.asarray([float(outcome.strong) for outcome in outcomes])[order] - weak
    # All questions once; then resampled, as counts of each.
    rng, n = np.random.default_rng(seed), len(order)
    once = _curves(np.ones((1, n)), weak, gains, ends)
    drawn = (_curves(rng.multinomial(n, np.full(n, 1 / n), size=1), weak, gains, ends) for _ in range(resamples))
    apgrs = [float(value) for curve in drawn if math.isfinite(value := curve.apgr)]
    interval = Interval(quantile(apgrs, 0.025), quantile(apgrs, 0.975)) if apgrs else Interval(-math.inf, math.inf)
    return RoutingCurve(tuple(once.shares.tolist()), tuple(once.accuracies.tolist()), once.apgr, interval, once.area)


def train_router(
    outcomes: Sequence[Outcome],
    *,
    places: int = 4096,
    strengths: Sequence[float] = _STRENGTHS,
    folds: int = 3,
    seed: int = 0,
    weak: str = "",
    strong: str = "",
) -> TrainedRouter:
    """Learn from recorded outcomes how likely the strong model answers a question better.

    Logistic regression on hashed words; the target is 1 where only the strong model is right, 0 where only the weak one
    is, and 1/2 where both do equally well. How strongly weights are held down is chosen by the area under the curve on
    questions that were left out, which tells routers apart where the strong model is no better, too. Raises `DataError`
    for fewer than 20 questions and where the models never differ.
    """
    import numpy as np

    if len(outcomes) < _FEWEST:
        raise DataError(f"A router is trained on {_FEWEST} questions at least, not on {len(outcomes)}; record more.")
    target = np.asarray([(1 + outcome.strong - outcome.weak) / 2 for outcome in outcomes])
    if np.ptp(target) == 0:
        raise DataError("The two models do equally well on every question, so a router has nothing to learn.")
    lengths = np.asarray([log_length(outcome.question) for outcome in outcomes])
    mean, sd = float(lengths.mean()), float(lengths.std()) or 1.0
    features = _features([outcome.question for outcome in outcomes], (lengths - mean) / sd, places)
    fold = np.random.default_rng(seed).permutation(len(outcomes)) % folds
    tried = _validated(features, target, fold, strengths)
    curves = [routing_curve(list(scores), outcomes, resamples=0) for scores in tried]
    best = int(np.argmax([curve.area for curve in curves]))
    fitted = _fit(features, target, strengths[best], np.zeros(places + 2))
    model = RoutingModel(
        weights=fitted[:places].astype(np.float32),
        bias=float(fitted[places + 1]),
        length_weight=float(fitted[places]),
        length_mean=mean,
        length_sd=sd,
        quantiles=tuple(np.quantile(tried[best], np.linspace(0, 1, 101)).tolist()),
        weak=weak,
        strong=strong,
        trained_on=len(outcomes),
    )
    return TrainedRouter(model, strengths[best], curves[best].apgr)


class _Curve(NamedTuple):
    shares: NDArray[np.float64]
    accuracies: NDArray[np.float64]
    apgr: float
    area: float


def _curves(
    counts: NDArray[np.float64] | NDArray[np.int64],
    weak: NDArray[np.float64],
    gains: NDArray[np.float64],
    ends: NDArray[np.int64],
) -> _Curve:
    """Compute one curve of questions in their order, each with a count; ties are one straight piece."""
    import numpy as np

    weights = counts[0]
    total = weights.sum()
    shares = np.concatenate([[0.0], np.cumsum(weights)[ends - 1] / total])
    accuracies = (weights @ weak + np.concatenate([[0.0], np.cumsum(weights * gains)[ends - 1]])) / total
    area = float(np.trapezoid(accuracies, shares))
    gap = float(accuracies[-1] - accuracies[0])
    return _Curve(shares, accuracies, (area - float(accuracies[0])) / gap if gap else math.nan, area)


def _features(questions: Sequence[str], lengths: NDArray[np.float64], places: int) -> csr_array:
    """Hashed words, the standardised length and a 1 for the bias, shape (questions, places + 2)."""
    import numpy as np
    from scipy.sparse import csr_array

    columns: list[int] = []
    values: list[float] = []
    starts = [0]
    for question, length in zip(questions, lengths, strict=True):
        found, counted = hashed_words(question, places)
        columns += [*found, places, places + 1]
        values += [*counted, float(length), 1.0]
        starts.append(len(columns))
    return csr_array((values, np.asarray(columns), np.asarray(starts)), shape=(len(questions), places + 2))


def _validated(
    features: csr_array, target: NDArray[np.float64], fold: NDArray[np.int64], strengths: Sequence[float]
) -> list[NDArray[np.float64]]:
    """Predict each fold from the others, for every strength; each fit begins where the one before it ended."""
    import numpy as np

    tried = [np.zeros(len(target)) for _ in strengths]
    for number in np.unique(fold):
        out = fold == number
        fitted = np.zeros(features.shape[1])
        for predicted, strength in zip(tried, strengths, strict=True):
            fitted = _fit(features[~out], target[~out], strength, fitted)
            predicted[out] = _logistic(features[out] @ fitted)
    return tried


def _fit(
    features: csr_array, target: NDArray[np.float64], strength: float, start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fit weights by maximum likelihood under a normal prior; length and bias, the last two, are free of it."""
    import numpy as np
    from scipy.optimize import minimize

    held = np.append(np.full(features.shape[1] - 2, 1 / strength), [0.0, 0.0])
    across = features.T.tocsr()

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        total = features @ weights
        value = float((np.logaddexp(0, total) - target * total).sum() + (held * weights) @ weights / 2)
        return value, across @ (_logistic(total) - target) + held * weights

    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300, "ftol": 1e-7})
    return np.asarray(found.x, dtype=np.float64)


def _logistic(total: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np
    from scipy.special import expit

    return np.asarray(expit(total), dtype=np.float64)
