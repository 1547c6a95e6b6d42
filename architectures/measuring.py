"""Which measures a technique takes, as far as it says."""

from __future__ import annotations

from nodes.base import Technique
from nodes.registry import BUILT_IN

__all__ = ["measured_by"]


def measured_by(cls: type[Technique]) -> frozenset[str] | None:
    """Return the measures that a technique declares (`measures`); None for one of others that declares nothing."""
    declared: frozenset[str] | None = getattr(cls, "measures", None)
    if declared is None and cls.__module__ in {f"nodes.{name}" for name in BUILT_IN}:
        return frozenset()
    return declared
