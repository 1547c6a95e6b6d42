"""The search that is run where nobody chose another (its figures: docs/decisions/0007-search.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.racing import Race, rungs_for
from search.sampler import make_sampler

if TYPE_CHECKING:
    from search.domain import Domain

__all__ = ["default_race"]


def default_race(domain: Domain, items: int, *, span: float | None = 1.0, alpha: float = 0.05) -> Race:
    """Return a race over a Gaussian process, for a dev split of this many items.

    Rungs grow threefold. They begin at about twice as many items as the square root of the points, at 200 and at a
    third of the split at most. In a small domain few trials are made, and a cheap first look pays; in a large one many
    points are nearly equal, and of those a short rung says mostly noise.
    """
    first = max(1, min(round(2 * len(domain) ** 0.5), 200, items // 3))
    sampler = make_sampler("gp", domain, starts=6)
    return Race(sampler, rungs_for(items, first=first, eta=3), eta=3, alpha=alpha, span=span)
