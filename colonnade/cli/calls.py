"""`colonnade calls`: the calls that were paid and those that failed, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from colonnade.cli.console import dollars, emit, number, out, seconds
from colonnade.cli.options import JsonOption
from db.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from db.maintenance import CallLine, CallStatus

__all__ = ["calls"]


def calls(
    run: Annotated[str | None, typer.Option(help="Only those that this run paid for.")] = None,
    node: Annotated[str | None, typer.Option(help="Only those of this node.")] = None,
    model: Annotated[str | None, typer.Option(help="Only those of this model.")] = None,
    status: Annotated[str | None, typer.Option(help="ok or failed.")] = None,
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1)] = 50,
    json: JsonOption = False,
) -> None:
    """List calls by run, node, model and status."""
    from db.database import Database
    from db.maintenance import Maintenance

    with Database.open() as database:
        lines = Maintenance(database).calls(
            run_id=run, node=node, model=model, status=None if status is None else _status(status), limit=limit
        )
    for line in lines:
        if json:
            emit(_record(line))
        else:
            out(_text(line))
    if not lines and not json:
        out("No such calls.")


def _status(text: str) -> CallStatus:
    known: tuple[CallStatus, ...] = ("ok", "failed")
    for status in known:
        if status == text:
            return status
    raise ConfigError(f"--status takes ok or failed, not '{text}'.{did_you_mean(text, known)}")


def _text(line: CallLine) -> str:
    place = f"{line.run_id}  {line.item_id}  {line.node}  {line.alias} #{line.sample_index}"
    when = f"{line.created_at:%Y-%m-%d %H:%M:%S}"
    if line.status == "failed":
        return f"{when}  failed  {place}  {line.kind} after {line.attempts} attempts: {line.message}"
    tokens = number(line.prompt_tokens + line.completion_tokens)
    return f"{when}  ok      {place}  {tokens} tokens  {dollars(line.cost)}  {seconds(line.latency_s)}"


def _record(line: CallLine) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(line)
