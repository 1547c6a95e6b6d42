"""A study as it is shown: everything that a table, a picture, a report or an export needs, as plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from db.runs import RunStatus
    from evals.stats import Interval

__all__ = [
    "AgainstView",
    "Contender",
    "Ending",
    "Spent",
    "StepView",
    "StudyView",
    "TrialState",
    "TrialView",
    "read_spent",
]

TrialState = Literal["dropped", "running", "standing", "waiting"]
"""`standing`: scored on all items of the search; `waiting`: scored on some, and may still grow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a study, or a part of it, used and paid; without sharing all that was used would have been paid."""

    calls_used: int = 0
    calls_paid: int = 0
    tokens_used: int = 0
    tokens_paid: int = 0
    dollars_used: Decimal | None = Decimal(0)
    """None where a price is unknown."""
    dollars_paid: Decimal | None = Decimal(0)

    def plus(self, other: Spent) -> Spent:
        """Add; an unknown price makes the sum unknown."""
        return Spent(
            calls_used=self.calls_used + other.calls_used,
            calls_paid=self.calls_paid + other.calls_paid,
            tokens_used=self.tokens_used + other.tokens_used,
            tokens_paid=self.tokens_paid + other.tokens_paid,
            dollars_used=_sum(self.dollars_used, other.dollars_used),
            dollars_paid=_sum(self.dollars_paid, other.dollars_paid),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialView:
    """One architecture that was tried."""

    number: int
    architecture_id: str
    label: str
    """Its values in one line."""
    values: Mapping[str, object]
    """Parameter to value (text, number, truth, or a tuple of model names); what the point does not have is absent."""
    state: TrialState
    rung: int
    """The highest rung that was told, from 0; -1 before the first."""
    items: int
    """How many items it was scored on."""
    objectives: tuple[float, ...]
    """In the order of the study's objectives, more is better; empty before the first rung."""
    quality: float | None
    """Mean score over its items, from 0 to 1."""
    interval: Interval | None
    """95 % interval of the quality."""
    calls: float | None
    """Per item, of all samples used."""
    dollars: float | None
    """Per item, of all samples used; None where a price is unknown."""
    seconds: float | None
    """Mean wall time of an item."""
    planned_calls: float
    """Per item, likely, by `plan`."""
    planned_dollars: float | None
    rungs: tuple[float, ...] = ()
    """Mean score after each rung."""
    on_front: bool = False
    """No other trial that was scored on as many items or more is both better and as cheap (dollars, else calls)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """The study after one more job was told, in the order of telling."""

    items: int
    """Item evaluations so far: one architecture on one item each."""
    spent: Spent
    """So far."""
    trial: int
    rung: int
    value: float
    """First objective of this trial, on all its items so far."""
    leader: int
    """The trial that would win now."""
    leader_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Who was scored on the held-out items."""

    name: str
    role: Literal["baseline", "runner-up", "winner"]
    architecture_id: str
    trial: int | None
    """None for a baseline that is no trial."""
    quality: float
    interval: Interval
    calls: float
    """Per item."""
    dollars: float | None
    seconds: float
    failed: int = 0
    """Items that failed, which count as wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstView:
    """The winner compared with another contender on the held-out items, item by item."""

    name: str
    difference: float
    interval: Interval
    """As wide as all comparisons together ask for."""
    p_value: float
    """After Holm's correction."""
    better: bool
    worse: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is said at the end, on items that the search never saw and with samples of their own."""

    sentence: str
    items: int
    """Held-out items."""
    contenders: tuple[Contender, ...]
    """The winner first, then the runners-up, then the baselines."""
    against: tuple[AgainstView, ...]
    difference_found: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyView:
    """A search, running or ended."""

    id: str
    name: str
    status: RunStatus
    reason: str
    """Why it stopped."""
    space: str
    task: str
    sampler: str
    objectives: tuple[str, ...]
    rungs: tuple[int, ...]
    """Items after each rung."""
    points: int
    """Architectures that meet the caps."""
    raw: int
    """Combinations of all choices of the space."""
    caps: tuple[str, ...]
    """What one question may cost at most, in words."""
    seed: int
    trials: tuple[TrialView, ...]
    steps: tuple[StepView, ...]
    leader: int | None
    """The trial that would win now, or that won."""
    spent: Spent
    """Of the search, its baselines and its end together."""
    seconds: float
    ending: Ending | None
    architecture: Mapping[str, object] | None
    """The leader's architecture, written out."""
    nominal: bool
    """Some prices are nominal: they are paid to nobody."""

    def record(self) -> dict[str, object]:
        """Return the study as plain data."""
        return asdict(self)


def read_spent(data: Any) -> Spent:
    """Read what was stored as JSON, where dollars are text."""
    values = {one.name: data[one.name] for one in fields(Spent)}
    for name in ("dollars_used", "dollars_paid"):
        values[name] = None if values[name] is None else Decimal(str(values[name]))
    return Spent(**values)


def _sum(first: Decimal | None, second: Decimal | None) -> Decimal | None:
    return None if first is None or second is None else first + second
