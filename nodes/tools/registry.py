"""The register of tools, and the type of a setting that holds one: `{use: lookup, file: facts.jsonl}` or a name."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Final, TypeVar

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from db.errors import SpecError
from nodes.parts import Parts
from nodes.tools.base import SECTIONS, Tool

__all__ = ["TOOLS", "AnyTool", "get_tool", "tool", "tool_name", "tool_names"]

TOOLS: Final = Parts("tool", Tool)  # type: ignore[type-abstract]  # only its subclasses are made
"""All tools; a package brings its own by entry points of the group `colonnade.tools`."""

_T = TypeVar("_T", bound=Tool)


def tool(name: str) -> Callable[[type[_T]], type[_T]]:
    """Register a subclass of `Tool` under a name; raises `SpecError` where the name is taken or something lacks."""

    def register(cls: type[_T]) -> type[_T]:
        place = TOOLS.free(name, cls)
        if not name.isidentifier() or name.casefold() == "llm":
            raise SpecError(f"{place} needs a name of letters, digits and underscores other than 'llm'.")
        if inspect.isabstract(cls):
            raise SpecError(f"{place} is abstract; define call.")
        if not cls.usage:
            raise SpecError(f"{place} lacks `usage`, the words that tell a model what it does.")
        words = cls.__dict__.get("__doc__") or ""
        # Under `python -OO` there are no docstrings to check.
        missing = [section for section in SECTIONS if sys.flags.optimize < 2 and f"{section}:" not in words]
        if missing:
            raise SpecError(f"{place} lacks {', '.join(f'{s!r}' for s in missing)} in its docstring.")
        TOOLS.add(name, cls)
        return cls

    return register


def get_tool(name: str) -> type[Tool]:
    """Return the tool of that name; raises `SpecError` for an unknown one."""
    return TOOLS.get(name)


def tool_names() -> tuple[str, ...]:
    """Name all tools in alphabetical order."""
    return TOOLS.names()


def tool_name(cls: type[Tool]) -> str:
    """Return the name under which a tool is registered; raises `SpecError` where it is not."""
    return TOOLS.name_of(cls)


AnyTool = Annotated[Tool, PlainValidator(TOOLS.parse), PlainSerializer(TOOLS.dump), WithJsonSchema({"type": "tool"})]
"""A setting that holds a tool, written as its name or as a mapping with `use`."""
