"""The walk of the planner through a graph: shapes along the edges, calls at the nodes, the longest way in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import orjson

from architectures.shapes import Part, Planned, hull, join_parts, scaled, shape_hull
from nodes.base import ZERO, CallPlan, NodePlan, Range, Shape, exactly

if TYPE_CHECKING:
    from architectures.spec import AnyNode, ArchitectureSpec, Comparison, Condition, LoopNode, TechniqueNode
    from nodes.base import Estimator

__all__ = ["Line", "Planner", "Speed", "Steps"]

Steps: TypeAlias = dict[tuple[str, bytes, Shape], NodePlan]

_OTHER_TOKENIZER = 2.0
"""By how much two models' counts of one text may differ at most."""
_MAYBE = Range(0, 0.5, 1)
_ONCE = exactly(1)


class Speed(NamedTuple):
    """How fast a model answers."""

    first_token_s: float
    tokens_per_s: float


@dataclass(slots=True, kw_only=True)
class Line:
    """The calls of one node, over all its runs."""

    id: str
    technique: str
    models: tuple[str, ...]
    runs: Range
    calls: tuple[CallPlan, ...]
    candidates: Range


class _Step(NamedTuple):
    part: Part
    seconds: Range | None
    """When it is done, counted from the start of its graph."""


@dataclass(slots=True, kw_only=True)
class Planner:
    """Plans one architecture; holds the lines that came up on the way, by node."""

    estimator: Estimator
    speeds: Mapping[str, Speed]
    mixed: bool
    """Several tokenizers take part, so a text counts differently where it is read than where it was written."""
    lines: dict[str, Line] = field(default_factory=dict)
    steps: Steps = field(default_factory=dict)
    """What techniques foretold before, by their settings and what they received."""

    def architecture(self, spec: ArchitectureSpec, start: Shape) -> tuple[Shape, Range | None]:
        """Return the shape of the output and the seconds until it is there."""
        planned, seconds = self._graph(spec, Planned(start, {}, True), _ONCE, "", "")
        return planned.shape, seconds

    def _graph(
        self, spec: ArchitectureSpec, start: Planned, runs: Range, prefix: str, run_prefix: str
    ) -> tuple[Planned, Range | None]:
        steps: dict[str, _Step] = {}
        for node in spec.ordered:
            before = [steps[name] for name in node.after]
            received = join_parts([step.part for step in before]) if before else start
            ran = _decided(node.when, received.shape)
            handed_on, took = self._node(node, received, scaled(runs, ran), prefix, run_prefix)
            seconds = _later(_latest(before), took, ran)
            steps[node.id] = _Step(Part(handed_on, ran, received), seconds)
        ends = [steps[name] for name in spec.output]
        return join_parts([step.part for step in ends]), _latest(ends)

    def _node(
        self, node: AnyNode, received: Planned, runs: Range, prefix: str, run_prefix: str
    ) -> tuple[Planned, Range | None]:
        name = prefix + node.id
        if node.kind == "technique":
            return self._technique(node, received, runs, name, run_prefix + node.id)
        if node.kind == "architecture":
            return self._graph(node.spec, received, runs, f"{name}.", f"{run_prefix}{node.id}.")
        return self._loop(node, received, runs, name, run_prefix + node.id)

    def _technique(
        self, node: TechniqueNode, received: Planned, runs: Range, name: str, run_name: str
    ) -> tuple[Planned, Range | None]:
        calls, shape = self._step(node, received.shape)
        took = self._seconds(calls)
        counted = tuple(replace(c, calls=scaled(c.calls, runs), requests=scaled(c.requests, runs)) for c in calls)
        line = self.lines.get(name)
        if line is None:
            models = node.settings.models()
            self.lines[name] = Line(
                id=name, technique=node.use, models=models, runs=runs, calls=counted, candidates=shape.candidates
            )
        else:
            line.runs = line.runs.plus(runs)
            line.calls += counted
            line.candidates = hull([line.candidates, shape.candidates])
        shape = self._reread(shape, node)
        if "candidates" in node.settings.gives:
            return Planned(shape, {run_name: shape.candidates}, True), took
        all_kept = shape.candidates == received.shape.candidates and shape.candidates.low == shape.candidates.high
        return Planned(shape, received.origins, received.full and all_kept), took

    def _step(self, node: TechniqueNode, received: Shape) -> NodePlan:
        # By its text, since a technique of somebody else's may have settings without a hash.
        key = (node.use, orjson.dumps(node.settings.settings(), default=str), received)
        known = self.steps.get(key)
        if known is None:
            known = self.steps[key] = node.settings.plan(received, self.estimator)
        return known

    def _loop(
        self, node: LoopNode, state: Planned, runs: Range, name: str, run_name: str
    ) -> tuple[Planned, Range | None]:
        likely_rounds = node.max if node.until is None else (node.max + 1) // 2
        ends: list[Planned] = []
        total: Range | None = ZERO
        for number in range(1, node.max + 1):
            sure = number == 1 or node.until is None
            happens = _ONCE if sure else Range(0, float(number <= likely_rounds), 1)
            times = scaled(runs, happens)
            state, took = self._graph(node.body, state, times, f"{name}.", f"{run_name}.{number}.")
            total = None if total is None or took is None else total.plus(scaled(took, happens))
            ends.append(state)
        return (state if node.until is None else _one_of(ends, likely_rounds)), total

    def _reread(self, shape: Shape, node: TechniqueNode) -> Shape:
        """Widen what new texts weigh where another model's tokenizer reads them; a reply may also hold no text."""
        factor = _OTHER_TOKENIZER if self.mixed else 1.0
        gives = node.settings.gives
        if "candidates" in gives:
            shape = shape._replace(candidate_tokens=_widened(shape.candidate_tokens, factor))
        if "critiques" in gives:
            shape = shape._replace(critique_tokens=_widened(shape.critique_tokens, factor))
        if "tests" in gives:
            shape = shape._replace(test_tokens=_widened(shape.test_tokens, factor))
        return shape

    def _seconds(self, calls: tuple[CallPlan, ...]) -> Range | None:
        """Seconds of a node: calls of one template go out together, templates one after the other."""
        by_template: dict[str, list[Range]] = {}
        for call in calls:
            speed = self.speeds.get(call.model)
            if speed is None:
                return None
            reply = Range(*(speed.first_token_s + tokens / speed.tokens_per_s for tokens in call.completion_tokens))
            by_template.setdefault(call.template, []).append(reply)
        total = ZERO
        for together in by_template.values():
            total = total.plus(_maximum(together))
        return total


def _widened(tokens: Range, factor: float) -> Range:
    return Range(0.0, tokens.likely, tokens.high * factor)


def _maximum(ranges: list[Range]) -> Range:
    return Range(max(r.low for r in ranges), max(r.likely for r in ranges), max(r.high for r in ranges))


def _latest(steps: list[_Step]) -> Range | None:
    times = [step.seconds for step in steps]
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        return None
    return _maximum(known) if known else ZERO


def _later(start: Range | None, took: Range | None, ran: Range) -> Range | None:
    return None if start is None or took is None else start.plus(scaled(took, ran))


def _one_of(ends: list[Planned], likely: int) -> Planned:
    """Return what is known where any of several states may be the result."""
    around = shape_hull([end.shape for end in ends], ends[likely - 1].shape)
    same = all(end.origins == ends[0].origins and end.full for end in ends)
    origins = {name: count for end in ends for name, count in end.origins.items()}
    return Planned(around, origins, same)


def _decided(condition: Condition | None, shape: Shape) -> Range:
    """Return how often (0 to 1) a condition holds, as far as the number of candidates alone decides it."""
    if condition is None:
        return _ONCE
    verdicts = [_known(comparison, shape) for comparison in condition.comparisons]
    if False in verdicts:
        return ZERO
    return _ONCE if all(verdicts) else _MAYBE


def _known(comparison: Comparison, shape: Shape) -> bool | None:
    low, _, high = shape.candidates
    if comparison.measure != "candidates":
        return None
    if low == high:
        return comparison.holds(low)
    if comparison.operator == "equals":
        return None if low <= comparison.value <= high else False
    at_ends = {comparison.holds(low), comparison.holds(high)}
    return at_ends.pop() if len(at_ends) == 1 else None
