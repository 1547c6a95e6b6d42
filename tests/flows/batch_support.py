"""Inputs and jobs that several tests of batches share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.batch_job import BatchJob
from flows.session import Caps, SessionSettings
from providers.testing_server import Asking

__all__ = ["batch_job", "doubled", "numbers", "read_lines", "write_rows"]

VOTE = {"name": "vote", "layers": [{"generate": {"model": "m", "samples": 3, "max_tokens": 64}}, "vote"]}


def doubled(asking: Asking) -> str:
    """Answer "Double k." rightly."""
    number = int(asking.prompt.split()[-1].rstrip("."))
    return f"Sample {asking.sample}.\nAnswer: {2 * number}"


def numbers(count: int) -> list[dict[str, Any]]:
    """Return rows with a number, its double and a note."""
    return [{"number": k, "right": 2 * k, "note": f"nöte {k}"} for k in range(count)]


def write_rows(folder: Path, rows: Iterable[Mapping[str, Any] | str], name: str = "rows.jsonl") -> Path:
    """Write rows as JSON lines; a text stands as it is."""
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def batch_job(
    folder: Path,
    rows: Sequence[Mapping[str, Any] | str],
    *,
    out: str = "out.jsonl",
    caps: Caps | None = None,
    session: Mapping[str, Any] | None = None,
    **options: Any,
) -> BatchJob:
    """Write rows and make the job of asking "Double k." of each."""
    settings = SessionSettings(
        models=folder / "models.yaml",
        database_url=f"sqlite:///{folder}/db.sqlite",
        caps=caps or Caps(),
        caps_per_run=True,
        **(session or {}),
    )
    fields = {"architecture": VOTE, "template": "Double {number}.", "chunk": 4, **options}
    return BatchJob(input=write_rows(folder, rows), out=folder / out, session=settings, **fields)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]
