"""Storage: the database, the stores of calls and runs, and the project's error tree."""

from db.calls import CallRecord, CallStore, Spent
from db.database import Database
from db.errors import (
    BudgetExceeded,
    ColonnadeError,
    ConfigError,
    DataError,
    InsufficientCandidates,
    SpecError,
    UserError,
)
from db.runs import ItemRecord, RunRecord, RunStore

__all__ = [
    "BudgetExceeded",
    "CallRecord",
    "CallStore",
    "ColonnadeError",
    "ConfigError",
    "DataError",
    "Database",
    "InsufficientCandidates",
    "ItemRecord",
    "RunRecord",
    "RunStore",
    "SpecError",
    "Spent",
    "UserError",
]
