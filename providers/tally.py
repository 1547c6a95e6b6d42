"""Counting what was used and what was paid for it; a cost that is unknown stays unknown in every sum."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from providers.base import Usage

__all__ = ["Tally", "Totals"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Used counts every sample that was handed out; paid only those that were bought."""

    calls: int = 0
    paid_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    paid_prompt_tokens: int = 0
    paid_completion_tokens: int = 0
    cost: Decimal | None = Decimal(0)
    """Dollars that all samples would have cost; None where a price is unknown."""
    paid_cost: Decimal | None = Decimal(0)
    """Dollars paid; None where the price of something paid is unknown."""
    failures: int = 0
    """Samples that were asked for and did not come."""
    cancelled: int = 0
    """Of the paid calls, those that were stopped before anybody could use them; their tokens and dollars are in all
    sums."""

    @property
    def cached_calls(self) -> int:
        """Samples that cost nothing now."""
        return self.calls - self.paid_calls

    def plus(self, other: Totals) -> Totals:
        """Add two totals; what is unknown in one is unknown in the sum."""
        return Totals(
            calls=self.calls + other.calls,
            paid_calls=self.paid_calls + other.paid_calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            paid_prompt_tokens=self.paid_prompt_tokens + other.paid_prompt_tokens,
            paid_completion_tokens=self.paid_completion_tokens + other.paid_completion_tokens,
            cost=None if self.cost is None or other.cost is None else self.cost + other.cost,
            paid_cost=None if self.paid_cost is None or other.paid_cost is None else self.paid_cost + other.paid_cost,
            failures=self.failures + other.failures,
            cancelled=self.cancelled + other.cancelled,
        )


class Tally:
    """A running sum of samples."""

    __slots__ = ("_cost", "_numbers", "_paid_cost", "_unpriced", "_unpriced_paid", "cancelled", "failures")

    def __init__(self) -> None:
        self._numbers = [0, 0, 0, 0, 0, 0]
        self._cost = Decimal(0)
        self._paid_cost = Decimal(0)
        self._unpriced = 0
        self._unpriced_paid = 0
        self.failures = 0
        self.cancelled = 0

    def add(self, usage: Usage, cost: Decimal | None, *, paid: bool) -> None:
        """Count one sample."""
        numbers = self._numbers
        numbers[0] += 1
        numbers[2] += usage.prompt_tokens
        numbers[3] += usage.completion_tokens
        if cost is None:
            self._unpriced += 1
        else:
            self._cost += cost
        if paid:
            numbers[1] += 1
            numbers[4] += usage.prompt_tokens
            numbers[5] += usage.completion_tokens
            if cost is None:
                self._unpriced_paid += 1
            else:
                self._paid_cost += cost

    def cut(self, usage: Usage, cost: Decimal | None) -> None:
        """Count a sample that was paid as far as it had come, and cancelled."""
        self.add(usage, cost, paid=True)
        self.cancelled += 1

    def totals(self) -> Totals:
        """Return the sums so far."""
        calls, paid, prompt, completion, paid_prompt, paid_completion = self._numbers
        return Totals(
            calls=calls,
            paid_calls=paid,
            prompt_tokens=prompt,
            completion_tokens=completion,
            paid_prompt_tokens=paid_prompt,
            paid_completion_tokens=paid_completion,
            cost=None if self._unpriced else self._cost,
            paid_cost=None if self._unpriced_paid else self._paid_cost,
            failures=self.failures,
            cancelled=self.cancelled,
        )
