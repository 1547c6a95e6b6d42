"""When enough votes have been drawn: how sure the votes so far make the answer that leads.

Votes are counts by answer in any order, such as `(5, 2, 1)`. Everything is exact, or exact to the precision of a
quadrature: the same votes always give the same number, on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["beta_confidence", "concentration", "decided", "dirichlet_confidence", "saturation"]

_POINTS = 400
"""Nodes of the quadrature; its error is below 1e-9 up to some hundreds of votes."""


def beta_confidence(votes: Sequence[int]) -> float:
    """Return the probability that the leading answer is truly more frequent than the second, 0..1.

    The posterior of the first's share among the two is Beta(v1 + 1, v2 + 1) under a uniform prior; the result is its
    mass above 1/2 (Adaptive-Consistency, arXiv 2305.11860). Without votes it is 1/2.
    """
    first, second = (*sorted(votes, reverse=True), 0, 0)[:2]
    # I_{1/2}(a, b) of whole numbers is a tail of the binomial distribution over a + b - 1 fair coins.
    # Each coefficient comes of the one before it; made one by one they take seconds where votes are thousands.
    coins = first + second + 1
    tail, ways = 0, 1
    for heads in range(first + 1):
        tail, ways = tail + ways, ways * (coins - heads) // (heads + 1)
    confidence: float = tail / 2**coins
    return confidence


def dirichlet_confidence(votes: Sequence[int]) -> float:
    """Return the probability that the leading answer is truly the most frequent of all, 0..1.

    The posterior of the shares is Dirichlet(v1 + 1, ..., vm + 1, 1) under a uniform prior; the last 1 stands for an
    answer that was not seen yet, so that a lone answer has a rival (with one answer this is `beta_confidence`).
    """
    return _dirichlet(tuple(sorted(votes, reverse=True)) or (0,))


@lru_cache(maxsize=4096)
def _dirichlet(votes: tuple[int, ...]) -> float:
    import numpy as np

    # Shares of a Dirichlet are Gamma variables over their sum, so the first is the largest with the probability
    # E[prod F_i(X1)]: one integral over the density of X1 times the distribution functions of the others.
    shape = votes[0] + 1
    end = shape + 12 * math.sqrt(shape) + 40
    nodes, weights = _quadrature()
    x = (nodes + 1) * end / 2
    value = np.exp((shape - 1) * np.log(x) - x - math.lgamma(shape))
    for count in (*votes[1:], 0):
        terms = np.arange(count + 1)
        logs = terms[:, None] * np.log(x) - np.array([math.lgamma(t + 1) for t in terms])[:, None] - x
        value *= 1 - np.exp(logs).sum(axis=0)
    return float(min(1.0, max(0.0, (weights * value).sum() * end / 2)))


@lru_cache(maxsize=1)
def _quadrature() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    return nodes, weights


def concentration(votes: Sequence[int]) -> float:
    """Return 1 less the entropy of the votes over its maximum, the logarithm of their number; 0..1.

    All on one answer is 1, all apart is 0; fewer than two votes say nothing, which is 0.
    """
    total = sum(votes)
    if total < 2:
        return 0.0
    entropy = -math.fsum(count / total * math.log(count / total) for count in votes if count)
    return min(1.0, max(0.0, 1 - entropy / math.log(total)))


def decided(votes: Sequence[int], left: int) -> bool:
    """Tell whether the votes that are left can no longer turn the lead, whatever they are."""
    first, second = (*sorted(votes, reverse=True), 0, 0)[:2]
    return first > second + left


def saturation(p: float, epsilon: float, f_max: float = 1.0) -> float:
    """Return N*, the number of samples from which on a further one gains less than epsilon; infinite where none does.

    F(N) = f_max (1 - (1 - p)^N) is the chance that one of N samples is right, so that sample N + 1 gains
    f_max p (1 - p)^N (Scaling over Scaling, "TTSPM"). `p` is the chance of one sample, 0..1.
    """
    if f_max * p <= epsilon:
        return 0
    if epsilon <= 0:
        return 1 if p >= 1 else math.inf
    return 1 if p >= 1 else max(1, math.ceil(math.log(epsilon / (f_max * p)) / math.log1p(-p)))
