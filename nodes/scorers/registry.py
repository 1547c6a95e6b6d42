"""The register of scorers, and the type of a setting that holds one: `scorer: {use: judge, model: strong}`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, PlainSerializer, PlainValidator, WithJsonSchema

from db.errors import SpecError
from nodes.describe import SECTIONS, Description, describe_settings, sections
from nodes.parts import Parts
from nodes.scorers.base import Scorer

__all__ = [
    "SCORERS",
    "AnyScorer",
    "OwnScorer",
    "describe_scorer",
    "get_scorer",
    "scorer",
    "scorer_name",
    "scorer_names",
]

SCORERS: Final = Parts("scorer", Scorer)  # type: ignore[type-abstract]  # only its subclasses are made
"""All scorers; a package brings its own by entry points of the group `colonnade.scorers`."""

_T = TypeVar("_T", bound=Scorer)


def scorer(name: str) -> Callable[[type[_T]], type[_T]]:
    """Register a subclass of `Scorer` under a name; raises `SpecError` where the name is taken or a section lacks."""

    def register(cls: type[_T]) -> type[_T]:
        place = SCORERS.free(name, cls)
        _, named = sections(cls.__dict__.get("__doc__") or "")
        # Under `python -OO` there are no docstrings to check.
        missing = [section for section in SECTIONS if sys.flags.optimize < 2 and not named.get(section)]
        if missing:
            raise SpecError(f"{place} lacks {', '.join(f'{s!r}' for s in missing)} in its docstring.")
        SCORERS.add(name, cls)
        return cls

    return register


def get_scorer(name: str) -> type[Scorer]:
    """Return the scorer of that name; raises `SpecError` for an unknown one."""
    return SCORERS.get(name)


def scorer_names() -> tuple[str, ...]:
    """Name all scorers in alphabetical order."""
    return SCORERS.names()


def scorer_name(cls: type[Scorer]) -> str:
    """Return the name under which a scorer is registered; raises `SpecError` where it is not."""
    return SCORERS.name_of(cls)


def describe_scorer(name: str) -> Description:
    """Describe a scorer for people, from its docstring and its settings."""
    cls = get_scorer(name)
    return describe_settings(name, cls, needs=cls.needs | {"candidates"}, gives=frozenset({"scores"}))


AnyScorer = Annotated[
    Scorer,
    PlainValidator(SCORERS.parse),
    PlainSerializer(SCORERS.dump),
    WithJsonSchema({"type": "scorer"}),
]
"""A setting that holds a scorer, written as its name or as a mapping with `use`."""


def _needs_no_logprobs(value: Scorer) -> Scorer:
    if value.reads_logprobs():
        raise ValueError(
            f"the scorer {scorer_name(type(value))!r} reads log probabilities, which samples that this technique draws "
            "itself do not carry; use `score` behind a `generate` with `top_logprobs`"
        )
    return value


OwnScorer = Annotated[AnyScorer, AfterValidator(_needs_no_logprobs)]
"""The same for a technique that scores samples of its own, which carry no log probabilities."""
