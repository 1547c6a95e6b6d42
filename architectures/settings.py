"""A technique's settings from written data, with pydantic's findings turned into one sentence."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from architectures.places import Place
from db.errors import SpecError
from nodes import registry
from nodes.base import Technique

__all__ = ["make_settings"]


def make_settings(use: str, settings: Mapping[str, object], place: Place) -> Technique:
    """Make a technique of its written settings; raises `SpecError` for an unknown technique, key or value."""
    try:
        cls = registry.get(use)
    except SpecError as error:
        raise place.error(_lowered(str(error))) from error
    known = _names(cls)
    for key in settings:
        if key not in known:
            raise place.unknown("setting", key, known)
    try:
        return cls.model_validate(settings)
    except ValidationError as error:
        raise _sentence(error, place) from error


def _lowered(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _names(cls: type[Technique]) -> list[str]:
    return [field.alias or name for name, field in cls.model_fields.items()]


def _sentence(error: ValidationError, place: Place) -> SpecError:
    """Say the finding that goes deepest: of a union's branches, that is the one that was meant."""
    findings = error.errors(include_url=False)
    first = findings[0]
    same = [f for f in findings if f["loc"][:1] == first["loc"][:1]]
    chosen = max(same, key=lambda f: len([part for part in f["loc"] if isinstance(part, int)]))
    key = [part for part in chosen["loc"] if isinstance(part, int)]
    here = place.at(*chosen["loc"][:1], *key)
    if chosen["type"] == "missing":
        within = here if len(chosen["loc"]) > 1 else place
        return within.error(f"the setting {str(chosen['loc'][-1])!r} is missing.")
    message = _lowered(chosen["msg"].removeprefix("Value error, ").rstrip("."))
    return here.error(f"{message}, but it is {chosen['input']!r}." if chosen["loc"] else f"{message}.")
