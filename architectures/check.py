"""What an architecture must satisfy before a call is paid for, derived from what its techniques say of themselves.

A node's state is followed along the edges as two sets: what it *may* hold, and what it *must* hold whatever the
conditions on the way decide. A need outside the first is an error, a need outside the second a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from architectures.places import Place
from architectures.reading import unread
from db.errors import UserError
from nodes.base import Need, Technique

if TYPE_CHECKING:
    from architectures.spec import AnyNode, ArchitectureSpec, Condition, TechniqueNode
    from providers.book import ModelBook

__all__ = ["Checked", "check"]

_PLAINEST: Final[Mapping[Need, str]] = MappingProxyType(
    {
        "candidates": "generate",
        "critiques": "critique",
        "scores": "judge",
        "tests": "unit_test_generate",
        "verdicts": "verify",
    }
)
"""The technique that a message proposes for what is lacking; others give it as well."""


class Checked(NamedTuple):
    """An architecture that can run, and what its author should know of it."""

    warnings: tuple[str, ...] = ()


class _Have(NamedTuple):
    may: frozenset[Need] = frozenset()
    must: frozenset[Need] = frozenset()
    measures: frozenset[str] = frozenset({"candidates"})


class _Passed(NamedTuple):
    received: _Have
    handed_on: _Have
    skippable: bool


@dataclass(slots=True, kw_only=True)
class _Check:
    book: ModelBook | None
    warnings: dict[str, None] = field(default_factory=dict)
    """Without repetition, since a loop's body is looked at twice."""

    def warn(self, place: Place, message: str) -> None:
        self.warnings[str(place.error(message))] = None

    def graph(self, spec: ArchitectureSpec, start: _Have, place: Place, *, top: bool = False) -> _Have:
        """Follow a graph from what its first nodes receive to what its output holds."""
        passed: dict[str, _Passed] = {}
        for node in spec.ordered:
            here = place.at(node.id)
            received = _joined([passed[name] for name in node.after]) if node.after else start
            if node.when:
                _check_condition(node.when, received, here.at("when"))
            handed_on = self.node(node, received, here)
            passed[node.id] = _Passed(received, handed_on, node.when is not None)
        for node, message in unread(spec, top=top):
            self.warn(place.at(node.id), message)
        return _joined([passed[name] for name in spec.output])

    def node(self, node: AnyNode, received: _Have, place: Place) -> _Have:
        if node.kind == "technique":
            self.needs(node, received, place)
            if self.book:
                _check_models(node.settings, self.book, place)
            return _after(node.settings, received)
        if node.kind == "architecture":
            return self.graph(node.spec, received, place)
        first = self.graph(node.body, received, place)
        if node.until:
            _check_condition(node.until, first, place.at("until"))
        return self.graph(node.body, first, place) if node.max > 1 else first

    def needs(self, node: TechniqueNode, received: _Have, place: Place) -> None:
        for need in sorted(node.settings.demands()):
            if need not in received.may:
                raise place.error(f"it needs {need}, and nothing before it gives any; put {_PLAINEST[need]} before it.")
            if need not in received.must:
                self.warn(place, f"it needs {need}, which may be missing where a node before it is skipped.")


def check(spec: ArchitectureSpec, book: ModelBook | None = None, *, source: str = "") -> Checked:
    """Check an architecture, and its models where a book is given; makes no call.

    Raises `SpecError` for a need that nothing fulfils, a condition on a measure that nothing takes, an output without
    candidates, a model that the book does not know or that lacks what a node requires; each names `source` (or the
    architecture) and the node.
    """
    state = _Check(book=book)
    place = Place(source or spec.name)
    result = state.graph(spec, _Have(), place, top=True)
    if "candidates" not in result.may:
        raise place.at(spec.output[0]).error("the output holds no candidates; end with a node that hands some on.")
    if "candidates" not in result.must:
        state.warn(place.at(spec.output[0]), "where a node is skipped the output may hold no candidate.")
    return Checked(tuple(state.warnings))


def _after(settings: Technique, have: _Have) -> _Have:
    return _Have(
        (have.may - settings.drops) | settings.gives,
        (have.must - settings.drops) | settings.gives,
        have.measures | settings.measures,
    )


def _joined(nodes: list[_Passed]) -> _Have:
    certain = [node for node in nodes if not node.skippable]
    may = frozenset[Need]().union(*(node.handed_on.may for node in nodes))
    known = frozenset[str]().union(*(node.handed_on.measures for node in nodes))
    if certain:
        return _Have(may, frozenset[Need]().union(*(node.handed_on.must for node in certain)), known)
    # Where all are skipped, what they received stands in; where some ran, what these handed on.
    ran = frozenset.intersection(*(node.handed_on.must for node in nodes))
    skipped = frozenset[Need]().union(*(node.received.must for node in nodes))
    may |= frozenset[Need]().union(*(node.received.may for node in nodes))
    return _Have(may, ran & skipped, known)


def _check_condition(condition: Condition, have: _Have, place: Place) -> None:
    for comparison in condition.comparisons:
        if comparison.measure not in have.measures:
            raise place.unknown("measure", comparison.measure, have.measures)


def _check_models(settings: Technique, book: ModelBook, place: Place) -> None:
    for model in settings.models():
        try:
            spec = book.resolve(model)
        except UserError as error:
            raise type(error)(str(place.at("model").error(str(error)))) from error
        for capability in sorted(settings.required_of(model)):
            if not spec.capabilities.has(capability):
                raise place.error(
                    f"the node needs {capability!r} of its models, which {model!r} lacks; "
                    "take another model, or say in models.yaml that it has it."
                )
