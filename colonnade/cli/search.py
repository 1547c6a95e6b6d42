"""`colonnade search`: look for the architecture that is worth its price, and prove it on items held out."""

from __future__ import annotations

import asyncio
import shlex
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    from flows.search_job import SearchJob
    from flows.study_view import StudyView

__all__ = ["app"]

app = typer.Typer(
    help="Search a space of architectures for the one that is worth its price.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

StudyArgument = Annotated[str | None, typer.Argument(help="A study's id; else the newest.")]
RoleOption = Annotated[
    list[str] | None, typer.Option("--role", help="Models of a role, role=model,model; may be repeated.")
]
CapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cap", help="Most that one question may cost by plan: calls=40, dollars=0.01, tokens=…, seconds=…, depth=…"
    ),
]
TrialsOption = Annotated[int, typer.Option(help="How many architectures are tried at most.", min=1)]
ParallelOption = Annotated[int, typer.Option(help="Pieces of trials that run side by side.", min=1)]
ConcurrencyOption = Annotated[int, typer.Option(help="Items in flight in all.", min=1)]
FinalistsOption = Annotated[int, typer.Option(help="The winner and its runners-up.", min=1)]
ReportOption = Annotated[Path | None, typer.Option(help="Write the report here (.html).")]
PrefectOption = Annotated[bool, typer.Option("--prefect/--no-prefect", help="Run as a Prefect flow, or plainly.")]


@app.command("run")
def run(
    space: Annotated[str, typer.Argument(help="A ready space (colonnade search space), or a YAML file.")],
    task: Annotated[str, typer.Option(help="A task by name, or a JSONL or CSV file.")] = "arithmetic",
    items: ItemsOption = None,
    task_option: TaskOption = None,
    seed: Annotated[int, typer.Option(help="Which items are drawn and which points are tried.")] = 0,
    dev_share: Annotated[float, typer.Option(help="Share of the items that the search may see.")] = 0.5,
    guard_share: Annotated[float, typer.Option(help="Share of these on which the winner is chosen at last.")] = 0.2,
    role: RoleOption = None,
    cap: CapOption = None,
    sampler: Annotated[
        str, typer.Option(help="random, exhaustive, greedy, tpe, gp, nsga2, itas, or a plug-in.")
    ] = "gp",
    option: Annotated[list[str] | None, typer.Option(help="An option of the sampler, key=value.")] = None,
    race: Annotated[
        bool | None, typer.Option("--race/--no-race", help="Grow trials through rungs of items, or score all at once.")
    ] = None,
    rungs: Annotated[str | None, typer.Option(help="Items after each rung, such as 50,150,450.")] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="quality, utility, dollars, calls, seconds or cost_per_correct; several make a front."),
    ] = None,
    error_price: Annotated[float, typer.Option(help="Dollars that a wrong answer costs, for utility.", min=0)] = 0.0,
    trials: TrialsOption = 60,
    parallel: ParallelOption = 4,
    concurrency: ConcurrencyOption = 64,
    finalists: FinalistsOption = 3,
    baseline: Annotated[list[str] | None, typer.Option(help="An architecture to beat; may be repeated.")] = None,
    start: Annotated[list[str] | None, typer.Option(help="An architecture to try first; may be repeated.")] = None,
    history: Annotated[
        bool, typer.Option("--history/--no-history", help="Try early what did well on these items in earlier runs.")
    ] = True,
    rank: Annotated[
        bool | None,
        typer.Option("--rank/--no-rank", help="Measure models alone first, for 'best: k'."),
    ] = None,
    share: Annotated[bool, typer.Option("--share/--no-share", help="Let trials share samples.")] = True,
    study: Annotated[str, typer.Option(help="A name; the same search goes on with its study without one.")] = "",
    models: ModelsOption = None,
    techniques: TechniquesOption = None,
    budget_dollars: BudgetDollars = None,
    budget_tokens: BudgetTokens = None,
    budget_calls: BudgetCalls = None,
    report: ReportOption = None,
    prefect: PrefectOption = True,
    json: JsonOption = False,
) -> None:
    """Search. The same command again goes on where the last one stopped."""
    from colonnade.searching import make_search_job
    from flows.evaluate import TaskChoice

    session = settings(models, dollars=budget_dollars, tokens=budget_tokens, calls=budget_calls, techniques=techniques)
    choice = TaskChoice(name=task, options=pairs(task_option or [], "--task-option"), items=items, seed=seed)
    job = make_search_job(
        space,
        choice,
        session,
        baselines=baseline or [],
        start=start or [],
        study=study,
        models=_roles(role),
        caps=_numbers(cap, "--cap"),
        dev_share=dev_share,
        guard_share=guard_share,
        sampler=sampler,
        options=_numbers(option, "--option"),
        race=sampler != "exhaustive" and "cost_per_correct" not in (objective or []) if race is None else race,
        rungs=_rungs(rungs),
        objectives=tuple(objective or ["quality"]),
        error_price=error_price,
        trials=trials,
        parallel=parallel,
        concurrency=concurrency,
        finalists=finalists,
        history=None if history else (),
        rank=sampler == "itas" if rank is None else rank,
        share=share,
        seed=seed,
    )
    _search(job, report, prefect=prefect, json=json)


@app.command("resume")
def resume(
    study: StudyArgument = None,
    trials: Annotated[int | None, typer.Option(help="More trials than before.", min=1)] = None,
    models: ModelsOption = None,
    techniques: TechniquesOption = None,
    budget_dollars: BudgetDollars = None,
    budget_tokens: BudgetTokens = None,
    budget_calls: BudgetCalls = None,
    report: ReportOption = None,
    prefect: PrefectOption = True,
    json: JsonOption = False,
) -> None:
    """Go on with a study that stopped, or join one that others work on; without caps, those that it had hold."""
    from db.database import Database
    from flows.studies import newest_study, stored_search

    session = settings(models, dollars=budget_dollars, tokens=budget_tokens, calls=budget_calls, techniques=techniques)
    with Database.open() as database:
        name = study or newest_study(database)
        job = stored_search(name, database)
    before = job.session
    kept = {
        "models": models or before.models,
        "techniques": session.techniques or before.techniques,
        "caps": session.caps if session.caps else before.caps,
        "caps_per_run": True,
    }
    changed = {"study": name, "session": session.model_copy(update=kept), "trials": trials or job.trials}
    _search(job.model_copy(update=changed), report, prefect=prefect, json=json)


@app.command("show")
def show(
    study: StudyArgument = None,
    trials: Annotated[int, typer.Option(help="How many trials are listed.", min=1)] = 10,
    json: JsonOption = False,
) -> None:
    """Show a study: its best trials, its end, what it cost."""
    from colonnade.searching import stored_view

    _report(stored_view(study), trials, json=json)


@app.command("list")
def listing(json: JsonOption = False) -> None:
    """List the studies, newest first."""
    from db.database import Database
    from db.runs import RunStore

    with Database.open() as database:
        records = RunStore(database).list(limit=100, kind="search")
    for record in records:
        if json:
            emit({"study": record.id, "status": record.status, "space": record.name, "task": record.task})
        else:
            out(f"{record.id}  {record.started_at:%Y-%m-%d %H:%M}  {record.status:<11}  {record.name}  {record.task}")
    if not records and not json:
        out("No studies yet.")


@app.command("best")
def best(
    study: StudyArgument = None,
    trial: Annotated[int | None, typer.Option(help="Another trial than the best.", min=0)] = None,
    out_file: Annotated[Path | None, typer.Option("--out", help="Write it here; else to stdout.")] = None,
) -> None:
    """Write the best architecture as YAML, to be run, evaluated or edited."""
    from colonnade.searching import stored_architecture

    text = stored_architecture(study, trial)
    if out_file is None:
        out(text)
    else:
        out_file.parent.mkdir(parents=True, exist_ok=True)
        out_file.write_text(text, encoding="utf-8")
        say(f"Architecture: {out_file}")


@app.command("plot")
def plot(
    study: StudyArgument = None,
    out_path: Annotated[
        Path, typer.Option("--out", help="A report in one file (.html), or a folder for pictures.")
    ] = Path("search-report.html"),
) -> None:
    """Draw a study: a report in one file that needs no network, or a folder of pictures for papers."""
    from colonnade.searching import stored_view

    _draw(stored_view(study), out_path)


@app.command("export")
def export(
    study: StudyArgument = None,
    optuna: Annotated[
        str | None, typer.Option(help="Write an Optuna storage, such as sqlite:///study.db, for optuna-dashboard.")
    ] = None,
) -> None:
    """Write a study as JSON to stdout, or into an Optuna storage."""
    from colonnade.searching import stored_view
    from colonnade.study_export import export_json, export_optuna

    view = stored_view(study)
    if optuna is None:
        out(export_json(view))
    else:
        export_optuna(view, optuna, view.id)
        say(f"Open it with: optuna-dashboard {shlex.quote(optuna)}")


@app.command("space")
def space_(
    space: Annotated[
        str | None, typer.Argument(help="A ready space, or a YAML file; without one all are named.")
    ] = None,
    role: RoleOption = None,
    cap: CapOption = None,
    count: Annotated[bool, typer.Option("--count", help="Count the points.")] = False,
    models: ModelsOption = None,
    techniques: TechniquesOption = None,
    json: JsonOption = False,
) -> None:
    """Show a space: its parameters, and with --count its points, and with --cap how many of them meet the caps."""
    from search import load_space, space_names

    session = settings(models, techniques=techniques)
    session.load_techniques()
    if space is None:
        for name in space_names():
            found = load_space(name)
            if json:
                emit({"space": name, "description": found.description, "raw": found.raw})
            else:
                out(f"{name:<10}  {found.raw:>7,}  {found.description}")
        return
    found = load_space(space, models=_roles(role))
    record: dict[str, Any] = {"space": found.name, "raw": found.raw}
    if count:
        record["valid"] = found.count().valid
    if cap or found.caps:
        record["planned"] = _planned(found, _numbers(cap, "--cap"), models)
    if json:
        emit(record)
        return
    out(f"{found.name}: {found.description}".rstrip(": "))
    for parameter in found.parameters:
        shown = ", ".join(str("+".join(c.value) if isinstance(c.value, tuple) else c.value) for c in parameter.choices)
        out(f"  {parameter.name}: {shown}")
    words = {"raw": "combinations", "valid": "architectures", "planned": "of them meet the caps"}
    out("; ".join(f"{record[key]:,} {word}" for key, word in words.items() if key in record))


def _planned(space: Any, caps: dict[str, float], models: Path | None) -> int:
    from architectures.places import Place
    from db.database import Database
    from flows.search_job import needs_speeds, planned_speeds, token_speeds
    from providers.book import ModelBook
    from search import plan_space
    from search.caps import read_caps

    book, held, speeds = ModelBook.load(models), read_caps(caps, Place("--cap")), None
    if needs_speeds(space, held):
        with Database.open() as database:
            speeds = token_speeds(database, space, book)
    return len(plan_space(space, book, caps=held, speeds=planned_speeds(speeds)).points)


def _search(job: SearchJob, report: Path | None, *, prefect: bool, json: bool) -> None:
    from colonnade.search_progress import SearchProgress
    from colonnade.searching import run_search

    if report is not None:
        _check_kind(report)
    with SearchProgress(job, quiet=json) as progress:
        try:
            view = asyncio.run(
                run_search(job, prefect=prefect, on_item=progress.item_done, on_round=progress.round_done)
            )
        except KeyboardInterrupt:
            progress.stop()
            say("Stopped. Every answer that was paid is kept; the same command goes on from here:")
            say(f"  {shlex.join(['colonnade', *sys.argv[1:]])}")
            raise
    _report(view, 10, json=json)
    if report is not None:
        _draw(view, report)
    if view.status == "over_budget":
        say(f"Stopped at the budget: {view.reason}")
        say("What was done is kept. With a higher cap, the same command goes on from here, or:")
        say(f"  colonnade search resume {view.id} --budget-…")
        raise typer.Exit(1)
    if not json:
        say(f"The architecture: colonnade search best {view.id}   The pictures: colonnade search plot {view.id}")


def _report(view: StudyView, trials: int, *, json: bool) -> None:
    from colonnade.study_tables import study_text

    if json:
        record = view.record()
        emit(record)
    else:
        out(study_text(view, trials=trials))


def _draw(view: StudyView, path: Path) -> None:
    from colonnade.report import draw_pictures, write_report

    _check_kind(path)
    if path.suffix:
        write_report(view, path)
        say(f"Report: {path}")
    else:
        draw_pictures(view, path)
        say(f"Pictures: {path}/")


def _check_kind(path: Path) -> None:
    if path.suffix.lower() not in ("", ".html", ".htm"):
        raise ConfigError(f"{path}: a report is an .html file, and pictures need a folder; '{path.suffix}' is neither.")


def _roles(values: list[str] | None) -> dict[str, tuple[str, ...]]:
    named = pairs(values or [], "--role")
    return {role: tuple(model.strip() for model in models.split(",")) for role, models in named.items()}


def _numbers(values: list[str] | None, option: str) -> dict[str, float]:
    read: dict[str, float] = {}
    for name, text in pairs(values or [], option).items():
        try:
            number = Decimal(text.removeprefix("$"))
            read[name] = int(number) if number == number.to_integral_value() else float(number)
        except ArithmeticError:
            raise ConfigError(f"{option} takes a name and a number such as calls=40, not {name}={text}.") from None
    return read


def _rungs(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        found = tuple(int(one) for one in text.split(","))
    except ValueError:
        found = ()
    if not found or any(a >= b for a, b in zip((0, *found), found, strict=False)):
        raise ConfigError(f"--rungs takes growing numbers of items such as 50,150,450, not {text!r}.")
    return found
