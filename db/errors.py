"""The error tree of Colonnade.

    ColonnadeError                    every error that the project raises on purpose
    ├── UserError                     a usage mistake by you: one sentence with place and cure; exit code 2
    │   ├── SpecError                 an architecture, a space or a models file that cannot be what it says
    │   ├── DataError                 a data file that is absent, empty or malformed
    │   └── ConfigError               a setting, a key variable or an endpoint that is missing or wrong
    ├── BudgetExceeded                the cap of a run would be passed; what was done is kept, the run can be resumed
    ├── InsufficientCandidates        a node has nothing left to work on, because every call that feeds it failed
    ├── ToolError                     a call of a tool brought nothing (`nodes.tools`); evidence that is missing
    └── ProviderError                 one call to a model failed (its subclasses are drawn in `providers.errors`)

All of them can be pickled, since flows carry them between processes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BudgetExceeded",
    "ColonnadeError",
    "ConfigError",
    "DataError",
    "InsufficientCandidates",
    "SpecError",
    "UserError",
    "did_you_mean",
]


class ColonnadeError(Exception):
    """Every error that the project raises on purpose."""


class UserError(ColonnadeError):
    """A usage mistake by you: one sentence that names the place and the cure."""


class SpecError(UserError):
    """An architecture, a space or a models file that cannot be what it says."""


class DataError(UserError):
    """A data file that is absent, empty or malformed."""


class ConfigError(UserError):
    """A setting, a key variable or an endpoint that is missing or wrong."""


class BudgetExceeded(ColonnadeError):
    """The cap of a run would be passed; what was done is kept and the run can be resumed."""


class InsufficientCandidates(ColonnadeError):
    """A node has nothing left to work on, because every call that feeds it failed."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the nearest known name, or a list of the known ones where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Known: {', '.join(names)}." if names else ""
