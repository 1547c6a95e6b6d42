"""Architectures that ship, written in YAML with parameters such as the model and the number of samples."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from architectures.parse import Source, parse
from architectures.places import Place
from architectures.spec import MAX_ROUNDS, ArchitectureSpec
from architectures.yamltext import read_text, read_yaml
from db.errors import SpecError, did_you_mean

__all__ = ["Parameter", "Preset", "preset", "preset_data", "preset_info", "preset_names"]

_FOLDER = Path(__file__).parent / "presets"
_REPEAT = frozenset({"repeat", "layers"})


class Parameter(NamedTuple):
    """What may be chosen when a preset is used."""

    default: object
    help: str


class Preset(NamedTuple):
    """An architecture with parameters: a text `$name` in it stands for the value of that parameter.

    Among its layers `{repeat: $name, layers: [...]}` stands for these layers, as often as the parameter says.
    """

    name: str
    description: str
    group: str
    """One of `nodes.catalog.GROUPS`."""
    when: str
    """When to use it."""
    paper: str
    parameters: Mapping[str, Parameter]
    architecture: Mapping[str, object]


def preset(name: str, **parameters: object) -> ArchitectureSpec:
    """Return a preset as an architecture, such as `preset("self-consistency", model="embedded/mini", samples=8)`.

    Raises `SpecError` for an unknown preset, parameter or value.
    """
    return parse(preset_data(name, parameters), source=Source(), place=Place(f"preset:{name}"))


def preset_names() -> tuple[str, ...]:
    """Name the presets in alphabetical order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


@cache
def preset_info(name: str) -> Preset:
    """Return a preset as it is written; raises `SpecError` for an unknown one."""
    if name not in preset_names():
        raise SpecError(f"There is no preset {name!r}.{did_you_mean(name, preset_names())}")
    data = read_yaml(read_text(_FOLDER / f"{name}.yaml"), Place(f"preset:{name}"))
    if not isinstance(data, dict):
        raise SpecError(f"preset:{name}: the file is no mapping; reinstall colonnade.")
    parameters = {key: Parameter(value["default"], value["help"]) for key, value in data["parameters"].items()}
    return Preset(
        name=name,
        description=data["description"],
        group=data["group"],
        when=data["when"],
        paper=data["paper"],
        parameters=parameters,
        architecture=data["architecture"],
    )


def preset_data(name: str, parameters: Mapping[str, object]) -> dict[str, object]:
    """Return a preset with its parameters filled in, as the plain data of an architecture."""
    found = preset_info(name)
    for key in parameters:
        if key not in found.parameters:
            raise SpecError(f"The preset {name!r} has no parameter {key!r}.{did_you_mean(key, found.parameters)}")
    values = {key: parameters.get(key, known.default) for key, known in found.parameters.items()}
    filled = {key: _filled(item, values) for key, item in found.architecture.items()}
    return {"name": name, "description": found.description, **filled}


def _filled(item: object, values: Mapping[str, object]) -> object:
    if isinstance(item, str) and item.startswith("$"):
        return _plain(values[item[1:]])
    if isinstance(item, list):
        return [_filled(one, values) for written in item for one in _repeated(written, values)]
    if isinstance(item, dict):
        return {key: _filled(one, values) for key, one in item.items()}
    return item


def _repeated(item: object, values: Mapping[str, object]) -> list[object]:
    """Return the layers that an entry of a list stands for: itself, mostly."""
    if not isinstance(item, dict) or item.keys() != _REPEAT:
        return [item]
    times = _filled(item["repeat"], values)
    if isinstance(times, bool) or not isinstance(times, int) or not 0 <= times <= MAX_ROUNDS:
        name = str(item["repeat"]).removeprefix("$")
        raise SpecError(f"The parameter {name!r} is a number of layers from 0 to {MAX_ROUNDS}, not {times!r}.")
    return list(item["layers"]) * times


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
