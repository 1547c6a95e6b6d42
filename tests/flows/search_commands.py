"""The real search command in a process of its own: what it is given, and what it leaves in the database."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import yaml
from sqlalchemy import text

from db.database import Database
from db.studies import Snapshot, StudyStore
from flows.studies import study_view
from flows.study_view import Contender
from tests.conftest import ServerProcess
from tests.helpers import write_task

__all__ = ["SPACE", "STUDY", "arguments", "counted", "course", "serving", "snapshot", "started", "write_search"]

STUDY: Final = "here"
SPACE: Final[dict[str, Any]] = {
    "name": "sums",
    "models": {"generators": ["able", "weak"]},
    "parameters": {
        "model": {"one_of": "generators"},
        "samples": {"choices": [1, 2, 3, 4]},
        "temperature": {"choices": [0.4, 0.8], "when": {"samples": {"above": 1}}},
    },
    "layers": [
        {"generate": {"model": "$model", "samples": "$samples", "temperature": "$temperature", "max_tokens": 64}},
        {
            "choose": "finish",
            "when": {"samples": {"above": 1}},
            "from": {"vote": ["vote"], "rank": [{"rank": {"model": "able", "keep": 1}}]},
        },
    ],
    "singles": {"generators": [{"generate": {"model": "$model", "max_tokens": 64}}]},
}
"""One model alone, or 2 to 4 samples of one that are voted on or ranked: 26 points."""


@contextmanager
def serving(latency_s: float, *more: object) -> Iterator[ServerProcess]:
    """Run `search_server.py`."""
    program = Path(__file__).with_name("search_server.py")
    with ServerProcess(str(latency_s), *map(str, more), program=program) as server:
        yield server


def write_search(folder: Path, url: str, *, items: int = 48, key_env: str | None = None) -> None:
    """Write the space, the models and the task of a search into a folder."""
    entry = {
        "transport": "openai",
        "base_url": url,
        "price": {"prompt": 1, "completion": 2},
        "capabilities": {"n": True, "seed": True},
        # With a seed the server's texts do not depend on the order of the requests.
        "defaults": {"seed": 7},
        "limits": {"retries": 1, "timeout_s": 120},
        **({"api_key_env": key_env} if key_env else {}),
    }
    folder.mkdir(exist_ok=True)
    models = {name: {**entry, "model": name} for name in SPACE["models"]["generators"]}
    (folder / "models.yaml").write_text(yaml.safe_dump({"models": models}))
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE, sort_keys=False))
    write_task(folder, items).rename(folder / "sums.jsonl")


def arguments(*more: object) -> list[str]:
    """Return the command's words; what comes later stands in the place of what comes here."""
    usual = ("--trials", 8, "--parallel", 2, "--concurrency", 6, "--rungs", "4,9,18", "--guard-share", 0.25)
    words = ("search", "run", "space.yaml", "--task", "sums.jsonl", "--study", STUDY, "--no-prefect", *usual, *more)
    return [str(word) for word in words]


def started(folder: Path, words: Sequence[str], **more: Any) -> subprocess.Popen[str]:
    """Start a command in a folder."""
    command = [sys.executable, "-m", "colonnade", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def snapshot(database: Database, study: str = STUDY) -> Snapshot:
    """Return the study's rows."""
    return StudyStore(database).snapshot(study)


def counted(database: Database, query: str, **values: object) -> int:
    """Return the number that a query finds."""
    with database.engine.connect() as connection:
        return int(connection.execute(text(query), values).scalar_one())


def course(database: Database, study: str = STUDY) -> dict[str, object]:
    """Return all that two courses of one search must have in common: trials, scores, the end; no times."""
    view, rows = study_view(study, database), snapshot(database, study)
    assert view.ending is not None
    return {
        "trials": [(one.number, one.point, one.architecture_id) for one in rows.trials],
        "scores": {(job.trial, job.rung): job.scores for job in rows.jobs},
        "states": [(one.number, one.state, one.rungs, one.quality, one.calls, one.dollars) for one in view.trials],
        "leader": view.leader,
        "ending": replace(view.ending, contenders=tuple(map(_timeless, view.ending.contenders))),
        "calls paid": view.spent.calls_paid,
        "status": (view.status, view.reason),
    }


def _timeless(one: Contender) -> Contender:
    return replace(one, seconds=0.0)
