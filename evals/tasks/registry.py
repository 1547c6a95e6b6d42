"""The register of tasks: a name, options that are checked, and a function that makes the task of them.

On the command line `--task gsm8k --items 60 --task-option path=gsm8k.jsonl`; in Python
`load_task("gsm8k", items=60, options={"path": "gsm8k.jsonl"})`. A name that is a path of a data file is a task too.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from db.errors import ConfigError, did_you_mean
from evals.rows import SUFFIXES
from evals.task import Task

__all__ = ["TaskOptions", "describe_tasks", "load_task", "parse_options", "task", "task_names"]

_BUILT_IN = {
    "arithmetic": "evals.tasks.generated",
    "dates": "evals.tasks.generated",
    "file": "evals.tasks.file",
    "gsm8k": "evals.tasks.published",
    "math500": "evals.tasks.published",
}


class TaskOptions(BaseModel):
    """The options of a task; subclass it. Texts from the command line are read as what a field wants."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Entry(NamedTuple):
    options: type[TaskOptions]
    make: Callable[[TaskOptions, int | None, int], Task]


_Options = TypeVar("_Options", bound=TaskOptions)
_Make = Callable[[_Options, int | None, int], Task]

_entries: dict[str, _Entry] = {}


def task(name: str, options: type[_Options]) -> Callable[[_Make[_Options]], _Make[_Options]]:
    """Register a function `(options, items, seed) -> Task`; `items` is how many are wanted, None for a usual number."""

    def register(make: _Make[_Options]) -> _Make[_Options]:
        def checked(given: TaskOptions, items: int | None, seed: int) -> Task:
            if not isinstance(given, options):
                raise TypeError(f"the task {name!r} takes {options.__name__}, not {type(given).__name__}")
            return make(given, items, seed)

        _entries[name] = _Entry(options, checked)
        return make

    return register


def task_names() -> tuple[str, ...]:
    """Name the tasks in alphabetical order."""
    return tuple(sorted({*_BUILT_IN, *_entries}))


def load_task(
    name: str, *, items: int | None = None, seed: int = 0, options: Mapping[str, str | int | float | bool] | None = None
) -> Task:
    """Make a task by its name, or from a data file by its path.

    `items` draws that many with `seed`. Raises `ConfigError` for an unknown task or option and for fewer than one
    item, `DataError` where the data is absent, empty or malformed.
    """
    if items is not None and items < 1:
        raise ConfigError(f"A task needs at least one item (items={items}).")
    given = dict(options or {})
    if name not in task_names() and _is_path(name):
        given = {"path": name, **given}
        name, shown = "file", Path(name).name
    else:
        shown = name
    entry = _entry(name)
    made = entry.make(_checked(shown, entry.options, given), items, seed)
    return replace(made, name=shown) if shown != name else made


def parse_options(pairs: Iterable[str]) -> dict[str, str]:
    """Read `key=value` pairs of a command line; raises `ConfigError` for anything else and for a key given twice."""
    options: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"The task option {pair!r} has no value; write it as key=value.")
        if key.strip() in options:
            raise ConfigError(f"The task option {key.strip()!r} is given twice.")
        options[key.strip()] = value
    return options


def describe_tasks() -> dict[str, dict[str, str]]:
    """Say for every task which options it takes and what each means."""
    return {
        name: {key: field.description or "" for key, field in _entry(name).options.model_fields.items()}
        for name in task_names()
    }


def _entry(name: str) -> _Entry:
    if name in _BUILT_IN:
        importlib.import_module(_BUILT_IN[name])
    if name not in _entries:
        raise ConfigError(
            f"There is no task {name!r} (nor a data file of that path).{did_you_mean(name, task_names())}"
        )
    return _entries[name]


def _is_path(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) or "/" in name or Path(name).is_file()


def _checked(name: str, options: type[TaskOptions], given: Mapping[str, object]) -> TaskOptions:
    try:
        return options.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else "options"
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(key, options.model_fields)
            raise ConfigError(f"The task {name!r} has no option {key!r}.{hint}") from error
        if first["type"] == "missing":
            raise ConfigError(f"The task {name!r} needs the option {key!r}; add {key}=VALUE.") from error
        raise ConfigError(f"The task {name!r}, option {key!r}: {first['msg']}, not {first['input']!r}.") from error
