"""What going through batch APIs came to."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

__all__ = ["BatchReport"]


@dataclass(slots=True, kw_only=True)
class BatchReport:
    """Counts since the gateway was opened."""

    rounds: int = 0
    """How often what had gathered was sent off."""
    batches: int = 0
    """Batches that were submitted."""
    rows: int = 0
    """Requests in them."""
    resumed: int = 0
    """Batches of an earlier process that requests waited for."""
    again: int = 0
    """Requests that were submitted once more, since their batch had expired or failed for them."""
    pulled: int = 0
    """Batches that were cancelled for the deadline."""
    saved: Decimal = Decimal(0)
    """Dollars that the samples of batches cost less than they would have at once."""
    moved: int = 0
    """Requests that were asked at once, for the deadline."""
    extra: Decimal = Decimal(0)
    """Dollars that those cost more than they would have in a batch."""
