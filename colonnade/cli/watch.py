"""`colonnade watch`: evaluate again and again, and say when something got worse."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colonnade.cli.console import emit, out, say
from colonnade.cli.options import (
    BudgetCalls,
    BudgetDollars,
    BudgetTokens,
    ItemsOption,
    JsonOption,
    ModelsOption,
    TaskOption,
    TechniquesOption,
    pairs,
    settings,
)
from db.errors import ConfigError

if TYPE_CHECKING:
    from flows.watch_job import Look

__all__ = ["ALARM", "app"]

ALARM = 3
"""Exit code of a look that gave an alarm."""

app = typer.Typer(
    help="Evaluate again and again, and say when something got worse.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("run")
def run(
    architecture: Annotated[list[str], typer.Argument(help="Files or preset:NAME; each is watched by itself.")],
    task: Annotated[str, typer.Option(help="A task by name, or a JSONL or CSV file.")] = "arithmetic",
    items: ItemsOption = None,
    task_option: TaskOption = None,
    seed: Annotated[int, typer.Option(help="Which items are drawn.")] = 0,
    reference: Annotated[
        list[str] | None, typer.Option(help="A run to compare with; may be repeated. Else the first go makes one.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Samples of every item in a reference that is made.", min=1)] = 4,
    alpha: Annotated[float, typer.Option(help="Chance of a false alarm over all looks, however many.")] = 0.05,
    cost_tolerance: Annotated[float, typer.Option(help="A rise of the cost that is no alarm, as a share.")] = 0.05,
    name: Annotated[str, typer.Option(help="Another name begins another watch.")] = "",
    models: ModelsOption = None,
    techniques: TechniquesOption = None,
    concurrency: Annotated[int, typer.Option(help="Items in flight.", min=1)] = 64,
    budget_dollars: BudgetDollars = None,
    budget_tokens: BudgetTokens = None,
    budget_calls: BudgetCalls = None,
    report: Annotated[Path | None, typer.Option(help="Write a page for each watch into this folder (.md).")] = None,
    prefect: Annotated[bool, typer.Option("--prefect/--no-prefect", help="Run as Prefect flows, or plainly.")] = True,
    json: JsonOption = False,
) -> None:
    """Look once: make the reference, or compare with it. Exit code 3 for an alarm (quality, cost, model)."""
    from colonnade.watching import make_watch_job, run_watch
    from flows.evaluate import TaskChoice

    session = settings(models, dollars=budget_dollars, tokens=budget_tokens, calls=budget_calls, techniques=techniques)
    choice = TaskChoice(name=task, options=pairs(task_option or [], "--task-option"), items=items, seed=seed)
    job = make_watch_job(
        architecture,
        choice,
        session,
        name=name,
        references=tuple(reference or ()),
        repeats=repeats,
        alpha=alpha,
        cost_tolerance=cost_tolerance,
        concurrency=concurrency,
    )
    if report is not None:
        _make(report)
    looks = asyncio.run(run_watch(job, prefect=prefect))
    _show(looks, json=json)
    if report is not None:
        _write(looks, report)
    if any(look.alarms for look in looks):
        raise typer.Exit(ALARM)
    if looks[-1].status != "done":
        say("With a higher cap, the same command goes on from here.")
        raise typer.Exit(1)


@app.command("show")
def show(
    watch: Annotated[str | None, typer.Argument(help="A watch's id; else the newest.")] = None, json: JsonOption = False
) -> None:
    """Show all looks of a watch and what the newest found."""
    from colonnade.tables import columns
    from colonnade.watching import stored_looks
    from flows.watch_report import LOOKS_HEAD, look_text, looks_table

    looks = stored_looks(watch)
    if json:
        _show(looks, json=True)
    elif looks:
        out(columns([LOOKS_HEAD, *looks_table(looks)], left=frozenset({0, 1, 2, 6})))
        out(look_text(looks[-1]))
    else:
        out("No look has ended yet.")


@app.command("list")
def listing(json: JsonOption = False) -> None:
    """List the watches, newest first."""
    from db.database import Database
    from flows.watch import stored_watches

    with Database.open() as database:
        records = stored_watches(database)
    for record in records:
        if json:
            emit({"watch": record.id, "status": record.status, "architecture": record.name, "task": record.task})
        else:
            out(f"{record.id}  {record.started_at:%Y-%m-%d %H:%M}  {record.status:<11}  {record.name}  {record.task}")
    if not records and not json:
        out("No watches yet.")


def _show(looks: Sequence[Look], *, json: bool) -> None:
    from flows.watch_report import look_text

    for look in looks:
        if json:
            emit({**look.model_dump(mode="json"), "alarms": [finding.kind for finding in look.alarms]})
        else:
            out(look_text(look))


def _make(folder: Path) -> None:
    # Before the look is paid for, whose exit code is its alarm.
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The folder '{folder}' for the report cannot be made ({error.strerror}).") from None


def _write(looks: Sequence[Look], folder: Path) -> None:
    from colonnade.watching import stored_looks
    from flows.watch_report import looks_markdown

    for look in looks:
        page = folder / f"{look.watch}.md"
        page.write_text(looks_markdown(stored_looks(look.watch)), encoding="utf-8")
        say(f"Report: {page}")
