"""The register of techniques: ours, those that other packages bring by entry point, and those of a user's own file.

Nothing is imported before it is asked for: a built-in technique is the module of its name in `nodes/`, a package's is
an entry point of the group `colonnade.nodes`, a user's is a file that is loaded by its path under a private name.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from db.errors import SpecError, did_you_mean
from nodes.base import Technique
from nodes.catalog import GROUPS
from nodes.describe import SECTIONS, Description, describe_class, sections
from nodes.parts import load_entry_point, points_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from nodes.parts import Parts
    from nodes.scorers.base import Scorer
    from nodes.tools.base import Tool

__all__ = ["BUILT_IN", "GROUP", "describe", "get", "load_file", "name_of", "names", "technique"]

GROUP = "colonnade.nodes"
"""The entry-point group by which a package brings techniques: `name = "package.module:Class"`."""

BUILT_IN = tuple(sorted(name for group in GROUPS.values() for name in group))
"""The techniques that ship, in alphabetical order."""

_T = TypeVar("_T", bound=Technique)

_classes: dict[str, type[Technique]] = {}
_loaded_files: dict[str, tuple[str, ...]] = {}


def technique(name: str) -> Callable[[type[_T]], type[_T]]:
    """Register a subclass of `Technique` under a name.

    Raises `SpecError` where the name is taken or is no identifier, where the settings are not frozen, or where the
    docstring lacks its summary or one of the sections named in `nodes.describe.SECTIONS`.
    """

    def register(cls: type[_T]) -> type[_T]:
        _check(name, cls)
        _classes[name] = cls
        return cls

    return register


def get(name: str) -> type[Technique]:
    """Return the technique of that name; raises `SpecError` for an unknown one."""
    if name not in _classes:
        if name in BUILT_IN:
            importlib.import_module(f"nodes.{name}")
        elif points := _entry_points().get(name):
            load_entry_point("technique", name, points, _classes)
        else:
            raise SpecError(f"There is no technique {name!r}.{did_you_mean(name, names())}")
    return _classes[name]


def names() -> tuple[str, ...]:
    """Name all techniques in alphabetical order, without loading those that were not used yet."""
    return tuple(sorted({*BUILT_IN, *_classes, *_entry_points()}))


def name_of(cls: type[Technique]) -> str:
    """Return the name under which a technique is registered; raises `SpecError` where it is not."""
    for name, known in _classes.items():
        if known is cls:
            return name
    raise SpecError(f"The technique {cls.__qualname__} is not registered; put @technique('its_name') above it.")


def describe(name: str) -> Description:
    """Describe a technique for people: what it does, its calls, its paper, its settings."""
    return describe_class(name, get(name))


def load_file(path: str | Path) -> tuple[str, ...]:
    """Load a user's Python file with techniques, scorers or tools; return the names of the techniques.

    The module gets a private name made from the file's path, so that a file in a folder called `nodes` neither
    shadows this package nor is shadowed by it. A file that was loaded already is not loaded again. Raises `SpecError`
    where the file is absent, fails, or registers nothing; what a failing file had registered is taken back.
    """
    file = Path(path).resolve()
    module_name = f"_colonnade_file_{hashlib.sha256(str(file).encode()).hexdigest()[:16]}"
    if module_name in _loaded_files:
        return _loaded_files[module_name]
    if not file.is_file():
        raise SpecError(f"There is no technique file {str(path)!r}; give the path of a Python file.")
    try:
        _execute(module_name, file)
    except BaseException as error:
        _take_back(module_name)
        if isinstance(error, SpecError) or not isinstance(error, Exception):
            raise
        raise SpecError(f"The technique file {str(path)!r} fails with {type(error).__name__}: {error}") from error
    found = tuple(sorted(name for name, cls in _classes.items() if cls.__module__ == module_name))
    if not found and not any(parts.of_module(module_name) for parts in _parts()):
        _take_back(module_name)
        raise SpecError(
            f"The file {str(path)!r} registers no technique, scorer or tool; "
            "put @technique('its_name') above its class."
        )
    _loaded_files[module_name] = found
    return found


def _execute(module_name: str, file: Path) -> None:
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise SpecError(f"The technique file {str(file)!r} is no Python file; its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    # pydantic resolves annotations through sys.modules, so the module stands there before it runs.
    sys.modules[module_name] = module
    spec.loader.exec_module(module)


def _take_back(module_name: str) -> None:
    for name in [name for name, cls in _classes.items() if cls.__module__ == module_name]:
        del _classes[name]
    for parts in _parts():
        parts.take_back(module_name)
    sys.modules.pop(module_name, None)


def _parts() -> tuple[Parts[Scorer], Parts[Tool]]:
    # Imported when needed: a scorer's module may load a technique's, which registers itself here.
    from nodes.scorers.registry import SCORERS
    from nodes.tools.registry import TOOLS

    return SCORERS, TOOLS


@lru_cache(maxsize=1)
def _entry_points() -> dict[str, tuple[EntryPoint, ...]]:
    return points_of(GROUP)


def _check(name: str, cls: type[Technique]) -> None:
    place = f"The technique {name!r} ({cls.__module__}.{cls.__qualname__})"
    if not name.isidentifier() or name != name.lower():
        raise SpecError(f"{place} needs a name of small letters, digits and underscores.")
    if name in BUILT_IN and cls.__module__ != f"nodes.{name}":
        raise SpecError(f"{place} has the name of a built-in technique; choose another.")
    known = _classes.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise SpecError(f"{place} has a name that {known.__module__}.{known.__qualname__} has already; choose another.")
    if inspect.isabstract(cls):
        raise SpecError(f"{place} is abstract; define both run and plan.")
    if not cls.model_config.get("frozen") or cls.model_config.get("extra") != "forbid":
        raise SpecError(f"{place} must keep frozen=True and extra='forbid' in its model_config.")
    # Under `python -OO` there are no docstrings to check.
    if sys.flags.optimize < 2:
        _check_docstring(place, cls)


def _check_docstring(place: str, cls: type[Technique]) -> None:
    intro, named = sections(cls.__dict__.get("__doc__") or "")
    if not intro.partition("\n")[0].rstrip().endswith("."):
        raise SpecError(f"{place} needs a docstring that begins with a sentence on one line.")
    missing = [section for section in SECTIONS if not named.get(section)]
    if missing:
        raise SpecError(f"{place} lacks {', '.join(f'{s!r}' for s in missing)} in its docstring.")
