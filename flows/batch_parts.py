"""The parts of a batch's output: one file for each finished chunk, joined at the end, so that a killed job loses none.

A part holds every row of its chunk as a line of JSON, in order: what goes into the output, or why it failed, and what
its calls cost. It is written under another name, brought to the disk and renamed, so it stands whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from db.errors import ConfigError

__all__ = ["Existing", "Parts", "failed_path", "finished_parts", "is_written", "open_parts", "whole_file"]

Existing = Literal["ask", "overwrite", "resume"]
"""What becomes of an output that is there already."""


def failed_path(out: Path) -> Path:
    """Return the file of an output's failed rows."""
    return out.with_name(f"{out.name}.failed.jsonl")


def finished_parts(out: Path) -> int:
    """Count the parts that stand beside an output."""
    return sum(1 for _ in _folder(out).glob("[0-9]*.jsonl"))


def is_written(out: Path) -> bool:
    """Say whether a process of this machine is writing an output."""
    lock = _folder(out) / "lock"
    if not lock.exists():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.parts")


@dataclass(slots=True, kw_only=True)
class Parts:
    """The folder of parts beside an output; it is this process's while the lock is held."""

    out: Path
    folder: Path
    chunk: int
    """Rows in a part: those of the first go at the job, whatever later ones ask for."""
    lock: IO[str]

    def path(self, number: int) -> Path:
        """Return the file of a part, counted from 0."""
        return self.folder / f"{number:06d}.jsonl"

    def stands(self, number: int) -> bool:
        """Say whether a part is written."""
        return self.path(number).exists()

    def read(self, number: int) -> Iterator[dict[str, Any]]:
        """Yield the rows of a part."""
        with self.path(number).open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)

    def write(self, number: int, rows: Sequence[dict[str, Any]]) -> None:
        """Write a part, whole or not at all."""
        with whole_file(self.path(number)) as file:
            file.writelines(json_line(row) for row in rows)

    def close(self) -> None:
        """Let others at the output."""
        self.lock.close()

    def remove(self) -> None:
        """Remove the folder; a kill in the middle leaves a folder that nobody takes for parts."""
        old = self.folder.with_name(f"{self.folder.name}.old")
        self.folder.rename(old)
        shutil.rmtree(old)


class whole_file:
    """A text file that gets its name when the block ends well; without an error it is on the disk then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._early = path.with_name(f".{path.name}.new")
        self._file: IO[str] | None = None

    def __enter__(self) -> IO[str]:
        self._file = self._early.open("w", encoding="utf-8", newline="\n")
        return self._file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        assert self._file is not None
        if kind is not None:
            self._file.close()
            self._early.unlink(missing_ok=True)
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._early.replace(self._path)


def json_line(row: dict[str, Any]) -> str:
    """Write a row as a line of JSON; what JSON has no form for (a moment, a decimal) becomes text."""
    line = json.dumps(row, ensure_ascii=False, default=str)
    with suppress(UnicodeEncodeError):
        line.encode()
        return line + "\n"
    return json.dumps(row, default=str) + "\n"


def open_parts(out: Path, run_id: str, chunk: int, *, existing: Existing, ended: bool) -> Parts | None:
    """Open the parts of a job, or return None where its output is complete; `ended` says that the run was done.

    Raises `ConfigError` for an output that stands already, unless it is this job's and is to be resumed or overwritten,
    and for one that cannot be written or that another process is writing.
    """
    folder = _folder(out)
    if not out.parent.is_dir():
        raise ConfigError(f"There is no folder {str(out.parent)!r} for the output; make it.")
    if out.is_dir():
        raise ConfigError(f"The output {str(out)!r} is a folder; name a file.")
    owner = _owner(folder)
    if existing != "overwrite" and owner is not None and owner["run_id"] != run_id:
        raise ConfigError(
            f"{folder} holds the parts of another job (run {owner['run_id']}); name another --out, or use --overwrite."
        )
    # Where a kill came between the join and the removal of the parts, nobody is asked.
    if existing == "ask" and out.exists() and (owner is None or ended):
        raise ConfigError(
            f"The output {str(out)!r} exists; go on with it with --resume, or replace it with --overwrite."
        )
    if existing == "resume" and out.exists() and owner is None:
        if ended:
            return None
        raise ConfigError(f"The output {str(out)!r} is not of this job; name another --out, or use --overwrite.")
    try:
        folder.mkdir(exist_ok=True)
        lock = _locked(folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror}); name another --out.") from None
    if existing == "overwrite":
        for path in (out, failed_path(out), folder / "job.json", *folder.glob("*.jsonl")):
            path.unlink(missing_ok=True)
        owner = None
    if owner is None:
        owner = {"run_id": run_id, "chunk": chunk}
        with whole_file(folder / "job.json") as file:
            json.dump(owner, file)
    shutil.rmtree(folder.with_name(f"{folder.name}.old"), ignore_errors=True)
    return Parts(out=out, folder=folder, chunk=int(owner["chunk"]), lock=lock)


def _owner(folder: Path) -> dict[str, Any] | None:
    path = folder / "job.json"
    return dict(json.loads(path.read_text())) if path.exists() else None


def _locked(folder: Path) -> IO[str]:
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ConfigError(f"Another process is writing {folder}; wait for it, or stop it.") from None
    return lock
