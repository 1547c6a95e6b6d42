"""From the columns of a row to the question that is asked: a format template or a Jinja one."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from db.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    import jinja2

__all__ = ["Template", "question_template"]


class Template:
    """A template that was read once; raises `ConfigError` for one that cannot be.

    `{column}` is replaced by a column's text and `{column:.2f}` by its formatted value; a text with `{{ column }}` or
    `{% … %}` is Jinja, in its sandbox. A column without a value (null) gives no text, lists and objects their JSON.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._jinja: jinja2.Template | None = None
        self._pieces: list[tuple[str, str | None, str]] = []
        if "{{" in text or "{%" in text:
            self._jinja, self.columns = _jinja(text)
        else:
            self._pieces = _pieces(text)
            self.columns = tuple(dict.fromkeys(name for _, name, _ in self._pieces if name is not None))
        if not self.columns:
            raise ConfigError(
                f"The template {text!r} names no column, so every row would ask the same; write {{column}}."
            )

    def check(self, columns: Sequence[str]) -> None:
        """Raise `DataError` for a column that the template names and the input lacks."""
        missing = self.missing(columns)
        if missing:
            raise DataError(f"The template names {missing}")

    def missing(self, columns: Sequence[str] | Mapping[str, object]) -> str:
        """Say which column is missing and which there are, as the end of a sentence; nothing where all are there."""
        for name in self.columns:
            if name not in columns:
                near = did_you_mean(name, columns)
                hint = near if "mean" in near else ""
                return f"the column {name!r}, which is not there; the columns are {', '.join(columns)}.{hint}"
        return ""

    def fill(self, values: Mapping[str, object]) -> str:
        """Return the question of a row; raises `DataError` with the reason where it cannot be made."""
        missing = self.missing(values)
        if missing:
            raise DataError(f"the template names {missing}")
        try:
            text = self._filled(values)
            text.encode()  # a lone surrogate is no text that a model could be sent
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise DataError(f"the template cannot be filled ({error})") from error
        if not text.strip():
            raise DataError("the question is empty")
        return text

    def _filled(self, values: Mapping[str, object]) -> str:
        if self._jinja is None:
            return "".join(
                before + ("" if name is None else _formatted(values[name], spec)) for before, name, spec in self._pieces
            )
        import jinja2

        try:
            return self._jinja.render({name: _plain(values[name]) for name in self.columns})
        except jinja2.TemplateError as error:
            raise ValueError(str(error)) from error


def question_template(template: str | None, column: str | None) -> Template:
    """Return the template of two options of which at most one is given; else the column `question` is asked."""
    if template is not None and column is not None:
        raise ConfigError("Give --template or --question-column, not both.")
    if template is not None:
        return Template(template)
    name = column or "question"
    if any(mark in name for mark in "{}!:"):
        raise ConfigError(f"A column of the name {name!r} cannot be asked; rename it.")
    return Template(f"{{{name}}}")


def _pieces(text: str) -> list[tuple[str, str | None, str]]:
    try:
        pieces = [(before, name, spec or "") for before, name, spec, _ in string.Formatter().parse(text)]
    except ValueError as error:
        raise ConfigError(f"The template {text!r} cannot be read ({error}); write {{column}}.") from error
    if any(name == "" or "{" in spec for _, name, spec in pieces):
        raise ConfigError(f"The template {text!r} has braces without a column's name; write {{column}}.")
    return pieces


def _jinja(text: str) -> tuple[jinja2.Template, tuple[str, ...]]:
    import jinja2
    from jinja2 import meta
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False)
    try:
        names = meta.find_undeclared_variables(environment.parse(text))
        return environment.from_string(text), tuple(sorted(names))
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(f"The template cannot be read (line {error.lineno}: {error.message}).") from error


def _formatted(value: object, spec: str) -> str:
    return format(value, spec) if spec else str(_plain(value, text=True))


def _plain(value: object, *, text: bool = False) -> object:
    """Give no text for null; in a format template also the JSON of a list or an object."""
    if value is None:
        return ""
    if text and isinstance(value, list | dict | bool):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value
