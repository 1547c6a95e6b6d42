"""`colonnade eval`: architectures on a task, through a Prefect flow, into a table that can be believed."""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from colonnade.cli.console import emit, out, say
from colonnade.cli.options import (
    BudgetCalls,
    BudgetDollars,
    BudgetTokens,
    CacheExpiryOption,
    CacheOption,
    ItemsOption,
    JsonOption,
    ModelsOption,
    SetOption,
    TaskOption,
    TechniquesOption,
    pairs,
    parameters,
    settings,
)
from db.errors import ConfigError

if TYPE_CHECKING:
    from flows.evaluate import EvaluateJob, Evaluation

__all__ = ["evaluate"]


def evaluate(
    architecture: Annotated[
        list[str] | None, typer.Argument(help="Files, Archon's files, or preset:NAME; one evaluation each.")
    ] = None,
    task: Annotated[str, typer.Option(help="A task by name, or a JSONL or CSV file.")] = "arithmetic",
    items: ItemsOption = None,
    task_option: TaskOption = None,
    seed: Annotated[int, typer.Option(help="Which items are drawn.")] = 0,
    set_: SetOption = None,
    models: ModelsOption = None,
    techniques: TechniquesOption = None,
    cache: CacheOption = "on",
    cache_expiry: CacheExpiryOption = None,
    fresh: Annotated[str, typer.Option(help="Name a series of samples of its own.")] = "",
    again: Annotated[int, typer.Option(help="k: the k-th repetition of a run that is done.", min=0)] = 0,
    concurrency: Annotated[int, typer.Option(help="Items in flight.", min=1)] = 64,
    chunk: Annotated[int, typer.Option(help="Items in one Prefect task.", min=1)] = 50,
    budget_dollars: BudgetDollars = None,
    budget_tokens: BudgetTokens = None,
    budget_calls: BudgetCalls = None,
    resume: Annotated[str | None, typer.Option(help="Go on with a run by its id; nothing else is needed.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw accuracy against cost here (.svg, .png, .pdf).")] = None,
    prefect: Annotated[bool, typer.Option("--prefect/--no-prefect", help="Run as Prefect flows, or plainly.")] = True,
    pool: Annotated[
        str | None, typer.Option(help="A Prefect work pool whose workers take the chunks; see docs/operations.md.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster that takes the chunks; 'local' starts one.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Evaluate architectures on a task. The same command again goes on where the last one stopped."""
    from colonnade import evaluating
    from flows.evaluate import TaskChoice

    session = settings(
        models,
        cache,
        dollars=budget_dollars,
        tokens=budget_tokens,
        calls=budget_calls,
        techniques=techniques,
        cache_expiry=cache_expiry,
    )
    if resume is not None:
        jobs = [evaluating.stored_job(resume, session)]
    elif not architecture:
        raise ConfigError("Name an architecture (a file or preset:NAME), or a run with --resume.")
    else:
        options = pairs(task_option or [], "--task-option")
        choice = TaskChoice(name=task, options=options, items=items, seed=seed)
        jobs = [
            evaluating.make_job(
                source,
                choice,
                session,
                parameters=parameters(set_),
                concurrency=concurrency,
                chunk=chunk,
                fresh=fresh,
                again=again,
            )
            for source in architecture
        ]
    evaluations = _run(jobs, prefect=prefect, pool=pool, ray=ray, quiet=json)
    _report(evaluations, plot, json=json)


def _run(jobs: list[EvaluateJob], *, prefect: bool, pool: str | None, ray: str | None, quiet: bool) -> list[Evaluation]:
    from colonnade.evaluating import run_jobs
    from colonnade.progress import Progress

    planned = [len(job.task.load().items) for job in jobs]
    with Progress([job.title for job in jobs], planned, quiet=quiet) as progress:
        try:
            return asyncio.run(run_jobs(jobs, prefect=prefect, pool=pool, ray=ray, watcher=progress.item_done))
        except KeyboardInterrupt:
            progress.stop()
            say("Stopped. Every answer that was paid is kept; the same command goes on from here:")
            say(f"  {_again()}")
            raise


def _again() -> str:
    return shlex.join(["colonnade", *sys.argv[1:]])


def _report(evaluations: list[Evaluation], plot: Path | None, *, json: bool) -> None:
    from colonnade.tables import evaluation_table

    if json:
        for evaluation in evaluations:
            emit(evaluation.record())
    else:
        out(evaluation_table(evaluations))
    if plot is not None:
        from colonnade.plots import plot_accuracy_cost

        plot_accuracy_cost(evaluations, plot)
        say(f"Plot: {plot}")
    stopped = next((one for one in evaluations if one.status == "over_budget"), None)
    if stopped is not None:
        say(f"Stopped at the budget after {len(stopped.results)} of {stopped.planned} items: {stopped.reason}")
        say("What was done is kept. With a higher cap, the same command goes on from here, or:")
        say(f"  colonnade eval --resume {stopped.run_id}")
        raise typer.Exit(1)
