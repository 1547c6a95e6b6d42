"""From written data, in either form, to the architecture: every key known, every error with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from pydantic import ValidationError

from architectures.places import Place
from architectures.settings import make_settings
from architectures.spec import (
    MAX_ROUNDS,
    AnyNode,
    ArchitectureSpec,
    Condition,
    LoopNode,
    NestedNode,
    Operator,
    TechniqueNode,
)
from architectures.structure import check_graph, check_names
from architectures.yamltext import read_text, read_yaml
from db.errors import SpecError

__all__ = ["Source", "parse", "parse_text"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_TOP = ("description", "layers", "name", "nodes", "output")
_COMMON = ("after", "use", "when")
_DEEPEST = 8


class Source(NamedTuple):
    """Where data came from: what relative paths start at, and the files that are being read, outermost first."""

    directory: Path = Path()
    files: tuple[Path, ...] = ()
    depth: int = 0
    """How many architectures are around this one."""

    @classmethod
    def of(cls, path: Path) -> Source:
        """Return the source that is this file."""
        return cls(path.resolve().parent, (path.resolve(),))

    def deeper(self, place: Place) -> Source:
        """Return the source of an architecture inside; raises `SpecError` where that goes too deep."""
        if self.depth >= _DEEPEST:
            raise place.error(f"architectures are nested more than {_DEEPEST} deep.")
        return self._replace(depth=self.depth + 1)


class _Written(NamedTuple):
    """A node as it stands in the file."""

    id: str
    use: str
    after: tuple[str, ...]
    settings: Mapping[str, object]
    place: Place


def parse_text(text: str, *, source: Source | None = None, name: str = "") -> ArchitectureSpec:
    """Parse the YAML or JSON text of an architecture; raises `SpecError`."""
    place = Place(name)
    return parse(read_yaml(text, place), source=source, place=place)


def parse(data: object, *, source: Source | None = None, place: Place | None = None) -> ArchitectureSpec:
    """Parse an architecture from plain data: a mapping with `layers` or `nodes`, or a bare list of layers.

    Raises `SpecError` for an unknown key or name, a value of the wrong kind, and everything that is no graph.
    """
    place = place or Place()
    source = source or Source()
    if isinstance(data, list):
        data = {"layers": data}
    top = _mapping(data, place, "an architecture is a mapping with 'layers' or 'nodes'")
    for key in top:
        if key not in _TOP:
            raise place.unknown("key", key, _TOP)
    if ("layers" in top) == ("nodes" in top):
        found = "both" if "layers" in top else "neither"
        raise place.error(f"an architecture has either 'layers' or 'nodes'; here are {found}.")
    if "layers" in top:
        if "output" in top:
            raise place.at("output").error("with 'layers' the last layer is the output; remove this key.")
        written, output = _layers(top["layers"], place)
    else:
        written = _nodes(top["nodes"], place)
        output = _names(top["output"], place.at("output")) if "output" in top else _end(written, place)
    nodes = tuple(_node(node, source) for node in written)
    name = _text(top, "name", place) or (Path(place.source).stem if place.source else "") or "architecture"
    draft = ArchitectureSpec.model_construct(
        name=name, description=_text(top, "description", place), nodes=nodes, output=output
    )
    check_graph(draft, place)
    return ArchitectureSpec(name=draft.name, description=draft.description, nodes=nodes, output=output)


def _text(top: Mapping[str, object], key: str, place: Place) -> str:
    value = top.get(key)
    if value is not None and not isinstance(value, str):
        raise place.at(key).error(f"this is a text, not {value!r}; put it in quotes.")
    return value or ""


def _mapping(data: object, place: Place, otherwise: str) -> Mapping[str, object]:
    if not isinstance(data, Mapping):
        raise place.error(f"{otherwise}, not {_kind(data)}.")
    for key in data:
        if not isinstance(key, str):
            raise place.error(f"the key {key!r} is no text; put it in quotes.")
    return data


def _kind(data: object) -> str:
    if data is None:
        return "nothing"
    return f"a {'list' if isinstance(data, list) else 'mapping' if isinstance(data, Mapping) else type(data).__name__}"


def _nodes(data: object, place: Place) -> list[_Written]:
    place = place.at("nodes")
    nodes = _mapping(data, place, "'nodes' is a mapping from a name to a node")
    if not nodes:
        raise place.error("there is no node in it.")
    written = []
    for name, value in nodes.items():
        here = place.at(name)
        if not _NAME.fullmatch(name):
            raise here.error(f"{name!r} is no name for a node; use letters, digits, '_' and '-'.")
        settings = _mapping(value, here, "a node is a mapping such as {use: generate, model: fast}")
        use = settings.get("use")
        if not isinstance(use, str):
            raise here.error("it lacks 'use', the name of its technique.")
        after = _names(settings["after"], here.at("after")) if settings.get("after") is not None else ()
        rest = {key: item for key, item in settings.items() if key not in ("use", "after")}
        written.append(_Written(name, use, after, rest, here))
    for node in written:
        check_names(node.place.at("after"), node.after, list(nodes))
    return written


def _names(value: object, place: Place) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise place.error(f"this is the name of a node or a list of names, not {value!r}.")
    return tuple(names)


def _end(written: Sequence[_Written], place: Place) -> tuple[str, ...]:
    """Find the one node that nothing follows."""
    followed = {name for node in written for name in node.after}
    ends = tuple(node.id for node in written if node.id not in followed)
    if len(ends) > 1:
        raise place.error(f"several nodes end the graph ({', '.join(ends)}); name the result with 'output'.")
    # Where every node is followed there is a cycle, which is found from any node.
    return ends or (written[-1].id,)


def _layers(data: object, place: Place) -> tuple[list[_Written], tuple[str, ...]]:
    """Read the layers as nodes, each after all nodes of the layer before; the last layer is the output."""
    if not isinstance(data, list) or not data:
        raise place.at("layers").error("this is a list of at least one layer.")
    taken: dict[str, int] = {}
    before: tuple[str, ...] = ()
    written: list[_Written] = []
    for number, layer in enumerate(data, 1):
        here = place.at(f"layer {number}")
        side_by_side = layer if isinstance(layer, list) else [layer]
        if not side_by_side:
            raise here.error("the layer is empty.")
        nodes = [_layer_node(item, here, before, taken) for item in side_by_side]
        before = tuple(node.id for node in nodes)
        written.extend(nodes)
    return written, before


def _layer_node(item: object, place: Place, after: tuple[str, ...], taken: dict[str, int]) -> _Written:
    if isinstance(item, str):
        item = {item: None}
    one = _mapping(item, place, "a layer is {technique: {settings}}, a technique's name, or a list of these")
    if len(one) != 1:
        raise place.error(
            f"it names {len(one)} techniques ({', '.join(one)}); write a list for several side by side, "
            "and indent the settings of one."
        )
    ((use, value),) = one.items()
    here = place.at(use)
    settings = {} if value is None else _mapping(value, here, "settings are a mapping")
    for key in ("use", "after"):
        if key in settings:
            raise here.at(key).error(f"a layer needs no {key!r}; write 'nodes' for a graph.")
    taken[use] = taken.get(use, 0) + 1
    node_id = use if taken[use] == 1 else f"{use}-{taken[use]}"
    return _Written(node_id, use, after, settings, here)


def _node(written: _Written, source: Source) -> AnyNode:
    place = written.place
    settings = dict(written.settings)
    condition = settings.pop("when", None)
    when = _condition(condition, place.at("when")) if condition is not None else None
    if written.use == "loop":
        return _loop(written, settings, when, source)
    if written.use == "architecture":
        spec = _nested(settings, place, source)
        return NestedNode(id=written.id, after=written.after, when=when, spec=spec)
    made = make_settings(written.use, settings, place)
    return TechniqueNode(id=written.id, after=written.after, when=when, use=written.use, settings=made)


def _loop(written: _Written, settings: dict[str, object], when: Condition | None, source: Source) -> LoopNode:
    place = written.place
    for key in settings:
        if key not in ("body", "max", "until"):
            raise place.unknown("key", key, ("body", "max", "until", *_COMMON))
    rounds = settings.get("max")
    if isinstance(rounds, bool) or not isinstance(rounds, int) or not 1 <= rounds <= MAX_ROUNDS:
        raise place.at("max").error(f"a loop needs a greatest number of rounds from 1 to {MAX_ROUNDS}, not {rounds!r}.")
    if settings.get("body") is None:
        raise place.error("a loop needs a 'body': a list of layers, or a mapping with 'layers' or 'nodes'.")
    until = _condition(settings["until"], place.at("until")) if settings.get("until") is not None else None
    body = parse(settings["body"], source=source.deeper(place), place=place.at("body"))
    return LoopNode(id=written.id, after=written.after, when=when, body=body, until=until, max=rounds)


def _nested(settings: Mapping[str, object], place: Place, source: Source) -> ArchitectureSpec:
    ways = ("path", "preset", "spec")
    for key in settings:
        if key not in (*ways, "with"):
            raise place.unknown("key", key, (*ways, "with", *_COMMON))
    given = [key for key in ways if settings.get(key) is not None]
    if len(given) != 1:
        raise place.error("a nested architecture needs one of 'spec' (inline), 'path' (a file) or 'preset' (a name).")
    if "with" in settings and given != ["preset"]:
        raise place.at("with").error("only a preset takes parameters.")
    here = place.at(given[0])
    value = settings[given[0]]
    source = source.deeper(place)
    if given == ["spec"]:
        return parse(value, source=source, place=here)
    if not isinstance(value, str):
        raise here.error(f"this is a name, not {_kind(value)}.")
    if given == ["path"]:
        return _from_file(value, here, source)
    return _from_preset(value, settings.get("with"), here, source)


def _from_file(value: str, place: Place, source: Source) -> ArchitectureSpec:
    path = (source.directory / value).resolve()
    if path in source.files:
        raise place.error(f"{value} would contain itself.")
    try:
        text = read_text(path)
    except SpecError as error:
        raise place.error(str(error)) from error
    inner = source._replace(directory=path.parent, files=(*source.files, path))
    return parse(read_yaml(text, Place(str(path))), source=inner, place=Place(str(path)))


def _from_preset(name: str, parameters: object, place: Place, source: Source) -> ArchitectureSpec:
    # Here, since presets are parsed by this module.
    from architectures.preset import preset_data

    values = _mapping(parameters, place.at("with"), "parameters are a mapping") if parameters is not None else {}
    try:
        data = preset_data(name, values)
    except SpecError as error:
        raise place.error(str(error)) from error
    return parse(data, source=source, place=Place(f"preset:{name}"))


def _condition(data: object, place: Place) -> Condition:
    measures = _mapping(data, place, "a condition is a mapping such as {agreement: {below: 0.67}}")
    comparisons: list[dict[str, object]] = []
    for measure, bounds in measures.items():
        here = place.at(measure)
        operators = _mapping(bounds, here, "this is a mapping such as {below: 0.67}")
        for operator, value in operators.items():
            if operator not in get_args(Operator):
                raise here.unknown("comparison", operator, get_args(Operator))
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise here.at(operator).error(f"this is a number, not {value!r}.")
            comparisons.append({"measure": measure, "operator": operator, "value": value})
    if not comparisons:
        raise place.error("the condition is empty.")
    try:
        return Condition.model_validate({"comparisons": comparisons})
    except ValidationError as error:
        raise place.error("a condition compares with finite numbers.") from error
