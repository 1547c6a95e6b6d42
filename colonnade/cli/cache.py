"""`colonnade cache`: what is stored of calls, how old and how large it is, and clearing it away."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from colonnade.cli.console import dollars, duration, emit, number, out, say, size
from colonnade.cli.options import JsonOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from db.database import Database
    from db.maintenance import CacheLine

__all__ = ["app"]

app = typer.Typer(help="Show what is stored of calls, or clear it away.", no_args_is_help=True, rich_markup_mode=None)

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Only the answers of this model.")]


def _age(text: str) -> timedelta:
    try:
        return duration(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no length of time; write 30m, 12h, 7d or 4w.") from None


@app.command("list")
def listing(json: JsonOption = False) -> None:
    """List the stored answers by model."""
    with _open() as database:
        lines = _lines(database)
    for line in lines:
        if json:
            emit(_record(line))
    if json:
        return
    if not lines:
        out("Nothing is stored yet.")
        return
    from colonnade.tables import columns

    head = ("model", "known as", "calls", "tokens", "size", "dollars", "oldest", "newest")
    out(columns([head, *(_row(line) for line in lines)], left=frozenset({0, 1})))


@app.command("stats")
def stats(json: JsonOption = False) -> None:
    """Say how much is stored, what it was worth, and how old it is."""
    with _open() as database:
        lines = _lines(database)
        place = database.url_without_password
    if json:
        emit(_totals(place, lines))
    elif not lines:
        out("Nothing is stored yet.")
    else:
        total = _totals(place, lines)
        out(place)
        out(
            f"{total['calls']:,} calls of {total['models']} models, {size(sum(line.bytes for line in lines))}, "
            f"paid {dollars(_paid(lines))}, from {total['oldest']:%Y-%m-%d %H:%M} to {total['newest']:%Y-%m-%d %H:%M}"
        )


@app.command("prune")
def prune(
    older_than: Annotated[timedelta, typer.Option("--older-than", parser=_age, metavar="AGE", help="30d, 12h, …")],
    model: ModelOption = None,
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Clear away stored answers that are older than an age."""
    _clear(datetime.now(UTC) - older_than, model, yes=yes, json=json)


@app.command("clear")
def clear(model: ModelOption = None, yes: YesOption = False, json: JsonOption = False) -> None:
    """Clear away all stored answers, or those of one model; what they cost stays in the books."""
    _clear(None, model, yes=yes, json=json)


def _clear(before: datetime | None, model: str | None, *, yes: bool, json: bool) -> None:
    from db.maintenance import Maintenance

    with _open() as database:
        care = Maintenance(database)
        found = care.count(before=before, model=model)
        if found and not yes:
            say(f"{number(found)} stored answers would go from {database.url_without_password}.")
            say("A run that needs them again, a resumed one too, pays for them again.")
            typer.confirm("Clear them away?", abort=True, err=True)
        gone = care.clear(before=before, model=model) if found else 0
        hot = asyncio.run(_clear_hot()) if gone else 0
    if json:
        emit({"cleared": gone, "hot": hot})
    else:
        out(f"{number(gone)} stored answers cleared away.")


async def _clear_hot() -> int:
    """Empty the hot cache, which must not go on giving what was cleared; it fills again from the database."""
    from providers.redis_link import redis_link
    from providers.shared_cache import SharedCache

    async with redis_link() as link:
        return await SharedCache(link).clear() if link is not None else 0


def _open() -> Database:
    from db.database import Database

    return Database.open()


def _lines(database: Database) -> Sequence[CacheLine]:
    from db.maintenance import Maintenance

    return Maintenance(database).models()


def _totals(place: str, lines: Sequence[CacheLine]) -> dict[str, object]:
    return {
        "database": place,
        "models": len(lines),
        "calls": sum(line.calls for line in lines),
        "bytes": sum(line.bytes for line in lines),
        "tokens": sum(line.prompt_tokens + line.completion_tokens for line in lines),
        "dollars": _paid(lines),
        "oldest": min((line.oldest for line in lines), default=None),
        "newest": max((line.newest for line in lines), default=None),
    }


def _paid(lines: Sequence[CacheLine]) -> Decimal | None:
    known = [line.cost for line in lines if line.cost is not None]
    return sum(known, Decimal(0)) if len(known) == len(lines) else None


def _row(line: CacheLine) -> tuple[str, ...]:
    return (
        line.identity,
        ", ".join(line.aliases),
        number(line.calls),
        number(line.prompt_tokens + line.completion_tokens),
        size(line.bytes),
        dollars(line.cost),
        f"{line.oldest:%Y-%m-%d}",
        f"{line.newest:%Y-%m-%d}",
    )


def _record(line: CacheLine) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(line)
