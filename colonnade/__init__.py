"""Colonnade: compose, run, evaluate and search architectures of inference-time techniques, under a budget.

>>> import colonnade
>>> pipeline = colonnade.load("preset:self-consistency", model="embedded/mini", samples=8)
>>> pipeline.run("A box holds 4 pens. How many pens are in 3 boxes?").text  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from colonnade.api import Architecture, EvaluationResult, SearchResult, load, search
    from db.errors import BudgetExceeded, ColonnadeError, InsufficientCandidates, UserError

__all__ = [
    "Architecture",
    "BudgetExceeded",
    "ColonnadeError",
    "EvaluationResult",
    "InsufficientCandidates",
    "SearchResult",
    "UserError",
    "load",
    "search",
]


def __getattr__(name: str) -> object:
    """Import the public names when they are used, so that `colonnade --help` stays quick."""
    import importlib

    if name not in __all__:
        raise AttributeError(f"module 'colonnade' has no attribute {name!r}")
    errors = importlib.import_module("db.errors")
    return getattr(errors if hasattr(errors, name) else importlib.import_module("colonnade.api"), name)
