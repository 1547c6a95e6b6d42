"""The options that several commands share."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer

from colonnade.cli.console import duration, human_int
from db.errors import ConfigError
from flows.session import CacheMode, Caps, SessionSettings

__all__ = [
    "AnswerOption",
    "BudgetCalls",
    "BudgetDollars",
    "BudgetTokens",
    "CacheExpiryOption",
    "CacheOption",
    "ItemsOption",
    "JsonOption",
    "ModelsOption",
    "SetOption",
    "TaskOption",
    "TechniquesOption",
    "length_of_time",
    "pairs",
    "parameters",
    "settings",
]


def _count(text: str) -> int:
    try:
        value = human_int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no count; write 500, 1_000, 20k or 1.5M.") from None
    if value <= 0:
        raise typer.BadParameter(f"{text!r} is not above zero.")
    return value


def _dollars(text: str) -> Decimal:
    try:
        value = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        raise typer.BadParameter(f"{text!r} is no amount of dollars; write 2.50.") from None
    if not value.is_finite() or value <= 0:
        raise typer.BadParameter(f"{text!r} is not above zero.")
    return value


def length_of_time(text: str) -> timedelta:
    """Read an option such as 30m, 12h or 7d."""
    try:
        return duration(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no length of time; write 30m, 12h, 7d or 4w.") from None


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines to stdout.")]
ModelsOption = Annotated[
    Path | None, typer.Option("--models", help="A models.yaml; else COLONNADE_MODELS, ./models.yaml, the built-ins.")
]
TechniquesOption = Annotated[
    list[Path] | None,
    typer.Option("--techniques", help="A Python file with techniques of your own; may be repeated."),
]
CacheOption = Annotated[str, typer.Option("--cache", help="on, off, refresh or read-only.")]
CacheExpiryOption = Annotated[
    timedelta | None,
    typer.Option("--cache-expiry", parser=length_of_time, metavar="AGE", help="Use no answer older than 12h, 7d…"),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="A parameter of a preset, key=value; may be repeated.")
]
ItemsOption = Annotated[int | None, typer.Option("--items", parser=_count, metavar="COUNT", help="How many items.")]
TaskOption = Annotated[
    list[str] | None, typer.Option("--task-option", help="An option of the task, key=value; may be repeated.")
]
BudgetDollars = Annotated[
    Decimal | None, typer.Option("--budget-dollars", parser=_dollars, metavar="USD", help="Spend at most this.")
]
BudgetTokens = Annotated[
    int | None, typer.Option("--budget-tokens", parser=_count, metavar="COUNT", help="Use at most this many tokens.")
]
BudgetCalls = Annotated[
    int | None, typer.Option("--budget-calls", parser=_count, metavar="COUNT", help="Make at most this many calls.")
]
AnswerOption = Annotated[
    str, typer.Option("--answer", help="How answers are compared: auto, numeric, math, choice, exact, text, boxed.")
]


def settings(
    models: Path | None,
    cache: str = "on",
    *,
    dollars: Decimal | None = None,
    tokens: int | None = None,
    calls: int | None = None,
    techniques: list[Path] | None = None,
    cache_expiry: timedelta | None = None,
) -> SessionSettings:
    """Gather the options of a session; raises `ConfigError` for an unknown cache mode."""
    modes: tuple[CacheMode, ...] = ("on", "off", "refresh", "read-only")
    mode = next((known for known in modes if known == cache), None)
    if mode is None:
        raise ConfigError(f"--cache takes {', '.join(modes)}, not {cache!r}.")
    return SessionSettings(
        models=models,
        techniques=tuple(path.resolve() for path in techniques or []),
        caps=Caps(dollars=dollars, tokens=tokens, calls=calls),
        cache=mode,
        cache_expiry=cache_expiry,
    )


def pairs(values: list[str], option: str) -> dict[str, str]:
    """Read `key=value` options; raises `ConfigError` for one without `=`."""
    read: dict[str, str] = {}
    for value in values:
        key, equals, rest = value.partition("=")
        if not equals or not key:
            raise ConfigError(f"{option} takes key=value, not {value!r}.")
        read[key.strip()] = rest.strip()
    return read


def parameters(values: list[str] | None) -> dict[str, object]:
    """Read the parameters of a preset; a value is read as YAML would read it (numbers, lists)."""
    import yaml

    return {key: yaml.safe_load(value) for key, value in pairs(values or [], "--set").items()}
