"""Finished trials as Optuna reads them; it takes a second to import, so this is done where a trial is drawn."""

from __future__ import annotations

import datetime
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Final

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["Recorded", "completed"]

_WHEN: Final = datetime.datetime.fromtimestamp(0)


class Recorded(InMemoryStorage):
    """A storage that shows trials which were made elsewhere, as they are and without a copy."""

    def __init__(self, trials: list[FrozenTrial]) -> None:
        super().__init__()
        self._recorded = trials

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials in these states."""
        return [trial for trial in self._recorded if states is None or trial.state in states]


def completed(
    number: int, levels: Mapping[str, int], value: float, space: Mapping[str, BaseDistribution]
) -> FrozenTrial:
    """Return a trial that is done; nothing is checked, as its levels come from the domain."""
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState.COMPLETE,
        value=value,
        datetime_start=_WHEN,
        datetime_complete=_WHEN,
        params=dict(levels),
        distributions=dict(space),
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )
