"""What a trial costs now: its planned cost without the samples that earlier trials bought.

A sample's key is its model, messages, sampling and index, so architectures that share a part share its samples, and
whoever comes second does not pay for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from search.parts import Signs, parts
from search.pricing import positive

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from search.pricing import PlannedSpace, Unit

__all__ = ["Bills"]

_FLOOR: Final = 0.01
"""What a point costs that has nothing left to pay, as a share of the cheapest point's planned cost."""


class Bills:
    """The bills of all points of a planned space, cut into the parts that they share.

    An estimate by the plan's likely figures, in the unit of the domain's costs where no other is wanted. It does not
    know which replies happen to be equal, and takes the price of a prompt as spread over its samples, though more
    samples of it pay the prompt again.
    """

    def __init__(self, planned: PlannedSpace, unit: Unit | None = None) -> None:
        signs = Signs()
        bills = [parts(point.spec, point.call_costs(unit or planned.unit), signs) for point in planned.points]
        self._points = np.repeat(np.arange(len(bills)), [len(bill) for bill in bills])
        self._costs = np.asarray([part.cost for bill in bills for part in bill], dtype=float)
        _, self._parts = np.unique([part.sign for bill in bills for part in bill], return_inverse=True)
        self._planned = planned.domain.costs
        if unit not in (None, planned.unit):
            self._planned = positive(np.bincount(self._points, self._costs, len(bills)).astype(float))
        self._ends = np.searchsorted(self._points, np.arange(len(bills) + 1))

    def left(self, bought: Mapping[int, int], items: range = range(1)) -> NDArray[np.float64]:
        """Return what one item of every point costs now, as the mean over these places in the study's order.

        `bought` says of each point that was scored on how many first items. What is left is never more than the
        planned cost and always above 0. Raises `ValueError` without items.
        """
        if not len(items):
            raise ValueError("what is left to pay is a mean over at least one item")
        until = np.zeros(int(self._parts.max(initial=-1)) + 1)
        for point, count in bought.items():
            own = self._parts[self._ends[point] : self._ends[point + 1]]
            until[own] = np.maximum(until[own], count)
        share = np.clip((items.stop - until) / len(items), 0.0, 1.0)
        left = np.bincount(self._points, self._costs * share[self._parts], len(self._planned))
        return np.clip(left, _FLOOR * self._planned.min(), self._planned)
