"""What the lists of `effects.py` are made of: comparisons, families of baselines, and layers that recur."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

__all__ = [
    "EIGHT",
    "FAMILIES",
    "JUDGE",
    "MINI",
    "NANO",
    "SIXTEEN",
    "SURE",
    "Bar",
    "Comparison",
    "Family",
    "Layer",
    "Layers",
    "T",
    "asking",
    "drawn",
    "named",
    "scored",
    "verified",
]

Layer = str | Mapping[str, Any]  # an architecture's layer as YAML has it
Layers = Sequence[Layer]

NANO, MINI, JUDGE = "embedded/nano", "embedded/mini", "embedded/judge"
T = 0.8
"""The temperature of every sample, as in `docs/embedded-models.md`."""


class Bar(NamedTuple):
    """What the issue asks of a comparison."""

    points: float | None = None
    """The least difference, as a fraction."""
    calls: float | None = None
    """The greatest share of the baseline's calls."""


class Family(NamedTuple):
    """Baselines that differ in a number n, which is chosen so that their dollars are those of a technique."""

    title: str
    make: Callable[[int], Layers]
    most: int


class Comparison(NamedTuple):
    """A technique and what it is compared with."""

    about: str
    """The technique or scorer, by the name of its module."""
    what: str
    """The setting, in a few words."""
    layers: Layers
    against: str | tuple[str, Layers]
    """A family, whose n is matched by dollars, or a title with the layers themselves."""
    bar: Bar | None = None
    note: str = ""
    tasks: tuple[Literal["arithmetic", "dates"], ...] = ("arithmetic",)


def drawn(n: int, model: str | list[str] = MINI, **more: object) -> Layer:
    """Draw n samples."""
    return {"generate": {"model": model, "samples": n, "temperature": T, **more}}


def majority(n: int, model: str = MINI) -> Layers:
    """Vote over n samples."""
    return (drawn(n, model), "vote")


def scored(n: int, scorer: Mapping[str, object] | str, **more: object) -> Layers:
    """Score n samples, by default keeping the best."""
    return (drawn(n), {"score": {"scorer": scorer, **(more or {"keep": 1})}})


def asking(use: str, **more: object) -> dict[str, object]:
    """Name a scorer that asks the judge."""
    return {"use": use, "model": JUDGE, **more}


def verified(n: int) -> Layers:
    """Vote over those of n samples that the judge finds correct."""
    return (drawn(n), {"verify": {"model": JUDGE}}, "vote")


SURE = asking("verdict_probability")
FAMILIES: Mapping[str, Family] = {
    "majority": Family("majority of {n}", majority, 32),
    "nano majority": Family("majority of {n} of nano", lambda n: majority(n, NANO), 32),
    "surest": Family("best of {n} by verdict probability", lambda n: scored(n, SURE), 16),
    "verified": Family("majority of the verified of {n}", verified, 10),
}

EIGHT = ("majority of 8", majority(8))
SIXTEEN = ("majority of 16", majority(16))


def named(layers: Layers) -> Iterator[str]:
    """Name the techniques and scorers of an architecture."""
    for layer in layers:
        if isinstance(layer, str):
            yield layer
            continue
        for name, settings in layer.items():
            yield name
            yield from _scorers(settings)


def _scorers(settings: object) -> Iterator[str]:
    if isinstance(settings, Mapping):
        for name, value in settings.items():
            if name in ("use", "scorer") and isinstance(value, str):
                yield value
            else:
                yield from _scorers(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _scorers(value)
