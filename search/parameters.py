"""What may vary in a space: parameters with finitely many choices, and the conditions under which they exist."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

from architectures.places import Place

__all__ = ["Choice", "Condition", "Parameter", "Value", "number_of", "read_condition", "read_parameter"]

Value: TypeAlias = bool | int | float | str | tuple[str, ...] | None
"""What stands in an architecture in the place of `$name`."""

Kind = Literal["category", "models", "number"]
_SOURCES = ("best", "choices", "one_of", "range", "subset")
_OWNERS = {"counts": "best", "sizes": "subset", "step": "range"}
_MOST_CHOICES = 10_000
_OPERATORS = {
    "above": lambda a, b: a > b,
    "at_least": lambda a, b: a >= b,
    "at_most": lambda a, b: a <= b,
    "below": lambda a, b: a < b,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One parameter against a number, or against the values that it may have."""

    parameter: str
    operator: str
    operand: float | tuple[Value, ...]

    def holds(self, value: Value) -> bool:
        """Tell whether a value passes; a list of models counts as its length."""
        if isinstance(self.operand, tuple):
            return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.operand)
        number = number_of(value)
        return number is not None and bool(_OPERATORS[self.operator](number, self.operand))


@dataclass(frozen=True, slots=True)
class Condition:
    """Tests that must all hold; a parameter that a point does not have passes none."""

    tests: tuple[Test, ...] = ()

    def holds(self, values: Mapping[str, Value]) -> bool:
        """Tell whether a point's values so far fulfil it."""
        return all(test.parameter in values and test.holds(values[test.parameter]) for test in self.tests)

    def both(self, other: Condition) -> Condition:
        """Join two conditions."""
        return Condition((*self.tests, *(test for test in other.tests if test not in self.tests)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One thing that a parameter may be."""

    value: Value
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter with its choices; where `when` does not hold it does not exist, and `otherwise` is filled in."""

    name: str
    kind: Kind
    choices: tuple[Choice, ...]
    when: Condition = Condition()
    otherwise: Value = None
    role: str | None = None
    """The role of the models that it chooses from."""


def number_of(value: Value) -> float | None:
    """Return the number that a value is compared as: of models their count; None of a text."""
    if isinstance(value, tuple):
        return len(value)
    return float(value) if isinstance(value, bool | int | float) else None


def read_parameter(name: str, data: object, models: Mapping[str, tuple[str, ...]], place: Place) -> Parameter:
    """Read a parameter as it is written; raises `SpecError`."""
    if not isinstance(data, dict):
        raise place.error("a parameter is a mapping such as {choices: [1, 2, 4]}.")
    sources = [key for key in _SOURCES if key in data]
    for key in data:
        if key not in (*_SOURCES, "counts", "otherwise", "sizes", "step", "when"):
            raise place.unknown("key", key, (*_SOURCES, "counts", "otherwise", "sizes", "step", "when"))
    if len(sources) != 1:
        raise place.error(f"a parameter has one of {', '.join(_SOURCES)}; here are {len(sources)}.")
    source = sources[0]
    for key, owner in _OWNERS.items():
        if key in data and source != owner:
            raise place.at(key).error(f"this belongs to {owner!r}, and has no meaning beside {source!r}.")
    role = str(data[source]) if source in ("best", "one_of", "subset") else None
    if role is not None and role not in models:
        raise place.at(source).unknown("role", role, models)
    values = _of_role(source, models[role], data, place) if role else _plain(source, data, place)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    kind: Kind = "models" if source == "subset" else "number" if numbers or source == "best" else "category"
    return Parameter(
        name=name,
        kind=kind,
        choices=tuple(Choice(value=value, label=_label(value, source)) for value in values),
        when=read_condition(data["when"], place.at("when")) if "when" in data else Condition(),
        otherwise=_value(data.get("otherwise"), place.at("otherwise")),
        role=role,
    )


def read_condition(data: object, place: Place) -> Condition:
    """Read `{samples: {above: 1}, finish: [vote, judge]}`; raises `SpecError`."""
    if not isinstance(data, dict) or not data:
        raise place.error("a condition is a mapping such as {samples: {above: 1}} or {finish: vote}.")
    tests: list[Test] = []
    for name, wanted in data.items():
        here = place.at(name)
        if not isinstance(wanted, dict):
            among = wanted if isinstance(wanted, list) else [wanted]
            tests.append(Test(parameter=str(name), operator="in", operand=tuple(_value(one, here) for one in among)))
            continue
        for operator, number in wanted.items():
            if operator not in _OPERATORS:
                raise here.unknown("comparison", operator, _OPERATORS)
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise here.at(operator).error(f"this is a number, not {number!r}.")
            tests.append(Test(parameter=str(name), operator=str(operator), operand=float(number)))
    return Condition(tuple(tests))


def _of_role(source: str, models: tuple[str, ...], data: Mapping[str, object], place: Place) -> list[Value]:
    if source == "one_of":
        return list(models)
    key, least = ("sizes", 1) if source == "subset" else ("counts", 0)
    counts = data.get(key, list(range(1, len(models) + 1)))
    if not isinstance(counts, list) or not counts or not all(isinstance(c, int) and c >= least for c in counts):
        raise place.at(key).error(f"this is a list of whole numbers from {least} up, not {counts!r}.")
    if max(counts) > len(models):
        raise place.at(key).error(f"{max(counts)} models are wanted, but the role has {len(models)}.")
    if source == "best":
        return [models[:count] for count in counts]
    if sum(math.comb(len(models), size) for size in counts) > _MOST_CHOICES:
        raise place.error(f"these are more than {_MOST_CHOICES:,} subsets; allow fewer sizes or models.")
    return [subset for size in counts for subset in combinations(models, size)]


def _plain(source: str, data: Mapping[str, object], place: Place) -> list[Value]:
    written = data[source]
    if not isinstance(written, list) or not written:
        raise place.at(source).error("this is a list with one entry at least.")
    if source == "choices":
        values = [_value(one, place.at(source)) for one in written]
        if len({(type(value), value) for value in values}) < len(values):
            raise place.at(source).error("one of the choices stands there twice.")
        return values
    return _stepped(written, data.get("step", 1), place.at(source))


def _stepped(ends: Sequence[object], step: object, place: Place) -> list[Value]:
    numbers = [one for one in (*ends, step) if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(ends) != 2 or len(numbers) != 3 or numbers[2] <= 0 or numbers[0] > numbers[1]:
        raise place.error("a range is [from, to] with a step above 0, such as {range: [0.2, 1.0], step: 0.2}.")
    low, high, width = numbers
    count = math.floor((high - low) / width + 1e-9) + 1
    if count > _MOST_CHOICES:
        raise place.error(f"that are more than {_MOST_CHOICES:,} values; take a larger step.")
    whole = all(isinstance(number, int) for number in numbers)
    # Rounded, since 0.2 + 0.4 is no 0.6 and would be another architecture.
    return [low + i * width if whole else round(low + i * width, 10) for i in range(count)]


def _value(data: object, place: Place) -> Value:
    if isinstance(data, list) and all(isinstance(one, str) for one in data):
        return tuple(data)
    if data is None or isinstance(data, bool | int | float | str):
        return data
    raise place.error(f"a value is a number, a text, true, false, null or a list of texts, not {data!r}.")


def _label(value: Value, source: str) -> str:
    if isinstance(value, tuple):
        return str(len(value)) if source == "best" else "+".join(value)
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
