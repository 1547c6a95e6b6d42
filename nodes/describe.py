"""What a technique says of itself: the sections of its docstring, what it needs and gives, and its settings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pydantic import BaseModel

    from nodes.base import Technique

__all__ = ["SECTIONS", "Description", "Setting", "describe_class", "describe_settings", "sections"]

SECTIONS = ("When to use it", "Calls", "Paper", "Symbols", "Example")
"""The sections that every technique's docstring has, in this order, after its summary."""

_LISTS = ("needs", "reads", "gives", "drops", "measures", "requires")

_HEADING = re.compile(r"^(" + "|".join(SECTIONS) + r"):[ \t]*", re.MULTILINE)


class Setting(NamedTuple):
    """One setting of a technique, in words for people."""

    name: str
    type: str
    default: str | None
    """As YAML would write it; None where the setting must be given."""
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A technique as `colonnade techniques show` presents it."""

    name: str
    summary: str
    """The first sentence."""
    body: str
    """What stands between the first sentence and the first section."""
    sections: Mapping[str, str]
    """By the names in `SECTIONS`."""
    needs: tuple[str, ...]
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    drops: tuple[str, ...]
    measures: tuple[str, ...]
    requires: tuple[str, ...]
    settings: tuple[Setting, ...]
    module: str


def sections(docstring: str) -> tuple[str, dict[str, str]]:
    """Split a docstring into what comes before the first section and the sections by name."""
    text = inspect.cleandoc(docstring)
    headings = list(_HEADING.finditer(text))
    named = {}
    for heading, following in zip_longest(headings, headings[1:]):
        end = following.start() if following else len(text)
        named[heading.group(1)] = inspect.cleandoc(text[heading.end() : end]).strip()
    return (text[: headings[0].start()] if headings else text).strip(), named


def describe_class(name: str, cls: type[Technique]) -> Description:
    """Describe a technique from its docstring, its class variables and the schema of its settings."""
    return describe_settings(
        name,
        cls,
        needs=cls.needs,
        reads=cls.reads,
        gives=cls.gives,
        drops=cls.drops,
        measures=cls.measures,
        requires=cls.requires,
    )


def describe_settings(name: str, cls: type[BaseModel], **sets: frozenset[Any]) -> Description:
    """Describe settings by their docstring and schema; `sets` are the fields of `Description` that hold names."""
    intro, named = sections(cls.__doc__ or "")
    summary, _, body = intro.partition("\n")
    lists = {key: tuple(sorted(sets.get(key, ()))) for key in _LISTS}
    return Description(
        name=name,
        summary=summary.strip(),
        body=body.strip(),
        sections=named,
        settings=_settings(cls),
        module=cls.__module__,
        **lists,
    )


def _settings(cls: type[BaseModel]) -> tuple[Setting, ...]:
    schema = cls.model_json_schema()
    required = frozenset(schema.get("required", ()))
    found = []
    for name, entry in schema.get("properties", {}).items():
        default = None if name in required else _literal(entry.get("default"))
        found.append(Setting(name, _type(entry, schema.get("$defs", {})), default, entry.get("description", "")))
    # What must be given comes first, then the technique's own settings, then those that it shares with others.
    depth = {name: rank for rank, base in enumerate(cls.__mro__) for name in inspect.get_annotations(base)}
    return tuple(sorted(found, key=lambda setting: (setting.default is not None, depth.get(setting.name, 0))))


def _literal(value: object) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


def _type(entry: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any]]) -> str:
    match entry:
        case {"$ref": str(reference)}:
            return _type(definitions[reference.rpartition("/")[2]], definitions)
        case {"anyOf": [*options]} | {"oneOf": [*options]}:
            return " or ".join(_type(option, definitions) for option in options)
        case {"enum": [*values]}:
            return " or ".join(f"`{value}`" for value in values)
        case {"const": value}:
            return f"`{value}`"
        case {"type": "array", "items": dict() as items}:
            return f"list ({_type(items, definitions)})"
        case {"type": "null"}:
            return "null"
        case {"type": str(kind)}:
            return _KINDS.get(kind, kind) + _bounds(entry)
    return "any"


_KINDS = {
    "boolean": "true or false",
    "integer": "whole number",
    "scorer": "scorer",
    "string": "text",
    "technique": "technique",
}


def _bounds(entry: Mapping[str, Any]) -> str:
    signs = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    said = [f"{sign} {entry[key]:g}" for key, sign in signs if isinstance(entry.get(key), int | float)]
    return f" {' and '.join(said)}" if said else ""
