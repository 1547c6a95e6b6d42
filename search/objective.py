"""What a search wants: quality, quality against its price, or several objectives at once. More is always better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from db.errors import UserError

__all__ = ["NO_RUNGS", "Measured", "Objective", "ObjectiveName"]

NO_RUNGS: Final = "A cost per correct answer cannot be raced by rungs of items; race by 'utility', or use one rung."

ObjectiveName = Literal["calls", "cost_per_correct", "dollars", "quality", "seconds", "utility"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One item's outcome, or the means over items."""

    quality: float
    dollars: float = 0.0
    calls: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One or several objectives; costs enter with a minus, so that more is better in every one.

    `utility` is minus the dollars that an item costs, its error included: -(dollars + error_price · (1 - quality)).
    `cost_per_correct` is minus the dollars for one correct answer, which no single item has; where none is right, half
    an answer counts as right, so that it is finite and worse than with one right answer at the same price. Raises
    `ValueError` on construction without objectives, with one twice, and for a negative price.
    """

    names: tuple[ObjectiveName, ...] = ("quality",)
    error_price: float = 0.0
    """Dollars that a wrong answer costs whoever uses it."""

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names) or self.error_price < 0:
            raise ValueError(f"objectives are different ones, one at least, with a price from 0 up ({self})")

    def values(self, measured: Sequence[Measured]) -> tuple[float, ...]:
        """Return the value of every objective over items; raises `ValueError` without items."""
        if not measured:
            raise ValueError("an objective needs at least one item")
        return tuple(self._value(name, measured) for name in self.names)

    def score(self, item: Measured) -> float:
        """Return one item's score in a race, which is by the first objective; for `cost_per_correct` its quality."""
        return self._value("quality" if self.names[0] == "cost_per_correct" else self.names[0], [item])

    def check_rungs(self, rungs: Sequence[int]) -> None:
        """Raise `UserError` where a race by these rungs would take the mean of what is no mean over items."""
        if len(rungs) > 1 and "cost_per_correct" in self.names:
            raise UserError(NO_RUNGS)

    def _value(self, name: ObjectiveName, measured: Sequence[Measured]) -> float:
        n = len(measured)
        dollars, right = sum(one.dollars for one in measured), sum(one.quality for one in measured)
        if name == "quality":
            return right / n
        if name == "utility":
            return -(dollars + self.error_price * (n - right)) / n
        if name == "cost_per_correct":
            return -dollars / max(right, 0.5)
        if name == "dollars":
            return -dollars / n
        return -sum(one.calls if name == "calls" else one.seconds for one in measured) / n
