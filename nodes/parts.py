"""Registers of what a setting may hold, such as scorers and tools: ours, those of packages, and a user's own.

Nothing is imported before it is asked for: a built-in part is the module of its name in the package, another package's
an entry point of the group `colonnade.<kinds>`, a user's own stands in a file that is loaded by its path.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from db.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pydantic_core import ErrorDetails

__all__ = ["Parts", "load_entry_point", "points_of"]

_T = TypeVar("_T", bound=BaseModel)

_NO_PARTS = ("__init__", "base", "registry")
_FOLDER = Path(__file__).parent


class Parts(Generic[_T]):
    """The register of one kind of parts, such as `scorer`, which live in the package `nodes.scorers`."""

    def __init__(self, kind: str, base: type[_T]) -> None:
        self._kind = kind
        self._base = base
        self._package = f"{kind}s"
        self._classes: dict[str, type[_T]] = {}

    def add(self, name: str, cls: type[_T]) -> None:
        """Register a class whose name is free."""
        self._classes[name] = cls

    def free(self, name: str, cls: type[_T]) -> str:
        """Return what a class is called in messages; raises `SpecError` where its name is taken by another."""
        place = f"The {self._kind} {name!r} ({cls.__module__}.{cls.__qualname__})"
        if name in self._built_in and cls.__module__ != f"nodes.{self._package}.{name}":
            raise SpecError(f"{place} has the name of a built-in {self._kind}; choose another.")
        known = self._classes.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise SpecError(f"{place} has a name that {known.__module__}.{known.__qualname__} has already.")
        return place

    def get(self, name: str) -> type[_T]:
        """Return the class of that name; raises `SpecError` for an unknown one and for one that cannot be loaded."""
        if name not in self._classes:
            if name in self._built_in:
                importlib.import_module(f"nodes.{self._package}.{name}")
            elif points := self._points.get(name):
                load_entry_point(self._kind, name, points, self._classes)
            else:
                raise SpecError(f"There is no {self._kind} {name!r}.{did_you_mean(name, self.names())}")
        return self._classes[name]

    def names(self) -> tuple[str, ...]:
        """Name all in alphabetical order, without loading those that were not used yet."""
        return tuple(sorted({*self._built_in, *self._classes, *self._points}))

    def name_of(self, cls: type[_T]) -> str:
        """Return the name under which a class is registered; raises `SpecError` where it is not."""
        for name, known in self._classes.items():
            if known is cls:
                return name
        raise SpecError(
            f"The {self._kind} {cls.__qualname__} is not registered; put @{self._kind}('its_name') above it."
        )

    def of_module(self, module: str) -> tuple[str, ...]:
        """Name those that a module registered."""
        return tuple(sorted(name for name, cls in self._classes.items() if cls.__module__ == module))

    def take_back(self, module: str) -> None:
        """Forget those that a module registered."""
        for name in self.of_module(module):
            del self._classes[name]

    def parse(self, value: object) -> _T:
        """Read a setting: a part, its name, or a mapping with `use`; raises `ValueError`."""
        if isinstance(value, self._base):
            return value
        given = {"use": value} if isinstance(value, str) else value
        if not isinstance(given, Mapping) or not isinstance(given.get("use"), str):
            raise ValueError(f"a {self._kind} is a name, or a mapping with 'use' and its settings")
        name = given["use"]
        try:
            return self.get(name).model_validate({key: entry for key, entry in given.items() if key != "use"})
        except ValidationError as error:
            said = "; ".join(map(_said, error.errors()))
            raise ValueError(f"in {self._kind} {name!r}: {said}") from None
        except SpecError as error:
            raise ValueError(str(error)) from None

    def dump(self, value: _T) -> dict[str, Any]:
        """Write a setting: a mapping with `use`."""
        return {"use": self.name_of(type(value)), **value.model_dump(mode="json")}

    @cached_property
    def _built_in(self) -> frozenset[str]:
        return frozenset(path.stem for path in (_FOLDER / self._package).glob("*.py") if path.stem not in _NO_PARTS)

    @cached_property
    def _points(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        return points_of(f"colonnade.{self._package}")


def _said(error: ErrorDetails) -> str:
    place = ".".join(map(str, error["loc"]))
    message = error["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def points_of(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    """Return the entry points of a group by name; more than one where packages differ about it."""
    from importlib.metadata import entry_points

    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=group):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def load_entry_point(kind: str, name: str, points: tuple[EntryPoint, ...], registered: Mapping[str, object]) -> None:
    """Load what a package brings; raises `SpecError` where it cannot be loaded or does not register the name."""
    if len({point.value for point in points}) > 1:
        places = " and ".join(sorted(point.value for point in points))
        raise SpecError(f"Two packages bring a {kind} {name!r} ({places}); uninstall one of them.")
    try:
        points[0].load()
    except SpecError:
        raise
    except Exception as error:
        raise SpecError(
            f"The {kind} {name!r} of {points[0].value} cannot be loaded ({type(error).__name__}: {error}); "
            "reinstall or remove its package."
        ) from error
    if name not in registered:
        raise SpecError(f"{points[0].value} is an entry point for {name!r} but registers no {kind} of that name.")
