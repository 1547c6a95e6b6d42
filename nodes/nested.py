"""The type of a setting that holds a technique, written as in a layer: `{generate: {model: fast}}` or its bare name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, ValidationError, WithJsonSchema

from db.errors import SpecError
from nodes.base import Technique
from nodes.registry import get, name_of

__all__ = ["AnyTechnique"]


def _parse(value: object) -> Technique:
    if isinstance(value, Technique):
        return value
    given = {value: None} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or len(given) != 1:
        raise ValueError("a technique is its name, or a mapping of its name to its settings")
    ((name, settings),) = given.items()
    try:
        return get(str(name)).model_validate(settings or {})
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc'])) or name}: {one['msg']}" for one in error.errors())
        raise ValueError(f"in technique {name!r}: {said}") from None
    except SpecError as error:
        raise ValueError(str(error)) from None


def _dump(value: Technique) -> dict[str, Any]:
    return {name_of(type(value)): value.settings()}


AnyTechnique = Annotated[
    Technique, PlainValidator(_parse), PlainSerializer(_dump), WithJsonSchema({"type": "technique"})
]
"""A setting that holds a technique with its settings."""
