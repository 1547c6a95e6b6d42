"""The architecture as data: frozen nodes with what they follow, whatever form it was written in."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from architectures import canonical, structure
from nodes.base import Technique

__all__ = [
    "MAX_ROUNDS",
    "AnyNode",
    "ArchitectureSpec",
    "Comparison",
    "Condition",
    "LoopNode",
    "NestedNode",
    "Operator",
    "TechniqueNode",
]

MAX_ROUNDS: Final = 32
"""The most rounds that a loop may have; a longer one is a mistake more often than a wish."""

Operator = Literal["above", "at_least", "at_most", "below", "equals"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Comparison(_Frozen):
    """One measure against one number."""

    measure: str
    operator: Operator
    value: float = Field(allow_inf_nan=False)

    def holds(self, number: float) -> bool:
        """Tell whether a number stands in this relation to the value."""
        if self.operator == "above":
            return number > self.value
        if self.operator == "at_least":
            return number >= self.value
        if self.operator == "at_most":
            return number <= self.value
        return number < self.value if self.operator == "below" else number == self.value


class Condition(_Frozen):
    """Comparisons of measures, all of which must hold; `candidates` is the number of candidates."""

    comparisons: tuple[Comparison, ...] = Field(min_length=1)

    def holds(self, measures: Mapping[str, float]) -> bool:
        """Tell whether every comparison holds; one whose measure was not taken does not."""
        return all(c.measure in measures and c.holds(measures[c.measure]) for c in self.comparisons)

    def absent(self, measures: Mapping[str, float]) -> tuple[str, ...]:
        """Name the measures that were not taken."""
        return tuple(c.measure for c in self.comparisons if c.measure not in measures)

    def data(self) -> dict[str, dict[str, float]]:
        """Return the condition as it is written in a file, in a fixed order."""
        data: dict[str, dict[str, float]] = {}
        for c in sorted(self.comparisons, key=lambda c: (c.measure, c.operator)):
            data.setdefault(c.measure, {})[c.operator] = c.value
        return data

    def __str__(self) -> str:
        words = {"above": ">", "at_least": "≥", "at_most": "≤", "below": "<", "equals": "="}
        return " and ".join(f"{c.measure} {words[c.operator]} {c.value:g}" for c in self.comparisons)


class _Node(_Frozen):
    id: str
    after: tuple[str, ...] = ()
    """The nodes whose states it receives, merged in this order; none: it receives the question alone."""
    when: Condition | None = None
    """It runs only where this holds of the state that it receives."""


class TechniqueNode(_Node):
    """A technique with its settings."""

    kind: Literal["technique"] = "technique"
    use: str
    settings: SerializeAsAny[Technique]


class LoopNode(_Node):
    """A body that runs again on its own result, at most `max` times, until a condition holds of that result."""

    kind: Literal["loop"] = "loop"
    body: ArchitectureSpec
    until: Condition | None = None
    max: int = Field(ge=1, le=MAX_ROUNDS)


class NestedNode(_Node):
    """An architecture used as a node; its first nodes receive the state that the node receives."""

    kind: Literal["architecture"] = "architecture"
    spec: ArchitectureSpec


AnyNode = Annotated[TechniqueNode | LoopNode | NestedNode, Field(discriminator="kind")]


class ArchitectureSpec(_Frozen):
    """A graph of configured nodes; its name and its order of writing are no part of its identity.

    Raises `SpecError` on construction for what no graph can be: an unknown node named in `after` or `output`, a
    cycle, a node that the output does not depend on.
    """

    name: str = "architecture"
    description: str = ""
    nodes: tuple[AnyNode, ...] = Field(min_length=1)
    output: tuple[str, ...] = Field(min_length=1)
    """The nodes whose states, merged in this order, are the result; its first candidate is the answer."""

    @model_validator(mode="after")
    def _is_a_graph(self) -> ArchitectureSpec:
        structure.check_graph(self)
        return self

    def node(self, node_id: str) -> AnyNode:
        """Return a node by its id; raises `KeyError`."""
        return self.by_id[node_id]

    @cached_property
    def by_id(self) -> Mapping[str, AnyNode]:
        """The nodes by their ids."""
        return {node.id: node for node in self.nodes}

    @cached_property
    def ordered(self) -> tuple[AnyNode, ...]:
        """The nodes so that each stands after those it follows; the same for every way of writing the graph."""
        return structure.ordered(self)

    @cached_property
    def id(self) -> str:
        """SHA-256 of the canonical JSON, in hex: what the architecture is, not how it was written."""
        return canonical.digest(self)

    def models(self) -> tuple[str, ...]:
        """Name the models that may be asked, nested architectures included, in order, each once."""
        names: dict[str, None] = {}
        for node in self.ordered:
            if node.kind == "technique":
                inner = node.settings.models()
            else:
                inner = (node.body if node.kind == "loop" else node.spec).models()
            names.update(dict.fromkeys(inner))
        return tuple(names)

    def data(self) -> dict[str, object]:
        """Return the architecture in its full written form (`nodes`, nested ones inline); parsing it gives it back."""
        return canonical.written(self)
