"""Constraints on structured outputs, written as data: what must hold between the fields of one result.

    {sum: [net, tax], equals: total}          numbers; `tolerance` allows for rounding
    {less: [begin, end]}                      strictly increasing; a number may stand for a field
    {at_most: [0, tax, net]}                  increasing or equal
    {one_of: [currency, [EUR, USD]]}
    {different: [room_1, room_2]}             no two alike
    {same: [total, amount_due]}               all alike
    {requires: [vat_id, country]}             where the first is given the second must be
    {requires: [[paid, true], [due, 0]]}      the same of fields with a value

A constraint on a field that has no value cannot be broken, save that `requires` can be by the second. Numbers are
compared exactly, as they were written; a text where a number is wanted breaks the constraint.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Strict, Tag, WithJsonSchema

from nodes.structured import folded, normal, number_of

__all__ = ["Constraint", "Values", "violated"]

Values = Mapping[str, object]
"""The value of each field that has one, by its folded name."""

Name = Annotated[str, Strict(), Field(min_length=1)]
Number = Annotated[int, Strict()] | Annotated[float, Strict(), Field(allow_inf_nan=False)]
Term = Number | Name
Scalar = Annotated[bool, Strict()] | Number | Annotated[str, Strict()]
Part = Name | tuple[Name, Scalar]


class _Constraint(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def fields(self) -> frozenset[str]:
        """Name the fields that it speaks of, folded."""
        return frozenset(folded(term) for term in self._terms() if isinstance(term, str))

    @abstractmethod
    def _terms(self) -> Iterable[Term]: ...

    @abstractmethod
    def holds(self, values: Values) -> bool:
        """Tell whether it holds for a result."""


class Sum(_Constraint):
    """The sum of fields."""

    sum: tuple[Term, ...] = Field(min_length=1)
    equals: Term
    tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    def _terms(self) -> Iterable[Term]:
        return (*self.sum, self.equals)

    def holds(self, values: Values) -> bool:
        """Tell whether the numbers add up."""
        if not self.fields() <= values.keys():
            return True
        addends, total = _numbers(self.sum, values), _numbers((self.equals,), values)
        if addends is None or total is None:
            return False
        return abs(sum(addends) - total[0]) <= Fraction(repr(self.tolerance))


class Less(_Constraint):
    """Fields in increasing order, no two equal."""

    less: tuple[Term, ...] = Field(min_length=2)

    def _terms(self) -> Iterable[Term]:
        return self.less

    def holds(self, values: Values) -> bool:
        """Tell whether each is less than the next that is given."""
        numbers = _numbers(self.less, values)
        return numbers is not None and all(one < other for one, other in pairwise(numbers))


class AtMost(_Constraint):
    """Fields in increasing order, some may be equal."""

    at_most: tuple[Term, ...] = Field(min_length=2)

    def _terms(self) -> Iterable[Term]:
        return self.at_most

    def holds(self, values: Values) -> bool:
        """Tell whether each is at most the next that is given."""
        numbers = _numbers(self.at_most, values)
        return numbers is not None and all(one <= other for one, other in pairwise(numbers))


class OneOf(_Constraint):
    """A field with one of some values."""

    one_of: tuple[Name, Annotated[tuple[Scalar, ...], Field(min_length=1)]]

    def _terms(self) -> Iterable[Term]:
        return self.one_of[:1]

    def holds(self, values: Values) -> bool:
        """Tell whether the value is one of these."""
        name, allowed = folded(self.one_of[0]), self.one_of[1]
        return name not in values or normal(values[name]) in {normal(value) for value in allowed}


class Different(_Constraint):
    """Fields no two of which are alike."""

    different: tuple[Name, ...] = Field(min_length=2)

    def _terms(self) -> Iterable[Term]:
        return self.different

    def holds(self, values: Values) -> bool:
        """Tell whether no value comes twice."""
        found = [normal(values[name]) for name in sorted(self.fields() & values.keys())]
        return len(set(found)) == len(found)


class Same(_Constraint):
    """Fields that are all alike."""

    same: tuple[Name, ...] = Field(min_length=2)

    def _terms(self) -> Iterable[Term]:
        return self.same

    def holds(self, values: Values) -> bool:
        """Tell whether all values are one."""
        return len({normal(values[name]) for name in self.fields() & values.keys()}) <= 1


class Requires(_Constraint):
    """A field, or its value, that demands another."""

    requires: tuple[Part, Part]

    def _terms(self) -> Iterable[Term]:
        return [part if isinstance(part, str) else part[0] for part in self.requires]

    def holds(self, values: Values) -> bool:
        """Tell whether the second is there, unless the first is not."""
        return not _given(self.requires[0], values) or _given(self.requires[1], values)


def _numbers(terms: Sequence[Term], values: Values) -> list[Fraction] | None:
    """Return the numbers of the terms that are given; None where one is no number."""
    given = [values.get(folded(term)) if isinstance(term, str) else term for term in terms]
    numbers = [number_of(value) for value in given if value is not None]
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(numbers) else None


def _given(part: Part, values: Values) -> bool:
    if isinstance(part, str):
        return folded(part) in values
    name = folded(part[0])
    return name in values and normal(values[name]) == normal(part[1])


_KINDS = ("at_most", "different", "less", "one_of", "requires", "same", "sum")


def _kind(data: object) -> str | None:
    keys = data if isinstance(data, Mapping) else getattr(type(data), "model_fields", {})
    return next((kind for kind in _KINDS if kind in keys), None)


Constraint = Annotated[
    Annotated[AtMost, Tag("at_most")]
    | Annotated[Different, Tag("different")]
    | Annotated[Less, Tag("less")]
    | Annotated[OneOf, Tag("one_of")]
    | Annotated[Requires, Tag("requires")]
    | Annotated[Same, Tag("same")]
    | Annotated[Sum, Tag("sum")],
    Discriminator(
        _kind,
        custom_error_type="constraint",
        custom_error_message=f"a constraint is a mapping with one of {', '.join(f'`{kind}`' for kind in _KINDS)}",
    ),
    WithJsonSchema({"type": "constraint"}),
]


def violated(constraints: Sequence[Constraint], values: Values) -> int:
    """Count the constraints that do not hold."""
    return sum(not constraint.holds(values) for constraint in constraints)
