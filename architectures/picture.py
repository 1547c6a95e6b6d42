"""What a drawing of an architecture shows, apart from how it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from architectures.spec import AnyNode, ArchitectureSpec, TechniqueNode
    from nodes.base import Technique

__all__ = ["Box", "Family", "Picture", "picture"]

Family = Literal["choose", "examine", "frame", "make", "merge", "other"]
"""What a box does: make candidates, merge them into new ones, examine them, choose among them; a frame holds others."""

_FAMILIES: Final[dict[str, Family]] = {
    "critique": "examine",
    "fuse": "merge",
    "generate": "make",
    "judge": "choose",
    "rank": "choose",
    "refine": "merge",
    "unit_test_evaluate": "choose",
    "unit_test_generate": "examine",
    "verify": "choose",
    "vote": "choose",
}
_LONGEST: Final = 34
_MOST_MODELS: Final = 4


class Box(NamedTuple):
    """A node: its words, and the picture inside it where it is a loop or a nested architecture."""

    id: str
    title: str
    condition: str
    """Under which it runs; empty: always."""
    lines: tuple[str, ...]
    family: Family
    inside: Picture | None = None


class Picture(NamedTuple):
    """Boxes in order of dependence, and arrows between their places in that order."""

    name: str
    boxes: tuple[Box, ...]
    arrows: tuple[tuple[int, int], ...]
    starts: tuple[int, ...]
    """Boxes that receive the question, or what comes into the frame."""
    ends: tuple[int, ...]
    """Boxes that give the answer, or what leaves the frame."""


def picture(spec: ArchitectureSpec) -> Picture:
    """Say what a drawing of an architecture shows."""
    place = {node.id: index for index, node in enumerate(spec.ordered)}
    return Picture(
        name=spec.name,
        boxes=tuple(_box(node) for node in spec.ordered),
        arrows=tuple((place[name], place[node.id]) for node in spec.ordered for name in node.after),
        starts=tuple(place[node.id] for node in spec.ordered if not node.after),
        ends=tuple(place[name] for name in spec.output),
    )


def _box(node: AnyNode) -> Box:
    condition = f"if {node.when}" if node.when else ""
    if node.kind == "technique":
        title = node.use if node.id.split("-")[0] == node.use else f"{node.id}: {node.use}"
        return Box(node.id, title, condition, _lines(node), _FAMILIES.get(node.use, "other"))
    if node.kind == "architecture":
        title = node.id if node.id.split("-")[0] != "architecture" else node.spec.name
        return Box(node.id, title, condition, (), "frame", picture(node.spec))
    until = f", until {node.until}" if node.until else ""
    title = f"{node.id}: {'at most ' if node.until else ''}{node.max} rounds{until}"
    return Box(node.id, title, condition, (), "frame", picture(node.body))


def _lines(node: TechniqueNode) -> tuple[str, ...]:
    models = [_short(model) for model in node.settings.models()]
    if len(models) > _MOST_MODELS:
        rest = len(models) - _MOST_MODELS + 1
        models = [*models[: _MOST_MODELS - 1], f"and {rest} more"]
    settings = " · ".join(_settings(node.settings))
    return (*models, *([settings] if settings else []))


def _settings(technique: Technique) -> Sequence[str]:
    """Pick the settings that shape the graph's width, by the names that techniques share."""
    data = technique.model_dump(mode="json", exclude_defaults=True)
    words = {"samples": "{} samples", "keep": "keep {}", "count": "{} tests", "temperature": "T {}"}
    found = [words[key].format(str(data[key]).replace("_", " ")) for key in words if key in data]
    return [*found, *([str(data["method"])] if "method" in data else [])]


def _short(model: str) -> str:
    if len(model) > _LONGEST and "/" in model:
        model = model.rsplit("/", 1)[1]
    return model if len(model) <= _LONGEST else f"{model[: _LONGEST - 1]}…"
