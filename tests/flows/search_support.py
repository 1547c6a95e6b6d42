"""A tiny space, and jobs over it, for the tests of the search."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from flows.evaluate import TaskChoice
from flows.search_job import SearchJob
from flows.session import SessionSettings

__all__ = ["TINY", "tiny_job"]

TINY: Final[dict[str, Any]] = {
    "name": "tiny",
    "models": {"generators": ["embedded/nano", "embedded/mini"]},
    "parameters": {
        "model": {"one_of": "generators"},
        "samples": {"choices": [1, 2, 4]},
        "temperature": {"choices": [0.4, 0.8], "when": {"samples": {"above": 1}}},
    },
    "layers": [
        {"generate": {"model": "$model", "samples": "$samples", "temperature": "$temperature"}},
        {"optional": "voted", "when": {"samples": {"above": 1}}, "layers": ["vote"]},
    ],
    "singles": {"generators": [{"generate": {"model": "$model"}}]},
}
"""Two models alone, or 2 or 4 samples of one, as they come or voted on: 18 points."""


def tiny_job(folder: Path, *, items: int = 40, seed: int = 0, **options: Any) -> SearchJob:
    """Make the job of searching the tiny space on `arithmetic`, with its database in a folder."""
    settings = options.pop("session", SessionSettings(database_url=f"sqlite:///{folder / 'colonnade.db'}"))
    return SearchJob(
        **{
            "space": TINY,
            "task": TaskChoice(name="arithmetic", items=items, seed=seed),
            "session": settings.model_copy(update={"caps_per_run": True}),
            "trials": 8,
            "rungs": (6, 12),
            "guard_share": 0.25,
            "seed": seed,
            **options,
        }
    )
