"""The values of parameters and of trials, as pictures and tables show them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flows.study_view import StudyView, TrialView

__all__ = ["ABSENT", "level", "levels", "measured", "parameters", "value_of", "written_values"]

ABSENT: Final = "–"
"""The level of a parameter that a trial does not have."""


def parameters(view: StudyView) -> tuple[str, ...]:
    """Name the parameters of all trials, in the order in which they first appear."""
    return tuple(dict.fromkeys(name for trial in view.trials for name in trial.values))


def level(trial: TrialView, parameter: str) -> str:
    """Return a trial's value of a parameter as text; a list of models is joined by plus signs."""
    return _text(trial.values[parameter]) if parameter in trial.values else ABSENT


def levels(trials: Iterable[TrialView], parameter: str) -> tuple[str, ...]:
    """Return the levels that trials have of a parameter: absence first, numbers by size, texts by the alphabet."""
    found = {level(trial, parameter): trial.values.get(parameter) for trial in trials}
    return tuple(sorted(found, key=lambda text: (text != ABSENT, *_order(found[text]), text)))


def value_of(trial: TrialView) -> float | None:
    """Return a trial's first objective; None before it was told, and where it is no finite number."""
    value = trial.objectives[0] if trial.objectives else None
    return value if value is not None and math.isfinite(value) else None


def measured(view: StudyView) -> tuple[TrialView, ...]:
    """Return the trials whose first objective is known."""
    return tuple(trial for trial in view.trials if value_of(trial) is not None)


def written_values(trial: TrialView) -> str:
    """Write a trial's number and all its values, a line for each."""
    lines = [f"{name}: {level(trial, name)}" for name in trial.values]
    return "\n".join([f"trial {trial.number} ({trial.state})", *(lines or [trial.label])])


def _text(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _order(value: object) -> tuple[int, float]:
    if isinstance(value, tuple | list):
        return 1, len(value)
    return (0, value) if isinstance(value, int | float) else (1, 0)
