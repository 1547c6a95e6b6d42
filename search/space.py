"""A space of architectures as data: its parameters, its rules, its points, and the domain that samplers search."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from architectures.load import load
from architectures.places import Place
from db.errors import SpecError
from search.grammar import expand, fill
from search.parameters import Condition, Parameter, Value, number_of

if TYPE_CHECKING:
    from architectures.spec import ArchitectureSpec
    from providers.book import ModelBook
    from search.caps import Cap

__all__ = ["Counts", "Drawn", "Rule", "Space", "Values"]

Values = Mapping[str, Value]
"""A point's values by parameter; what it does not have is absent."""

_MOST_RAW = 2_000_000


class Counts(NamedTuple):
    """How large a space is."""

    raw: int
    """Combinations of all choices, whether or not a condition leaves one out."""
    valid: int
    """Different architectures that the rules allow, before caps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What every point must satisfy: a bound on a product or a sum of parameters, or a forbidden combination."""

    product: tuple[str, ...] = ()
    total: tuple[str, ...] = ()
    at_most: float = math.inf
    at_least: float = -math.inf
    forbid: Condition | None = None

    def allows(self, values: Values) -> bool:
        """Tell whether a point satisfies it; a parameter that the point does not have counts as 1 or as 0."""
        if self.forbid is not None:
            return not self.forbid.holds(values)
        names = self.product or self.total
        numbers = [number for name in names if (number := number_of(values.get(name))) is not None]
        return self.at_least <= (math.prod(numbers) if self.product else math.fsum(numbers)) <= self.at_most

    def names(self) -> tuple[str, ...]:
        """Name the parameters that it looks at."""
        return (*self.product, *self.total, *(test.parameter for test in (self.forbid.tests if self.forbid else ())))


class Drawn(NamedTuple):
    """A point of a space with its architecture."""

    values: Values
    spec: ArchitectureSpec

    @property
    def key(self) -> str:
        """The architecture's id."""
        return self.spec.id


@dataclass(frozen=True, kw_only=True)
class Space:
    """Everything that a search may try, as it was written; made by `load_space`."""

    name: str
    description: str = ""
    models: Mapping[str, tuple[str, ...]]
    parameters: tuple[Parameter, ...]
    """In an order in which each stands after those that its condition looks at."""
    template: Mapping[str, object]
    """`layers` or `nodes` of an architecture, with what is open."""
    rules: tuple[Rule, ...] = ()
    caps: tuple[Cap, ...] = ()
    singles: Mapping[str, object] = field(default_factory=dict)
    """For each role the layers that measure one model of it, which stands there as `$model`, and all of another role
    as its name: `$generators`."""

    @property
    def raw(self) -> int:
        """Combinations of all choices."""
        return math.prod(len(parameter.choices) for parameter in self.parameters)

    def assignments(self) -> Iterator[Values]:
        """Go through the combinations that conditions and rules allow; raises `SpecError` for millions of them."""
        if self.raw > _MOST_RAW:
            raise self.place.error(f"its {self.raw:,} points are more than {_MOST_RAW:,}; fix some parameters.")
        for values in _combinations(self.parameters, {}):
            if all(rule.allows(values) for rule in self.rules):
                yield values

    def points(self, book: ModelBook | None = None) -> Iterator[Drawn]:
        """Go through the different architectures, checked; of equal ones the first.

        Raises `SpecError` for a point that is no architecture, and where there is no point at all.
        """
        seen: set[str] = set()
        for values in self.assignments():
            drawn = Drawn(values, self.architecture(values, book))
            if drawn.key not in seen:
                seen.add(drawn.key)
                yield drawn
        if not seen:
            raise self.place.error("the space is empty: its rules leave no point; loosen one.")

    def architecture(self, values: Values, book: ModelBook | None = None) -> ArchitectureSpec:
        """Return the checked architecture of a point; raises `SpecError` where it is none."""
        filled = {parameter.name: values.get(parameter.name, parameter.otherwise) for parameter in self.parameters}
        if "layers" in self.template:
            data: dict[str, object] = {"layers": expand(self.template["layers"], filled, self.place.at("layers"))}
        else:
            data = {key: fill(part, filled, self.place.at(key)) for key, part in self.template.items()}
        try:
            return load({"name": self.name, **data}, book).spec
        except SpecError as error:
            raise self.place.error(f"the point {describe(values)} is no architecture ({error}); add a rule.") from error

    def single(self, role: str, model: str, book: ModelBook | None = None) -> ArchitectureSpec:
        """Return the architecture that measures one model of a role; raises `SpecError` where it is none."""
        layers = expand(self.singles[role], {**self.models, "model": model}, self.place.at("singles", role))
        return load({"name": f"{role}: {model}", "layers": layers}, book).spec

    def count(self) -> Counts:
        """Count the points, without a model being looked up."""
        return Counts(self.raw, sum(1 for _ in self.points()))

    @property
    def place(self) -> Place:
        """Where errors are said to be."""
        return Place(f"space {self.name}")


def describe(values: Values) -> str:
    """Write a point's values in one line."""
    texts = {name: "+".join(v) if isinstance(v, tuple) else str(v) for name, v in values.items()}
    return ", ".join(f"{name}={' '.join(text.split())}" for name, text in texts.items()) or "without parameters"


def _combinations(parameters: Sequence[Parameter], values: Values) -> Iterator[Values]:
    if not parameters:
        yield values
        return
    first, *rest = parameters
    if not first.when.holds(values):
        yield from _combinations(rest, values)
        return
    for choice in first.choices:
        yield from _combinations(rest, {**values, first.name: choice.value})
