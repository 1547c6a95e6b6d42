"""What a gateway has done so far, for progress displays."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from providers.replicas import ReplicaStatus
from providers.tally import Totals

__all__ = ["GatewayStatus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatus:
    """A snapshot for progress displays; counts since the gateway was opened."""

    in_flight: int
    """Requests that are out now."""
    paid: Totals
    """Samples that were paid, with their tokens and dollars."""
    cached_calls: int
    """Samples that were handed out and cost nothing."""
    requests: int
    """Attempts over the wire."""
    retries: int
    failures: int
    """Samples that did not come, after all retries."""
    uncertain: int
    """Attempts that broke off (timeout, reset, cancelled), so that what was billed for them is not known."""
    interrupted: int
    """Samples that a killed process of the same run had sent for and not stored: they may have been billed too."""
    budget_dollars: Decimal | None
    reserved_dollars: Decimal
    replicas: tuple[ReplicaStatus, ...] = ()
    """The endpoints that were used, by address: whether they answer, how busy they are."""
