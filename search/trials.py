"""The state of a study: what was asked, what was told. It is plain data, and every sampler decides from it alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from db.errors import UserError

if TYPE_CHECKING:
    from search.domain import Domain

__all__ = ["Observation", "StudyState", "Trial"]


class Trial(NamedTuple):
    """One architecture that is to be tried."""

    id: int
    point: int


class Observation(NamedTuple):
    """What is known of a trial."""

    values: tuple[float, ...]
    """One for each objective; more is better."""
    items: int = 1
    """From how many items; what was told of more items stands in the place of what was told of fewer."""
    variance: float = 0.0
    """Squared standard error of the first value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyState:
    """The whole memory of a search; equal states lead to equal proposals."""

    seed: int
    domain: str
    """The digest of the domain on which the study began."""
    trials: tuple[Trial, ...] = ()
    told: Mapping[int, Observation] = field(default_factory=dict)

    @classmethod
    def begin(cls, domain: Domain, seed: int) -> StudyState:
        """Return the state before the first trial."""
        return cls(seed=seed, domain=domain.digest)

    @property
    def points(self) -> tuple[int, ...]:
        """The points that were asked, told or not."""
        return tuple(trial.point for trial in self.trials)

    def asked(self, points: Iterable[int]) -> tuple[StudyState, tuple[Trial, ...]]:
        """Add trials for these points, with ids that go on from the last."""
        new = tuple(Trial(len(self.trials) + i, point) for i, point in enumerate(points))
        return replace(self, trials=self.trials + new), new

    def tell(
        self, trial_id: int, values: float | Sequence[float], *, items: int = 1, variance: float = 0.0
    ) -> StudyState:
        """Add what was measured; the same may be told twice, and in any order.

        Raises `ValueError` for a trial that was never asked, a value that is no finite number, another number of
        objectives than before, and another value for as many items as were told before.
        """
        if not 0 <= trial_id < len(self.trials):
            raise ValueError(f"there is no trial {trial_id}; {len(self.trials)} were asked")
        numbers = (float(values),) if isinstance(values, int | float) else tuple(map(float, values))
        if not numbers or not all(map(math.isfinite, numbers)) or items < 1 or not 0 <= variance < math.inf:
            raise ValueError(f"trial {trial_id} needs finite values of at least one item ({values}, {items} items)")
        if any(len(known.values) != len(numbers) for known in self.told.values()):
            raise ValueError(f"trial {trial_id} has {len(numbers)} values, other trials have another number")
        new, known = Observation(numbers, items, float(variance)), self.told.get(trial_id)
        if known is not None and known.items == items and known.values != numbers:
            raise ValueError(f"trial {trial_id} was told as {known.values} before, and now as {numbers}")
        if known is not None and known.items >= items:
            return self
        return replace(self, told=dict(sorted({**self.told, trial_id: new}.items())))

    def data(self) -> dict[str, object]:
        """Return the state as plain data for JSON."""
        told = {str(trial): [list(o.values), o.items, o.variance] for trial, o in self.told.items()}
        return {"seed": self.seed, "domain": self.domain, "points": list(self.points), "told": told}

    @classmethod
    def resume(cls, data: Mapping[str, object], domain: Domain) -> StudyState:
        """Return the state that `data` made; raises `UserError` where it is of another domain or malformed."""
        if data.get("domain") != domain.digest:
            raise UserError("The study was begun on another space, set of models or caps; give it back, or begin anew.")
        seed, points, told = data.get("seed"), data.get("points"), data.get("told")
        if not isinstance(seed, int) or not isinstance(points, list) or not isinstance(told, dict):
            raise UserError("The study's state is malformed: it needs 'seed', 'points' and 'told'.")
        state, _ = cls(seed=seed, domain=domain.digest).asked(points)
        for trial, (values, items, variance) in told.items():
            state = state.tell(int(trial), values, items=items, variance=variance)
        return state
