"""What a watch is and what its looks found, as plain data."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from db.runs import RunStatus
from flows.evaluate import TaskChoice
from flows.session import SessionSettings

__all__ = ["Finding", "FindingKind", "Look", "WatchJob"]

FindingKind = Literal["cost-rose", "model-changed", "quality-fell"]


class WatchJob(BaseModel):
    """Everything that a watch is: what a deployment stores and a worker gets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architectures: tuple[dict[str, Any], ...] = Field(min_length=1)
    """Written out in full; each is watched by itself."""
    task: TaskChoice
    session: SessionSettings = SessionSettings()
    """The caps hold for one go: for the looks of all architectures together."""
    name: str = ""
    """Another name begins another watch, with a reference of its own."""
    references: tuple[str, ...] = ()
    """Runs that are the reference; where none is named for an architecture, the first go makes one."""
    repeats: int = Field(default=4, gt=0)
    """How often every item is sampled in a reference that the watch makes itself."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """The chance of a false alarm over all looks at one architecture, however many."""
    cost_tolerance: float = Field(default=0.05, ge=0)
    """A rise of the cost that is no alarm, as a share of the cost before."""
    concurrency: int = Field(default=64, gt=0)
    """Items in flight."""
    chunk: int = Field(default=50, gt=0)
    """Items in one Prefect task."""


class Finding(BaseModel):
    """The result of one test of a look."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: FindingKind
    what: str
    """quality, dollars, tokens, calls, answers, or a model's alias."""
    alarm: bool
    sentence: str
    error: float | None = None
    """The smallest error over all looks at which this is an alarm; None where no chance is in it."""
    window: int = 1
    """The newest looks that were set against all before them."""
    before: float | None = None
    after: float | None = None


class Look(BaseModel):
    """One look at one architecture; number 0 is the making of the reference."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    watch: str
    name: str
    """The architecture's."""
    task: str
    number: int
    run_id: str
    at: datetime
    status: RunStatus
    reason: str = ""
    """Why it was stopped."""
    items: int
    failed: int
    quality: float
    """Mean score over the items, from 0 to 1."""
    reference: float
    """The mean score of the reference."""
    dollars: float | None
    """What the look's samples cost; None where a price is unknown."""
    findings: tuple[Finding, ...] = ()
    served: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """The names under which models answered, by alias."""
    smallest_fall: float | None = None
    """The fall in quality that three looks find nine times in ten, by what the reference shows."""

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """What gave an alarm."""
        return tuple(finding for finding in self.findings if finding.alarm)
