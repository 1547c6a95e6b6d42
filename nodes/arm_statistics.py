"""What earlier runs taught about the arms of a bandit, as a small file; `evals.arm_statistics` makes it:

{"form": "colonnade-arms-1", "arms": {"single": {"pulls": 200, "reward": 0.61}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from nodes.learned import LearnedFile

__all__ = ["ARMS_FORM", "ArmStatistics", "Seen", "Unit"]

ARMS_FORM: Final = "colonnade-arms-1"
"""Version of the form of the file."""

_FILE: Final = LearnedFile(ARMS_FORM, "statistics", "evals.arm_statistics")

Unit = Annotated[float, Field(ge=0, le=1)]
"""A reward or a prior."""


class Seen(BaseModel):
    """What earlier runs taught about one arm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pulls: float = Field(ge=0, allow_inf_nan=False)
    reward: Unit


class ArmStatistics(BaseModel):
    """What earlier runs taught, by the names of the arms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal["colonnade-arms-1"] = ARMS_FORM
    arms: Mapping[str, Seen]

    def save(self, path: Path | str) -> None:
        """Write the statistics as a JSON file."""
        _FILE.write(path, self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path | str) -> ArmStatistics:
        """Read the file; raises `DataError` where there is none or it is no such file."""
        return _FILE.read_as(path, cls)
