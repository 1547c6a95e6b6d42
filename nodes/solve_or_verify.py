"""How a budget is divided between solutions and their verifications."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

__all__ = ["SOLVE_POWER", "VERIFY_POWER", "Division", "divide"]

SOLVE_POWER: Final = 0.57
VERIFY_POWER: Final = 0.39
"""The best numbers of solutions and of verifications grow with the budget by these powers (arXiv 2504.01005)."""

_ROUNDING: Final = 1e-9
"""A budget that pays for a whole number of things, but for the last bits of its sums, pays for them."""


class Division(NamedTuple):
    """Solutions, and verifications of each of them; together they cost at most the budget."""

    solutions: int
    """S, at least 1."""
    verifications: int
    """V; 0 is self-consistency."""

    def cost(self, ratio: float) -> float:
        """Return S(1 + λV), in solutions, where `ratio` is λ."""
        return self.solutions * (1 + ratio * self.verifications)


def divide(budget: float, ratio: float, verify_from: float) -> Division:
    """Divide a budget C, counted in solutions, where one verification costs `ratio` (λ) of a solution.

    Below `verify_from` (C0) all of it buys solutions. From there on V = (C/C0)^0.39, rounded down (less where that
    would leave nothing for a single solution), and S is what the rest pays for: C/(1 + λV), rounded down, which is
    never fewer than the law's S = C0/(1 + λ)·(C/C0)^0.57. The paper gives the powers; that both laws meet at C0, where
    one verification of each solution takes the whole budget, is ours. Raises `ValueError` for a budget below 1 and for
    a ratio or C0 that is not above 0.
    """
    if budget < 1 or ratio <= 0 or verify_from <= 0:
        raise ValueError(
            f"the budget is at least 1, the ratio and the least budget for verifications are above 0 "
            f"(budget={budget:g}, ratio={ratio:g}, verify_from={verify_from:g})"
        )
    lawful = math.floor((budget / verify_from) ** VERIFY_POWER + _ROUNDING) if budget >= verify_from else 0
    # One solution at least is paid for.
    verifications = min(lawful, math.floor((budget - 1) / ratio + _ROUNDING))
    return Division(max(1, math.floor(budget / (1 + ratio * verifications) + _ROUNDING)), verifications)
