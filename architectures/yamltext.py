"""YAML (and so JSON) text to plain data, with repeated keys refused and errors that name file and line."""

from __future__ import annotations

import re
from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from architectures.places import Place
from db.errors import SpecError

if TYPE_CHECKING:
    import yaml

__all__ = ["read_text", "read_yaml"]

_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")


def read_text(path: Path) -> str:
    """Read a file; raises `SpecError` where it is absent or is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError(f"{path}: there is no such file.") from None
    except IsADirectoryError:
        raise SpecError(f"{path}: that is a folder; name a YAML or JSON file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: it cannot be read as text ({error}).") from error


def read_yaml(text: str, place: Place) -> object:
    """Parse one YAML document to plain data; raises `SpecError` with the line of what is wrong."""
    import yaml

    try:
        loader = _loader()(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = place.at(f"line {mark.line + 1}") if mark else place
        raise line.error(f"this is no YAML: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:
        raise place.error(f"this is no YAML: {' '.join(str(error).split())}.") from error


@cache
def _loader() -> type[yaml.SafeLoader]:
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
            seen: set[Hashable] = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if isinstance(key, Hashable) and key in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key {key!r} stands there twice", problem_mark=key_node.start_mark
                    )
                if isinstance(key, Hashable):
                    seen.add(key)
            return super().construct_mapping(node, deep)

    # YAML 1.1 reads 1e-3, which is a number in JSON and in YAML 1.2, as a text.
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))
    return Loader
