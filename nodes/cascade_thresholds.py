"""Thresholds of a cascade that were learned from recorded outcomes, as a small file; `evals.cascades` writes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from nodes.learned import LearnedFile

__all__ = ["CASCADE_FORM", "CascadeThresholds"]

CASCADE_FORM: Final = "colonnade-cascade-1"
"""Version of the form of the file."""

_FILE: Final = LearnedFile(CASCADE_FORM, "thresholds", "evals.cascades")


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeThresholds:
    """From which confidence on each stage of a cascade is believed."""

    stages: tuple[str, ...]
    """The models, cheap to strong."""
    thresholds: tuple[float, ...]
    """One for each stage but the last, 0..1; a stage whose confidence is at least this is the last one asked. Above 1
    it is never believed."""
    accuracy: float
    """What these thresholds gave on the questions of the training."""
    cost: float
    """Mean cost of a question there, in the unit of what was recorded."""
    target: float
    """The accuracy that was asked for."""
    trained_on: int
    """Questions."""

    def save(self, path: Path | str) -> None:
        """Write the thresholds as a JSON file."""
        _FILE.write(path, asdict(self))

    @classmethod
    def load(cls, path: Path | str) -> CascadeThresholds:
        """Read the file; raises `DataError` where there is none or it is no such file."""
        data = _FILE.read(path)
        try:
            found = cls(
                stages=tuple(str(stage) for stage in data["stages"]),
                thresholds=tuple(float(value) for value in data["thresholds"]),
                accuracy=float(data["accuracy"]),
                cost=float(data["cost"]),
                target=float(data["target"]),
                trained_on=int(data["trained_on"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _FILE.broken(path, repr(error)) from None
        if len(found.thresholds) != len(found.stages) - 1:
            count = len(found.thresholds)
            raise _FILE.broken(path, f"{count} thresholds for {len(found.stages)} stages")
        return found
