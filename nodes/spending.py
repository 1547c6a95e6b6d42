"""What is spent on a question beyond a pilot, by how easy it looks, and tables of it that were learned."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nodes.learned import LearnedFile

__all__ = ["SPENDING_FORM", "Choice", "Estimate", "Spending", "SpendingTable", "bin_of", "check_table"]

SPENDING_FORM: Final = "colonnade-compute-optimal-1"
"""Version of the form of the file."""

_FILE: Final = LearnedFile(SPENDING_FORM, "table", "evals.compute_optimal")

Choice = Literal["best", "vote", "weighted"]
Estimate = Literal["agreement", "best", "score", "weighted"]


class Spending(BaseModel):
    """What is done with a question after its pilot; nothing more than a vote of the pilot by default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(default=0, ge=0, le=10_000, description="Further samples.")
    revisions: int = Field(default=0, ge=0, le=64, description="Revisions, one after the other, of the leading one.")
    choose: Choice = Field(default="vote", description="The best score, a vote, or a vote weighed by scores.")

    @property
    def needs_scores(self) -> bool:
        """The choice goes by scores."""
        return self.choose != "vote"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendingTable:
    """What to spend on the questions of each bin, the easiest bin first."""

    pilot: int
    """Samples of the pilot that the ease was estimated from."""
    estimate: Estimate
    thresholds: tuple[float, ...]
    """From which ease on a question is in each bin but the last; they fall."""
    table: tuple[Spending, ...]
    accuracy: float
    """What the table gave on the questions of the training."""
    cost: float
    """Mean cost of a question there, pilot included, in the unit of what was recorded."""
    budget: float
    """The mean cost that was allowed."""
    trained_on: int
    """Questions."""

    def save(self, path: Path | str) -> None:
        """Write the table as a JSON file."""
        data = {
            "pilot": self.pilot,
            "estimate": self.estimate,
            "thresholds": self.thresholds,
            "table": [spending.model_dump() for spending in self.table],
            "accuracy": self.accuracy,
            "cost": self.cost,
            "budget": self.budget,
            "trained_on": self.trained_on,
        }
        _FILE.write(path, data)

    @classmethod
    def load(cls, path: Path | str) -> SpendingTable:
        """Read the file; raises `DataError` where there is none or it is no such file."""
        data = _FILE.read(path)
        try:
            found = cls(
                pilot=int(data["pilot"]),
                estimate=data["estimate"],
                thresholds=tuple(float(value) for value in data["thresholds"]),
                table=tuple(Spending.model_validate(entry) for entry in data["table"]),
                accuracy=float(data["accuracy"]),
                cost=float(data["cost"]),
                budget=float(data["budget"]),
                trained_on=int(data["trained_on"]),
            )
            check_table(found.thresholds, found.table)
        except ValidationError as error:
            raise _FILE.refused(path, error) from None
        except (KeyError, TypeError, ValueError) as error:
            raise _FILE.broken(path, repr(error)) from None
        return found


def bin_of(ease: float, thresholds: Sequence[float]) -> int:
    """Return the bin of a question, from 0, the easiest; the thresholds fall."""
    return sum(ease < threshold for threshold in thresholds)


def check_table(thresholds: Sequence[float], table: Sequence[Spending]) -> None:
    """Raise `ValueError` unless the thresholds fall and there is an entry for each bin."""
    if any(upper <= lower for upper, lower in itertools.pairwise(thresholds)):
        raise ValueError(f"thresholds must fall, from the easiest bin on; they are {', '.join(map(str, thresholds))}")
    if len(table) != len(thresholds) + 1:
        wanted = len(thresholds) + 1
        raise ValueError(f"table has {len(table)} entries; {len(thresholds)} thresholds make {wanted} bins")
