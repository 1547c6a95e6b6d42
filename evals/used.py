"""What an item cost, in the unit that a choice is to go by."""

from __future__ import annotations

from typing import Literal

from db.errors import DataError
from db.runs import ItemRecord

__all__ = ["Unit", "used"]

Unit = Literal["calls", "dollars", "tokens"]


def used(record: ItemRecord, unit: Unit) -> float:
    """Return what an item used, paid now or long before; raises `DataError` for dollars where a price is unknown."""
    if unit == "calls":
        return float(record.calls_used)
    if unit == "tokens":
        return float(record.prompt_tokens_used + record.completion_tokens_used)
    if record.cost_used is None:
        raise DataError(f"A price of item {record.item_id!r} is unknown; give all models a price, or count calls.")
    return float(record.cost_used)
