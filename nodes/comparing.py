"""Comparing two candidates: what the template `rank_pair` shows, shared by all that ask which of two is better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from nodes.base import Candidate, Range, Shape, exactly
from nodes.planning import used
from nodes.shown import blanks, quoted, shown

__all__ = ["BlankPair", "blank_pair", "pair_variables"]


class BlankPair(NamedTuple):
    """A pair without texts for a planner, and the tokens of the texts that will stand there."""

    variables: Mapping[str, object]
    inserted: Range


def pair_variables(question: str, first: Candidate, second: Candidate, *, critiques: bool) -> Mapping[str, object]:
    """Return what a prompt about two candidates shows, in this order."""
    pair = shown((first, second), critiques=critiques)
    return {
        "question": quoted(question),
        "candidates": pair,
        "first": pair[0].text,
        "second": pair[1].text,
        "keep": 1,
    }


def blank_pair(shape: Shape, *, critiques: bool) -> BlankPair:
    """Return what a prompt about two candidates of a shape will hold."""
    pair = blanks(2, critiques=critiques and shape.critique_tokens.high > 0)
    both = used(shape, critiques=critiques).times(exactly(2))
    variables = {"question": "", "candidates": pair, "first": "", "second": "", "keep": 1}
    return BlankPair(variables, shape.question.plus(both))
