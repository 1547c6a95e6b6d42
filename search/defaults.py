"""The search that is run where nobody chose another (its figures: docs/decisions/0007-search.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from search.racing import Race, rungs_for
from search.sampler import make_sampler

if TYPE_CHECKING:
    from search.domain import Domain

__all__ = ["default_race"]


def default_race(domain: Domain, items: int, *, span: float = 1.0, alpha: float = 0.05) -> Race:
    """Return a race over a Gaussian process, for a dev split of this many items.

    Rungs grow threefold and begin at 200 items, or at a third of a split that has fewer than 600: with less, what a
    rung says of the good points is mostly noise.
    """
    first = max(1, min(200, items // 3))
    return Race(make_sampler("gp", domain), rungs_for(items, first=first, eta=3), eta=3, alpha=alpha, span=span)
