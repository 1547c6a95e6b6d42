"""Import of Archon's JSON configurations, with everything said by name that could not be carried over.

Facts about the format and about what Archon's released code does with it (github.com/ScalingIntelligence/Archon at
07114d77) decide what a note says; the techniques and prompts are Colonnade's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from architectures.archon_rules import bent_rules
from architectures.archon_terms import COMPONENTS, PAIRRM, PROVIDERS, Component, translate
from architectures.parse import parse
from architectures.places import Place
from architectures.spec import ArchitectureSpec
from architectures.yamltext import read_text

__all__ = ["Imported", "is_archon", "load_archon", "parse_archon"]


class Imported(NamedTuple):
    """One of Archon's configurations as an architecture, and what is different in it."""

    spec: ArchitectureSpec
    notes: tuple[str, ...]


def load_archon(source: str | Path) -> Imported:
    """Import a configuration from its JSON text or from a file.

    Raises `SpecError` for text that is no JSON, a layer of the wrong shape, an unknown component.
    """
    text = str(source)
    place = Place()
    if isinstance(source, Path) or not text.lstrip().startswith(("{", "[")):
        place = Place(text)
        text = read_text(Path(text))
    return parse_archon(read_json(text, place), place)


def read_json(text: str, place: Place) -> object:
    """Parse JSON; raises `SpecError` with the line and column of what is wrong."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        at = place.at(f"line {error.lineno}, column {error.colno}")
        raise at.error(f"this is no JSON: {error.msg[:1].lower()}{error.msg[1:]}.") from error


def is_archon(data: object) -> bool:
    """Tell whether data is in Archon's form: its layers hold components with a `type`."""
    layers = data.get("layers") if isinstance(data, Mapping) else None
    if not isinstance(layers, list):
        return False
    return any(_has_type(layer) or (isinstance(layer, Mapping) and "models" in layer) for layer in layers)


def _has_type(layer: object) -> bool:
    if isinstance(layer, list):
        return any(_has_type(item) for item in layer)
    return isinstance(layer, Mapping) and isinstance(layer.get("type"), str)


def parse_archon(data: object, place: Place | None = None) -> Imported:
    """Import a configuration from plain data; raises `SpecError`."""
    place = place or Place()
    if not isinstance(data, Mapping):
        raise place.error("a configuration of Archon is a mapping with 'layers'.")
    layers = data.get("layers")
    if not isinstance(layers, list) or not layers:
        raise place.at("layers").error("this is a list of at least one layer.")
    notes: dict[str, None] = {}
    places = [place.at(f"layer {number}") for number in range(1, len(layers) + 1)]
    read = [_layer(layer, here, notes) for layer, here in zip(layers, places, strict=True)]
    for key in data:
        if key not in ("name", "layers", "custom"):
            notes[f"the key {key!r} of the configuration is unknown and left out"] = None
    judge = next((c.model for layer in read for c in layer if c.kind == "generator"), None)
    first_tests = next((n for n, layer in enumerate(read) if _writes_tests(layer)), len(read))
    written = [
        _written(layer, here, judge, number > first_tests, notes)
        for number, (layer, here) in enumerate(zip(read, places, strict=True))
    ]
    notes.update(dict.fromkeys(bent_rules(read)))
    name = data.get("name")
    top = {"name": name if isinstance(name, str) else "", "layers": written}
    return Imported(parse(top, place=place), tuple(str(place.error(f"{note}.")) for note in notes))


def _writes_tests(layer: Sequence[Component]) -> bool:
    return any(component.kind == "unit_test_generator" for component in layer)


def _layer(layer: object, place: Place, notes: dict[str, None]) -> list[Component]:
    if isinstance(layer, Mapping) and isinstance(layer.get("models"), list):
        for key, value in layer.items():
            if key == "branches" and value != 1:
                notes[
                    f"{place.path[-1]}: 'branches: {value}' is left out, as Archon's released code leaves it; "
                    "'samples' says how many candidates each component makes"
                ] = None
            elif key not in ("branches", "models"):
                notes[f"{place.path[-1]}: the key {key!r} is unknown and left out"] = None
        layer = layer["models"]
    if not isinstance(layer, list):
        raise place.error("a layer is a list of components, or a mapping with 'models'.")
    if not layer:
        raise place.error("the layer is empty.")
    return [_component(item, place.at(f"component {number}")) for number, item in enumerate(layer, 1)]


def _component(item: object, place: Place) -> Component:
    if not isinstance(item, Mapping):
        raise place.error("a component is a mapping with 'type' and 'model'.")
    kind, model = item.get("type"), item.get("model")
    if not isinstance(kind, str):
        raise place.error("the component lacks its 'type'.")
    if kind not in COMPONENTS:
        raise place.unknown("component type", kind, COMPONENTS)
    if not isinstance(model, str) or not model:
        raise place.error(f"the {kind} lacks its 'model'.")
    provider = str(item.get("model_type") or "")
    name = PROVIDERS.get(provider, "") + model
    rest = {str(key): value for key, value in item.items() if key not in ("type", "model", "model_type")}
    return Component(kind=kind, model=name, provider=provider, settings=rest, pairwise=model == PAIRRM)


def _written(
    layer: Sequence[Component], place: Place, judge: str | None, has_tests: bool, notes: dict[str, None]
) -> list[dict[str, dict[str, object]]]:
    """Write a layer as nodes; components that differ in their model alone, one after the other, become one node."""
    nodes: list[dict[str, dict[str, object]]] = []
    for component in layer:
        if component.provider not in PROVIDERS:
            notes[
                f"model_type {component.provider!r} is no known provider; {component.model!r} is taken for an alias, "
                "to be defined in models.yaml"
            ] = None
        stand_in = _stand_in(component, place, judge, notes) if component.pairwise else component
        use, settings, found = translate(stand_in, has_tests=has_tests)
        notes.update(dict.fromkeys(f"{place.path[-1]}: {note}" for note in found))
        last = nodes[-1].get(use) if nodes else None
        if last is not None and use in ("generate", "fuse") and _but_model(last) == _but_model(settings):
            known = last["model"]
            last["model"] = [*(known if isinstance(known, list) else [known]), settings["model"]]
        else:
            nodes.append({use: settings})
    return nodes


def _stand_in(component: Component, place: Place, judge: str | None, notes: dict[str, None]) -> Component:
    """Let a chat model do PairRM's work, and say so."""
    if judge is None:
        raise place.error("PairRM is no chat model, and there is no generator whose model could stand in for it.")
    notes[
        f"{place.path[-1]}: PairRM is a trained ranker and no chat model; pairwise ranking by calls to {judge!r}, the "
        "first generator's model, stands in"
    ] = None
    return component._replace(model=judge)


def _but_model(settings: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in settings.items() if key != "model"}
