"""An architecture from wherever it is: a YAML or JSON file, one of Archon's files, plain data, or a preset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from architectures.archon import is_archon, parse_archon, read_json
from architectures.check import check
from architectures.parse import Source, parse
from architectures.places import Place
from architectures.preset import preset
from architectures.spec import ArchitectureSpec
from architectures.yamltext import read_text, read_yaml

if TYPE_CHECKING:
    from providers.book import ModelBook

__all__ = ["Architecture", "load"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """An architecture that was loaded and checked, and what its author should know of it."""

    spec: ArchitectureSpec
    source: str
    """The file or `preset:name` that it came from; empty for plain data."""
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name: the one it gives itself, else that of its file."""
        return self.spec.name

    @property
    def id(self) -> str:
        """SHA-256 of its canonical JSON, in hex."""
        return self.spec.id


def load(
    source: str | Path | Mapping[str, object] | Sequence[object] | ArchitectureSpec,
    book: ModelBook | None = None,
    *,
    parameters: Mapping[str, object] | None = None,
) -> Architecture:
    """Load and check an architecture.

    `source` is the path of a YAML or JSON file (Archon's configurations included), `preset:name` with `parameters`,
    plain data in either form, or an architecture. The models are checked where a book is given. Raises `SpecError`.
    """
    notes: tuple[str, ...] = ()
    if isinstance(source, ArchitectureSpec):
        spec, place = source, ""
    elif isinstance(source, str | Path):
        place = str(source)
        spec, notes = _named(place, dict(parameters or {}))
    else:
        spec, notes, place = *_data(source, Source(), Place()), ""
    return Architecture(spec=spec, source=place, warnings=(*notes, *check(spec, book, source=place).warnings))


def _named(name: str, parameters: dict[str, object]) -> tuple[ArchitectureSpec, tuple[str, ...]]:
    if name.startswith("preset:"):
        return preset(name.removeprefix("preset:"), **parameters), ()
    place = Place(name)
    if parameters:
        raise place.error("only a preset takes parameters.")
    path = Path(name)
    text = read_text(path)
    data = read_json(text, place) if path.suffix.lower() == ".json" else read_yaml(text, place)
    return _data(data, Source.of(path), place)


def _data(data: object, source: Source, place: Place) -> tuple[ArchitectureSpec, tuple[str, ...]]:
    if is_archon(data):
        return parse_archon(data, place)
    return parse(data, source=source, place=place), ()
