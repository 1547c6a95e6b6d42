"""What happened to the limits of calls in flight while a run went on, as it is stored with the run and shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from providers.gateway import GatewayStatus

__all__ = ["LimitHistory", "limit_histories", "limit_notes"]


class LimitHistory(TypedDict):
    """The limit of one model at one endpoint, and how it came to be that."""

    model: str
    endpoint: str
    limit: int
    changes: list[tuple[float, int, str]]
    """Seconds since the endpoint was first used, the limit from then on, and why; oldest first."""


def limit_histories(status: GatewayStatus) -> list[LimitHistory]:
    """Return the histories of all limits that changed."""
    return [
        LimitHistory(
            model=limiter.model,
            endpoint=replica.name,
            limit=limiter.limit,
            changes=[(round(change.at_s, 3), change.limit, change.reason) for change in limiter.history],
        )
        for replica in status.replicas
        for limiter in replica.limiters
        if len(limiter.history) > 1
    ]


def limit_notes(histories: Sequence[LimitHistory], *, most: int = 8) -> list[str]:
    """Say each history in one line: the limits in order with the second and the reason, the last ones where many."""
    notes = []
    for history in histories:
        shown = history["changes"][-most:]
        steps = ", ".join(f"{limit} at {at_s:.1f} s ({reason})" for at_s, limit, reason in shown)
        more = "…, " if len(history["changes"]) > most else ""
        notes.append(f"Calls in flight to {history['model']} at {history['endpoint']}: {more}{steps}.")
    return notes
