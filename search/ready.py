"""Spaces from where they are: the ready ones by name, a user's own by its file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from architectures.places import Place
from architectures.yamltext import read_text, read_yaml
from db.errors import SpecError, did_you_mean
from search.caps import read_caps
from search.grammar import structural
from search.parameters import Condition, Parameter, number_of, read_condition, read_parameter
from search.space import Rule, Space

__all__ = ["load_space", "read_space", "space_data", "space_names"]

_FOLDER = Path(__file__).parent / "spaces"
_TOP = ("caps", "description", "layers", "models", "name", "nodes", "output", "parameters", "rules", "singles")
_NO_MAPPING = "a space is a mapping with 'layers' or 'nodes'."
_RULE = ("at_least", "at_most", "forbid", "product", "sum")


def space_names() -> tuple[str, ...]:
    """Name the ready spaces in alphabetical order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_space(source: str | Path, *, models: Mapping[str, Sequence[str]] | None = None) -> Space:
    """Load a ready space by its name, or a user's by the path of its file; `models` replaces those of its roles.

    Raises `SpecError` for what is no space.
    """
    return read_space(space_data(source), Place(str(source)), models=models)


def space_data(source: str | Path) -> dict[str, object]:
    """Return what a ready space or a user's file says, name included, as plain data that a job can carry as JSON.

    `read_space` makes the space of it, and finds what is wrong inside. Raises `SpecError` for an unknown name, for a
    file that cannot be read, and for what is no mapping of plain values.
    """
    name = str(source)
    path = _FOLDER / f"{name}.yaml" if name in space_names() else Path(source)
    if path.suffix not in (".yaml", ".yml", ".json"):
        raise SpecError(f"There is no space {name!r}; name a file, or a ready one.{did_you_mean(name, space_names())}")
    place = Place(name)
    data = _plain(read_yaml(read_text(path), place), place)
    if not isinstance(data, dict):
        raise place.error(_NO_MAPPING)
    return {"name": path.stem, **data}


def read_space(data: object, place: Place | None = None, *, models: Mapping[str, Sequence[str]] | None = None) -> Space:
    """Read a space from plain data; raises `SpecError` with the place of what is wrong."""
    if not isinstance(data, dict):
        raise (place or Place("space")).error(_NO_MAPPING)
    place = place or Place(f"space {data['name']}" if data.get("name") else "space")
    for key in data:
        if key not in _TOP:
            raise place.unknown("key", key, _TOP)
    if ("layers" in data) == ("nodes" in data):
        raise place.error("a space has either 'layers' or 'nodes'.")
    roles = _models(data.get("models", {}), models or {}, place.at("models"))
    written = _mapping(data.get("parameters", {}), place.at("parameters"))
    here = place.at("parameters")
    found = [read_parameter(name, one, roles, here.at(name)) for name, one in written.items()]
    if "layers" in data:
        found += structural(data["layers"], roles, place.at("layers"))
    parameters = _ordered(_unique(found, place), place)
    for parameter in parameters:
        _check_values(parameter.when, parameters, place.at(parameter.name, "when"))
    return Space(
        name=str(data.get("name") or Path(place.source).stem),
        description=str(data.get("description", "")),
        models=roles,
        parameters=parameters,
        template={key: data[key] for key in ("layers", "nodes", "output") if key in data},
        rules=_rules(data.get("rules", []), parameters, place.at("rules")),
        caps=read_caps(data.get("caps", {}), place.at("caps")),
        singles=_singles(data.get("singles", {}), roles, place.at("singles")),
    )


def _plain(data: object, place: Place) -> object:
    """Return data as JSON would give it back: every key is a text, and there are no dates."""
    if isinstance(data, dict):
        return {str(key): _plain(one, place.at(key)) for key, one in data.items()}
    if isinstance(data, list):
        return [_plain(one, place.at(number)) for number, one in enumerate(data, 1)]
    if data is None or isinstance(data, bool | int | float | str):
        return data
    raise place.error(f"{data} is no plain value; if it is a text, put it in quotes.")


def _models(written: object, given: Mapping[str, Sequence[str]], place: Place) -> dict[str, tuple[str, ...]]:
    roles: dict[str, object] = _mapping(written, place)
    for role, replacement in given.items():
        if role not in roles:
            raise place.unknown("role", role, roles)
        roles[role] = list(replacement)
    found: dict[str, tuple[str, ...]] = {}
    for role, names in roles.items():
        if not isinstance(names, list) or not names or not all(isinstance(one, str) and one for one in names):
            raise place.at(role).error("this is a list of models, with one at least, each with a name.")
        if len(set(names)) < len(names):
            raise place.at(role).error("one of the models stands there twice.")
        found[role] = tuple(names)
    return found


def _singles(written: object, roles: Mapping[str, object], place: Place) -> dict[str, object]:
    found = _mapping(written, place)
    for role in found:
        if role not in roles:
            raise place.unknown("role", role, roles)
    return found


def _unique(found: Sequence[Parameter], place: Place) -> list[Parameter]:
    """Let one choice stand in several places of the layers, but mean one thing."""
    by_name: dict[str, Parameter] = {}
    for parameter in found:
        known = by_name.setdefault(parameter.name, parameter)
        if known != parameter:
            raise place.error(f"the name {parameter.name!r} stands for two different choices; rename one.")
    return list(by_name.values())


def _ordered(found: Sequence[Parameter], place: Place) -> tuple[Parameter, ...]:
    names = [parameter.name for parameter in found]
    for parameter in found:
        for test in parameter.when.tests:
            if test.parameter not in names:
                raise place.at(parameter.name, "when").unknown("parameter", test.parameter, names)
    ordered: list[Parameter] = []
    left = list(found)
    while left:
        done = {parameter.name for parameter in ordered}
        ready = [p for p in left if all(test.parameter in done for test in p.when.tests)]
        if not ready:
            raise place.error(f"the conditions of {', '.join(p.name for p in left)} go in a circle.")
        ordered.append(ready[0])
        left.remove(ready[0])
    return tuple(ordered)


def _check_values(condition: Condition, parameters: Sequence[Parameter], place: Place) -> None:
    """Raise `SpecError` where a parameter is compared with what it never is; models are left out, as roles change."""
    by_name = {parameter.name: parameter for parameter in parameters if parameter.role is None}
    for test in condition.tests:
        if test.parameter not in by_name:
            continue
        here, values = place.at(test.parameter), [choice.value for choice in by_name[test.parameter].choices]
        if not isinstance(test.operand, tuple):
            if all(number_of(value) is None for value in values):
                raise here.error("a comparison needs numbers, and this parameter has none.")
            continue
        for one in test.operand:
            if not any(replace(test, operand=(one,)).holds(value) for value in values):
                raise here.unknown("value", one, map(str, values))


def _rules(written: object, parameters: Sequence[Parameter], place: Place) -> tuple[Rule, ...]:
    if not isinstance(written, list):
        raise place.error("rules are a list.")
    return tuple(_rule(one, parameters, place.at(number)) for number, one in enumerate(written, 1))


def _rule(written: object, parameters: Sequence[Parameter], place: Place) -> Rule:
    data = _mapping(written, place)
    for key in data:
        if key not in _RULE:
            raise place.unknown("key", key, _RULE)
    if len([key for key in ("forbid", "product", "sum") if key in data]) != 1:
        raise place.error("a rule has one of 'product' and 'sum' with a bound, or 'forbid'.")
    if "forbid" in data and len(data) > 1:
        raise place.error("a rule that forbids has no bound; write the bound as a rule of its own.")
    if "forbid" in data:
        rule = Rule(forbid=read_condition(data["forbid"], place.at("forbid")))
    else:
        rule = _bound(data, place)
    names = [parameter.name for parameter in parameters]
    for name in rule.names():
        if name not in names:
            raise place.unknown("parameter", name, names)
    if rule.forbid is not None:
        _check_values(rule.forbid, parameters, place.at("forbid"))
    return rule


def _bound(data: dict[str, object], place: Place) -> Rule:
    low, high = data.get("at_least", -math.inf), data.get("at_most", math.inf)
    listed = data.get("product", data.get("sum"))
    numbers = isinstance(low, int | float) and isinstance(high, int | float)
    if not numbers or not {"at_least", "at_most"} & {*data} or not isinstance(listed, list):
        raise place.error("a bound is written {product: [a, b], at_most: 24}.")
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    names = tuple(map(str, listed))
    if "product" in data:
        return Rule(product=names, at_least=low, at_most=high)
    return Rule(total=names, at_least=low, at_most=high)


def _mapping(data: object, place: Place) -> dict[str, object]:
    if not isinstance(data, dict):
        raise place.error("this is a mapping.")
    return {str(key): value for key, value in data.items()}
