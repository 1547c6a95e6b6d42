"""The techniques, one file each, with their registry, their prompts and the contract that they hold."""

from nodes.base import (
    CallPlan,
    Candidate,
    Context,
    Estimator,
    NodePlan,
    Note,
    Range,
    Shape,
    State,
    Technique,
    exactly,
)
from nodes.registry import describe, get, load_file, names, technique

__all__ = [
    "CallPlan",
    "Candidate",
    "Context",
    "Estimator",
    "NodePlan",
    "Note",
    "Range",
    "Shape",
    "State",
    "Technique",
    "describe",
    "exactly",
    "get",
    "load_file",
    "names",
    "technique",
]
