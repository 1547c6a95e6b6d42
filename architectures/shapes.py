"""What the planner knows of a state on its way: its shape, and which nodes made the candidates in it.

Candidates that come along two ways stand once in the joined state, so a join must know whether its parts share any.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nodes.base import ZERO, Range, Shape

__all__ = ["Part", "Planned", "hull", "join_parts", "scaled", "shape_hull"]


class Planned(NamedTuple):
    """The shape of a state and the origin of its candidates."""

    shape: Shape
    origins: Mapping[str, Range]
    """The nodes that made its candidates, and how many each made."""
    full: bool
    """All that these nodes made is in it."""


class Part(NamedTuple):
    """What one node hands to a join: its result if it runs, how likely that is, and what it received."""

    handed_on: Planned
    ran: Range
    received: Planned


def hull(ranges: Sequence[Range]) -> Range:
    """Return the least range around several, with the mean of their likely values."""
    return Range(min(r.low for r in ranges), sum(r.likely for r in ranges) / len(ranges), max(r.high for r in ranges))


def shape_hull(shapes: Sequence[Shape], likely: Shape | None = None) -> Shape:
    """Return what holds of each of several shapes, with the likely values of one or else their mean."""

    def around(ranges: Sequence[Range], chosen: Range | None) -> Range:
        whole = hull(ranges)
        return Range(whole.low, chosen.likely, whole.high) if chosen else whole

    return Shape(
        question=shapes[0].question,
        candidates=around([s.candidates for s in shapes], likely and likely.candidates),
        candidate_tokens=around([s.candidate_tokens for s in shapes], likely and likely.candidate_tokens),
        critique_tokens=around([s.critique_tokens for s in shapes], likely and likely.critique_tokens),
        tests=around([s.tests for s in shapes], likely and likely.tests),
        test_tokens=around([s.test_tokens for s in shapes], likely and likely.test_tokens),
        verdicts=any(s.verdicts for s in shapes),
    )


def scaled(quantity: Range, times: Range) -> Range:
    """Multiply two quantities, where nothing times no bound is nothing."""
    return Range(*(a * b if a and b else 0.0 for a, b in zip(quantity, times, strict=True)))


def join_parts(parts: Sequence[Part]) -> Planned:
    """Foretell the state that a node receives from several; see `architectures.program` for what skipping means."""
    running = [part for part in parts if part.ran.high > 0]
    if not running:
        return _merged([part.received for part in parts], [True] * len(parts))
    merged = _merged([part.handed_on for part in running], [part.ran.low >= 1 for part in running])
    if any(part.ran.low >= 1 for part in running):
        return _likely(merged, running)
    # At least one of them ran, or none did and what they received stands in.
    least = min(part.handed_on.shape.candidates.low for part in running)
    some = merged._replace(shape=_with_least(merged.shape, least))
    return _either(some, _merged([part.received for part in parts], [True] * len(parts)))


def _with_least(shape: Shape, least: float) -> Shape:
    count = shape.candidates
    return shape._replace(candidates=Range(least, max(least, count.likely), max(least, count.high)))


def _likely(merged: Planned, parts: Sequence[Part]) -> Planned:
    """Weigh what may be missing by how likely it is there."""
    count = merged.shape.candidates
    missing = sum(part.handed_on.shape.candidates.likely * (1 - part.ran.likely) for part in parts)
    likely = min(max(count.likely - missing, count.low), count.high)
    return merged._replace(shape=merged.shape._replace(candidates=Range(count.low, likely, count.high)))


def _either(one: Planned, other: Planned) -> Planned:
    return Planned(shape_hull([one.shape, other.shape]), {**one.origins, **other.origins}, False)


def _merged(parts: Sequence[Planned], certain: Sequence[bool]) -> Planned:
    origins = {name: count for part in parts for name, count in part.origins.items()}
    if len(parts) == 1 and certain[0]:
        return parts[0]
    count, full = _candidates(parts, certain, origins)
    holding = [part.shape for part in parts if part.shape.candidates.high > 0]
    testing = [part.shape for part in parts if part.shape.tests.high > 0]
    sure_tests = [p.shape.tests.low for p, sure in zip(parts, certain, strict=True) if sure]
    shape = Shape(
        question=parts[0].shape.question,
        candidates=count,
        candidate_tokens=_per_candidate([shape.candidate_tokens for shape in holding], holding),
        critique_tokens=_per_candidate([shape.critique_tokens for shape in holding], holding),
        tests=Range(
            max(sure_tests, default=0),
            max((s.tests.likely for s in testing), default=0),
            sum(s.tests.high for s in testing),
        ),
        test_tokens=hull([s.test_tokens for s in testing]) if testing else ZERO,
        verdicts=any(part.shape.verdicts for part in parts),
    )
    return Planned(shape, origins, full)


def _per_candidate(tokens: Sequence[Range], shapes: Sequence[Shape]) -> Range:
    if not tokens:
        return ZERO
    weight = sum(shape.candidates.likely for shape in shapes)
    around = hull(tokens)
    if not weight or math.isinf(weight):
        return around
    mean = sum(t.likely * s.candidates.likely for t, s in zip(tokens, shapes, strict=True)) / weight
    return Range(around.low, mean, around.high)


def _candidates(parts: Sequence[Planned], certain: Sequence[bool], origins: Mapping[str, Range]) -> tuple[Range, bool]:
    """Count the candidates of a union: exactly where the parts share none, or where what they share is all there."""
    every = [part.shape.candidates for part in parts]
    sure = [part.shape.candidates for part, is_sure in zip(parts, certain, strict=True) if is_sure]
    disjoint = sum(len(part.origins) for part in parts) == len(origins)
    most = sum(count.high for count in every)
    likely = sum(count.likely for count in every)
    whole = [part for part, is_sure in zip(parts, certain, strict=True) if is_sure and part.full]
    if {name for part in whole for name in part.origins} == set(origins) and origins:
        return Range(*(sum(values) for values in zip(*origins.values(), strict=True))), True
    if disjoint:
        return Range(sum(count.low for count in sure), likely, most), False
    made = [sum(values) for values in zip(*origins.values(), strict=True)]
    low = max((count.low for count in sure), default=0)
    high = min(most, made[2])
    return Range(low, min(max(low, max(count.likely for count in every)), high), high), False
