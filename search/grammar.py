"""The grammar of a space: layers with positions that are open, read from YAML and filled in for a point.

Beside the layers of an architecture, in which a text `$name` stands for a parameter, a list of layers may hold

    - choose: finish                 one of several techniques, or layers, or nothing (null)
      from: {vote: [vote], best: [judge: {model: $judge, keep: 1}], none: null}
    - optional: critic               layers that are there or not
      layers: [critique: {model: $judge}]
    - repeat: rounds                 layers that stand there several times, with parameters of each time (`width.1`)
      times: [0, 1, 2]
      each: {width: {best: fusers, counts: [2, 4]}}
      layers: [fuse: {model: $width}]
    - when: {width: {above: 1}}      layers that follow from other parameters
      layers: [...]

A layer that is a list holds nodes side by side, and any of these may stand in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from architectures.places import Place
from search.parameters import Choice, Condition, Parameter, Value, read_condition, read_parameter

__all__ = ["Models", "expand", "fill", "structural"]

Models: TypeAlias = Mapping[str, tuple[str, ...]]

_KEYS = {
    "choose": {"choose", "from", "when"},
    "optional": {"optional", "layers", "when"},
    "repeat": {"repeat", "times", "each", "layers", "when"},
    "when": {"when", "layers"},
}


def structural(items: object, models: Models, place: Place, scope: Condition = Condition()) -> list[Parameter]:  # noqa: B008  # frozen
    """Find the parameters that stand in the layers, each under the conditions around it; raises `SpecError`."""
    found: list[Parameter] = []
    for number, item in enumerate(_list(items, place), 1):
        here = place.at(number)
        if isinstance(item, list):
            found += structural(item, models, here, scope)
        elif isinstance(item, dict) and (word := _word(item, here)):
            when = scope.both(read_condition(item["when"], here.at("when"))) if "when" in item else scope
            found += _of_item(word, item, models, here, when)
    return found


def expand(items: object, values: Mapping[str, Value], place: Place) -> list[object]:
    """Return the layers of a point; what its values leave out is not there."""
    layers: list[object] = []
    for number, item in enumerate(_list(items, place), 1):
        here = place.at(number)
        if isinstance(item, list):
            beside = expand(item, values, here)
            if beside:
                layers.append([one for part in beside for one in (part if isinstance(part, list) else [part])])
        elif isinstance(item, dict) and (word := _word(item, here)):
            layers += _expanded(word, item, values, here)
        else:
            layers.append(fill(item, values, here))
    return layers


def fill(item: object, values: Mapping[str, Value], place: Place) -> object:
    """Put values in the place of the texts `$name`; raises `SpecError` for an unknown name."""
    if isinstance(item, str) and item.startswith("$"):
        if item[1:] not in values:
            raise place.unknown("parameter", item[1:], values)
        value = values[item[1:]]
        return list(value) if isinstance(value, tuple) else value
    if isinstance(item, dict):
        return {key: fill(one, values, place.at(key)) if _open(one) else one for key, one in item.items()}
    return [fill(one, values, place) for one in item] if isinstance(item, list) else item


def _open(item: object) -> bool:
    return isinstance(item, dict | list) or (isinstance(item, str) and item.startswith("$"))


def _of_item(word: str, item: Mapping[str, object], models: Models, place: Place, when: Condition) -> list[Parameter]:
    if word == "when":
        return structural(item.get("layers"), models, place.at("layers"), when)
    name = item[word]
    if not isinstance(name, str) or not name:
        raise place.at(word).error("this is the name of the choice.")
    if word == "choose":
        options = item.get("from")
        if not isinstance(options, dict) or not options:
            raise place.error("'choose' needs 'from': a mapping of names to layers, or to null for nothing.")
        found = [_category(name, [str(label) for label in options], when)]
        for label, layers in options.items():
            inner = when.both(read_condition({name: str(label)}, place))
            found += structural(_layers(layers), models, place.at("from", label), inner)
        return found
    if word == "optional":
        inner = when.both(read_condition({name: True}, place))
        switch = Parameter(name=name, kind="category", choices=_SWITCH, when=when)
        return [switch, *structural(item.get("layers"), models, place.at("layers"), inner)]
    return _repeated(name, item, models, place, when)


_SWITCH = (Choice(value=False, label="off"), Choice(value=True, label="on"))


def _category(name: str, labels: Sequence[str], when: Condition) -> Parameter:
    choices = tuple(Choice(value=label, label=label) for label in labels)
    return Parameter(name=name, kind="category", choices=choices, when=when)


def _repeated(name: str, item: Mapping[str, object], models: Models, place: Place, when: Condition) -> list[Parameter]:
    times = item.get("times")
    if not isinstance(times, list) or not times or not all(isinstance(t, int) and 0 <= t <= 32 for t in times):
        raise place.error("'repeat' needs 'times': a list of whole numbers from 0 to 32.")
    each = item.get("each", {})
    if not isinstance(each, dict):
        raise place.at("each").error("this is a mapping of parameters.")
    if structural(item.get("layers"), models, place.at("layers")):
        raise place.at("layers").error("inside 'repeat' put what varies under 'each'.")
    found = [read_parameter(name, {"choices": times}, models, place.at("times"))]
    found = [Parameter(name=name, kind="number", choices=found[0].choices, when=when)]
    for round_ in range(1, max(times) + 1):
        inner = when.both(read_condition({name: {"at_least": round_}}, place))
        for key, data in each.items():
            one = read_parameter(f"{key}.{round_}", data, models, place.at("each", key))
            found.append(replace(one, when=inner.both(one.when)))
    return found


def _expanded(word: str, item: Mapping[str, object], values: Mapping[str, Value], place: Place) -> list[object]:
    if "when" in item and not _condition(item["when"], values, place.at("when")).holds(values):
        return []
    if word == "when":
        return expand(item.get("layers"), values, place.at("layers"))
    chosen = values.get(str(item[word]))
    if word == "choose":
        options = item["from"]
        assert isinstance(options, dict)
        # By text, since YAML reads 1 or yes as what it is, and the parameter has the label.
        layers_of = {str(label): layers for label, layers in options.items()}
        return expand(_layers(layers_of.get(str(chosen))), values, place.at("from", chosen))
    if word == "optional":
        return expand(item.get("layers"), values, place.at("layers")) if chosen is True else []
    assert isinstance(chosen, int | None)
    each = item.get("each", {})
    assert isinstance(each, dict)
    layers: list[object] = []
    for round_ in range(1, (chosen or 0) + 1):
        own = {str(key): values.get(f"{key}.{round_}") for key in each}
        layers += expand(item.get("layers"), {**values, **own}, place.at("layers"))
    return layers


def _condition(written: object, values: Mapping[str, Value], place: Place) -> Condition:
    condition = read_condition(written, place)
    for test in condition.tests:
        if test.parameter not in values:
            raise place.unknown("parameter", test.parameter, values)
    return condition


def _word(item: Mapping[str, object], place: Place) -> str | None:
    words = [word for word in ("choose", "optional", "repeat") if word in item] or [w for w in ("when",) if w in item]
    if not words:
        return None
    for key in item:
        if key not in _KEYS[words[0]]:
            raise place.unknown("key", key, _KEYS[words[0]])
    return words[0]


def _layers(data: object) -> object:
    return [] if data is None else data if isinstance(data, list) else [data]


def _list(data: object, place: Place) -> list[object]:
    if not isinstance(data, list):
        raise place.error("this is a list of layers.")
    return data
