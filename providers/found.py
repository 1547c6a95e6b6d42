"""What `colonnade models check` found that endpoints can do, kept in `.colonnade/capabilities.json`.

One entry an endpoint and model: `{"openai/mini@http://127.0.0.1:8000/v1": {"checked": "2026-11-22T01:00:00+00:00",
"capabilities": {"n": true, "seed": false}}}`. What could not be told is not there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from db.errors import ConfigError
from providers.models import Capabilities, Feature, ModelSpec

__all__ = ["FOUND_PATH", "Found", "record_found"]

FOUND_PATH = Path(".colonnade/capabilities.json")


class Found:
    """Capabilities by endpoint and model."""

    def __init__(self, entries: Mapping[str, Mapping[str, bool]] | None = None) -> None:
        self._entries = dict(entries or {})

    @classmethod
    def load(cls, path: Path = FOUND_PATH) -> Found:
        """Read what was found; nothing where there is no such file. Raises `ConfigError` for one that is damaged."""
        if not path.is_file():
            return cls()
        return cls({name: _capabilities(path, entry) for name, entry in _read(path).items()})

    def completed(self, spec: ModelSpec) -> ModelSpec:
        """Return the model with what was found in place of what was assumed; what models.yaml states stays.

        A model of several endpoints can do what all of them can.
        """
        looked_at = [self._entries[name] for one in spec.replicas() if (name := _place(one)) in self._entries]
        if not looked_at:
            return spec
        names = {name for entry in looked_at for name in entry} - set(spec.settled)
        assumed = spec.capabilities.model_dump()
        found = {name: all(entry.get(name, assumed[name]) for entry in looked_at) for name in names & assumed.keys()}
        return spec.model_copy(update={"capabilities": spec.capabilities.model_copy(update=found)})


def record_found(spec: ModelSpec, capabilities: Mapping[Feature, bool], path: Path = FOUND_PATH) -> None:
    """Write what was found of one endpoint, in place of what was known of it."""
    import orjson

    entries = _read(path) if path.is_file() else {}
    entries[_place(spec)] = {
        "checked": datetime.now(UTC).isoformat(timespec="seconds"),
        "capabilities": dict(sorted(capabilities.items())),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_bytes(orjson.dumps(entries, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
    draft.replace(path)


def _place(spec: ModelSpec) -> str:
    return f"{spec.transport}/{spec.model}@{spec.base_url or ''}"


def _read(path: Path) -> dict[str, object]:
    import orjson

    try:
        data = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        data = None
    if not isinstance(data, dict):
        raise _damaged(path)
    return data


def _capabilities(path: Path, entry: object) -> dict[str, bool]:
    found = entry.get("capabilities") if isinstance(entry, dict) else None
    if not isinstance(found, dict) or not all(isinstance(value, bool) for value in found.values()):
        raise _damaged(path)
    return {name: value for name, value in found.items() if name in Capabilities.model_fields}


def _damaged(path: Path) -> ConfigError:
    return ConfigError(f"{path} is damaged; delete it and run 'colonnade models check' again.")
