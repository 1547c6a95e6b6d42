"""The models that `colonnade serve-model` runs at present: `.colonnade/served.yaml`, in the form of models.yaml.

Beside each model stands the process that serves it; the entry of a process that is gone counts for nothing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from db.errors import ConfigError

__all__ = ["SERVED_PATH", "register", "served_entries", "unregister"]

SERVED_PATH = Path(".colonnade/served.yaml")


def served_entries(path: Path = SERVED_PATH) -> dict[str, dict[str, object]]:
    """Return the settings of every model whose server lives, by alias; raises `ConfigError` for a damaged file."""
    if not path.is_file():
        return {}
    models, processes = _read(path)
    return {alias: dict(entry) for alias, entry in models.items() if _lives(processes.get(alias))}


def register(alias: str, entry: Mapping[str, object], pid: int, path: Path = SERVED_PATH) -> None:
    """Add a model; raises `ConfigError` where a living server has its alias."""
    with _changing(path) as (models, processes):
        if processes.get(alias) != pid and _lives(processes.get(alias)):
            raise ConfigError(f"'{alias}' is served already (by process {processes[alias]}); give another --name.")
        models[alias] = dict(entry)
        processes[alias] = pid


def unregister(alias: str, pid: int, path: Path = SERVED_PATH) -> None:
    """Take a model out, if it is still that process's."""
    with _changing(path) as (models, processes):
        if processes.get(alias) == pid:
            del models[alias], processes[alias]


@contextmanager
def _changing(path: Path) -> Iterator[tuple[dict[str, dict[str, object]], dict[str, int]]]:
    """Hold the file for a change that others must not make at the same time; entries of dead processes go."""
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        models, processes = _read(path) if path.is_file() else ({}, {})
        for alias in [alias for alias, pid in processes.items() if not _lives(pid)]:
            models.pop(alias, None)
            del processes[alias]
        yield models, processes
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(yaml.safe_dump({"models": models, "processes": processes}), encoding="utf-8")
        draft.replace(path)


def _read(path: Path) -> tuple[dict[str, dict[str, object]], dict[str, int]]:
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {alias: dict(entry) for alias, entry in data["models"].items()}, dict(data["processes"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError):
        raise ConfigError(f"{path} is damaged; delete it.") from None


def _lives(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
