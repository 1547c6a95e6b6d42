"""`colonnade runs`: what was run, what came of it, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from colonnade.cli.console import dollars, emit, number, out, percent
from colonnade.cli.options import JsonOption

if TYPE_CHECKING:
    from db.runs import ItemRecord, RunRecord

__all__ = ["app"]

app = typer.Typer(help="List the runs, or show one.", invoke_without_command=True, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def listing(
    context: typer.Context,
    json: JsonOption = False,
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1)] = 20,
) -> None:
    """List the newest runs."""
    from db.database import Database
    from db.runs import RunStore

    if context.invoked_subcommand is not None:
        return
    with Database.open() as database:
        records = RunStore(database).list(limit=limit)
    for record in records:
        if json:
            emit(_record(record))
        else:
            started = f"{record.started_at:%Y-%m-%d %H:%M}"
            out(f"{record.id}  {started}  {record.status:<11}  {record.kind:<8}  {record.name}  {record.task or ''}")
    if not records and not json:
        out("No runs yet.")


@app.command("show")
def show(
    run_id: str,
    item: Annotated[str | None, typer.Option(help="Show one item's trace.")] = None,
    json: JsonOption = False,
) -> None:
    """Show a run: its summary and its items, or the full trace of one item."""
    from db.database import Database
    from db.runs import RunStore

    with Database.open() as database:
        store = RunStore(database)
        record = store.get(run_id)
        items = store.items(run_id)
    if item is not None:
        _show_item(run_id, item, items)
    elif json:
        emit(_record(record))
        for one in items:
            emit(_item(one))
    else:
        out(f"{record.id}  {record.status}  {record.name}  {record.task or ''}")
        for one in items:
            mark = {True: "right", False: "wrong", None: "-"}[one.correct] if one.status == "ok" else one.error_class
            cost = f"{number(one.calls_used)} calls  {dollars(one.cost_used)}"
            out(f"  {one.item_id}  {mark}  {one.answer or ''}  {cost}")
        right = sum(one.correct is True for one in items)
        if items:
            out(f"{len(items)} items, {percent(right / len(items))} right")


def _show_item(run_id: str, item: str, items: Sequence[ItemRecord]) -> None:
    from db.errors import ConfigError, did_you_mean

    found = next((one for one in items if one.item_id == item), None)
    if found is None:
        near = did_you_mean(item, [one.item_id for one in items][:200])
        raise ConfigError(f"Run {run_id} has no item '{item}'.{near}")
    out(found.trace)


def _record(record: RunRecord) -> dict[str, object]:
    from dataclasses import asdict

    import orjson

    return {
        **asdict(record),
        "config": orjson.loads(record.config),
        "totals": orjson.loads(record.totals) if record.totals else None,
    }


def _item(record: ItemRecord) -> dict[str, object]:
    from dataclasses import asdict

    return {key: value for key, value in asdict(record).items() if key != "trace"}
