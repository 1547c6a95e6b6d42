"""Prompts as Jinja templates in `nodes/prompts/<style>/<name>.jinja`, which a user may override folder by folder.

A template gives the user's message; `<name>.system.jinja` beside it, where there is one, gives the system message.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from db.errors import ConfigError, did_you_mean
from providers.base import Message

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["PROMPT_DIRECTORY", "render", "styles", "template_digest"]

PROMPT_DIRECTORY = Path(__file__).parent / "prompts"


def styles() -> tuple[str, ...]:
    """Name the prompt styles that ship and those of the user's folder (`COLONNADE_PROMPTS`)."""
    return tuple(sorted({d.name for root in _roots() for d in root.iterdir() if d.is_dir()}))


def render(style: str, name: str, variables: Mapping[str, object], *, system: str | None = None) -> tuple[Message, ...]:
    """Render a prompt to messages.

    A `system` text stands in place of the template's own system message. Raises `ConfigError` for an unknown style
    or template.
    """
    environment = _environment(_roots())
    messages: list[Message] = []
    if system is None and _exists(style, f"{name}.system"):
        system = environment.get_template(f"{style}/{name}.system.jinja").render(variables).strip()
    if system:
        messages.append(Message("system", system))
    if not _exists(style, name):
        raise ConfigError(_missing(style, name))
    messages.append(Message("user", environment.get_template(f"{style}/{name}.jinja").render(variables).strip()))
    return tuple(messages)


def template_digest(style: str, name: str) -> str:
    """Return the SHA-256 of a template's text, in hex, so that a changed prompt can be told from the old one."""
    import hashlib

    environment = _environment(_roots())
    if not _exists(style, name) or environment.loader is None:
        raise ConfigError(_missing(style, name))
    source, _, _ = environment.loader.get_source(environment, f"{style}/{name}.jinja")
    return hashlib.sha256(source.encode()).hexdigest()


def _roots() -> tuple[Path, ...]:
    own = os.environ.get("COLONNADE_PROMPTS")
    if not own:
        return (PROMPT_DIRECTORY,)
    if not Path(own).is_dir():
        raise ConfigError(f"COLONNADE_PROMPTS names {own!r}, which is no folder; create it or unset the variable.")
    return (Path(own), PROMPT_DIRECTORY)


@lru_cache(maxsize=8)
def _environment(roots: tuple[Path, ...]) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader([str(root) for root in roots]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        auto_reload=False,
    )


def _exists(style: str, name: str) -> bool:
    return _find(style, name, _roots())


@lru_cache(maxsize=512)
def _find(style: str, name: str, roots: tuple[Path, ...]) -> bool:
    return any((root / style / f"{name}.jinja").is_file() for root in roots)


def _missing(style: str, name: str) -> str:
    if style not in styles():
        return f"There is no prompt style {style!r}.{did_you_mean(style, styles())}"
    known = {p.name.removesuffix(".jinja") for root in _roots() for p in (root / style).glob("*.jinja")}
    return f"The prompt style {style!r} has no template {name!r}.{did_you_mean(name, known)}"
