"""Where text goes: data for programs to stdout, everything for people to stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = [
    "cached_note",
    "dollars",
    "duration",
    "emit",
    "human_int",
    "number",
    "out",
    "percent",
    "say",
    "say_error",
    "seconds",
    "size",
]


@lru_cache(maxsize=1)
def stderr() -> Console:
    """Return the console for people."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: RenderableType) -> None:
    """Print for people."""
    stderr().print(message)


def say_error(message: str) -> None:
    """Print one sentence about what went wrong."""
    sys.stderr.write(f"Error: {message}\n")


def out(text: str) -> None:
    """Print a result to stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def emit(record: Mapping[str, object]) -> None:
    """Print one JSON line to stdout."""
    import orjson

    line = orjson.dumps(dict(record), default=_plain, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY)
    out(line.decode())


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (tuple, set, frozenset)):
        return list(value)
    return str(value)


def number(value: float | None) -> str:
    """Print a count with thousands separators: 12,345; `∞` where nothing bounds it."""
    return "?" if value is None else "∞" if value == float("inf") else f"{round(value):,}"


def dollars(value: Decimal | float | None) -> str:
    """Print dollars with three significant digits below one dollar; `$?` where a price is unknown."""
    if value is None:
        return "$?"
    amount = float(value)
    if amount in (0, float("inf")):
        return "$0" if amount == 0 else "$∞"
    return f"${amount:,.2f}" if abs(amount) >= 1 else f"${amount:.3g}" if abs(amount) >= 1e-4 else f"${amount:.2e}"


def cached_note(cached: int, calls: int, cost: Decimal | None, paid: Decimal | None) -> str:
    """Say what came from the cache, what that would have cost, and what was paid."""
    saved = None if cost is None or paid is None else cost - paid
    return (
        f"{number(cached)} of {number(calls)} calls came from the cache and would have cost {dollars(saved)}; "
        f"{number(calls - cached)} were paid now, {dollars(paid)}."
    )


def percent(value: float | None) -> str:
    """Print a share of one as a percentage with one decimal."""
    return "-" if value is None else f"{100 * value:.1f} %"


def seconds(value: float | None) -> str:
    """Print a duration: `0.34 s`, `12.3 s`, `4 min 05 s`."""
    if value is None:
        return "-"
    if value < 1:
        return f"{value:.2f} s"
    return f"{value:.1f} s" if value < 100 else f"{int(value // 60)} min {int(value % 60):02d} s"


def size(value: int) -> str:
    """Print bytes: `512 B`, `1.5 MB`."""
    amount, units = float(value), ["B", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount /= 1000
        units.pop(0)
    return f"{amount:.0f} {units[0]}" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def duration(text: str) -> timedelta:
    """Read a length of time: `30m`, `12h`, `7d`, `4w`; raises `ValueError` on anything else and on zero."""
    unit = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}.get(text.strip()[-1:].lower())
    if unit is None:
        raise ValueError(f"{text!r} is no length of time")
    try:
        length = timedelta(**{unit: float(text.strip()[:-1])})
    except OverflowError:
        raise ValueError(f"{text!r} is too long") from None
    if length <= timedelta(0):
        raise ValueError(f"{text!r} is not above zero")
    return length


def human_int(text: str) -> int:
    """Read a count as people write it: `500`, `1_000`, `20k`, `1.5M`; raises `ValueError` on anything else."""
    cleaned = text.strip().replace("_", "").replace(",", "")
    factor = {"k": 1_000, "m": 1_000_000}.get(cleaned[-1:].lower(), 1)
    value = float(cleaned[:-1] if factor > 1 else cleaned) * factor
    if value != int(value):
        raise ValueError(f"{text!r} is no whole number")
    return int(value)
