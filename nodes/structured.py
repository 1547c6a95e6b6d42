"""Fields of a reply: read from a JSON object or from lines `name: value`, compared by normal forms."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from nodes.numerals import bare_number, number_value, only_number

__all__ = ["Entry", "folded", "normal", "number_of", "read_fields"]

_NAME = re.compile(r"[^\W\d_][\w \-/.()]{0,59}")
_MARKS = " \t-•*_`\"'>#"
_WORDS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None}
_MOST_OPENINGS = 100
"""Braces that are tried as the beginning of an object, so that a reply of braces takes no quadratic time."""
_LONGEST_NAME = 200
_DEEPEST = 50
"""Levels of a value; one that is nested deeper is no structured output."""


def _float(written: str) -> float | str:
    value = float(written)
    return value if math.isfinite(value) else written


def _constant(written: str) -> object:
    raise ValueError(f"{written} is not JSON")


_DECODER = json.JSONDecoder(parse_float=_float, parse_constant=_constant)


class Entry(NamedTuple):
    """A field as a reply gives it."""

    name: str
    value: object
    """JSON data, never None."""


def read_fields(text: str) -> dict[str, Entry] | None:
    """Read the fields of a reply by their folded names, in their order; None where there are none.

    The last JSON object counts, whatever stands around it; without one, lines `name: value`, of which the last of a
    name counts. A field whose value is null or empty is not given.
    """
    found = _last_object(text)
    entries = list(found.items()) if found is not None else _lines(text)
    fields: dict[str, Entry] = {}
    for name, value in entries:
        key = folded(name)
        if key and len(key) <= _LONGEST_NAME and value not in (None, ""):
            fields[key] = Entry(name.strip(), value)
    return fields or None


def folded(name: str) -> str:
    """Return the form in which names of fields are compared: case, and `_`, `-` or a space, make no difference."""
    return "_".join(name.casefold().replace("_", " ").replace("-", " ").split())


def normal(value: object) -> str:
    """Return the form in which values are compared: 12, 12.0 and "12" are one value, as are "Rome" and "rome "."""
    if isinstance(value, str):
        text = " ".join(value.split())
        exact = number_value(number) if (number := bare_number(text)) is not None else None
        return text.casefold() if exact is None else str(exact)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    exact = number_of(value)
    return str(exact) if exact is not None else json.dumps(value)


def number_of(value: object) -> Fraction | None:
    """Return the exact number that a value is, a unit aside; None for anything else."""
    if isinstance(value, str):
        number = only_number(value)
        return None if number is None else number_value(number)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return Fraction(value)
    # What was written counts: 0.1 is a tenth, not the double next to it.
    return Fraction(repr(value)) if math.isfinite(value) else None


def _last_object(text: str) -> dict[str, object] | None:
    found: dict[str, object] | None = None
    at, tried = text.find("{"), 0
    while at >= 0 and tried < _MOST_OPENINGS:
        tried += 1
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            found = value if value and _shallow(value, _DEEPEST) else found
        at = text.find("{", end)
    return found


def _shallow(value: object, levels: int) -> bool:
    if not isinstance(value, list | dict):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_shallow(one, levels - 1) for one in inner)


def _lines(text: str) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        name, value = name.strip(_MARKS), value.strip(" \t*_`")
        if colon and value and _NAME.fullmatch(name):
            found.append((name, _scalar(value)))
    return found


def _scalar(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    # A number stays a number only where JSON writes it as it stands: 007 and 1.50 are kept as texts.
    plain = text.removeprefix("-")
    if len(text) < 300 and (plain.isascii() and plain.isdigit()) and str(int(text)) == text:
        return int(text)
    if len(plain.strip('"')) == len(plain) - 2 and plain == text:
        return plain[1:-1]
    return text
