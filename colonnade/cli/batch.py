"""`colonnade batch`: one architecture over a large file, as cheaply as the deadline allows."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from colonnade.cli.console import dollars, emit, number, out, say
from colonnade.cli.options import (
    BudgetCalls,
    BudgetDollars,
    BudgetTokens,
    CacheOption,
    JsonOption,
    ModelsOption,
    SetOption,
    TechniquesOption,
    length_of_time,
    parameters,
    settings,
)
from db.errors import ConfigError

if TYPE_CHECKING:
    from flows.batch_job import BatchJob, RowOrder
    from flows.batch_parts import Existing
    from flows.batch_report import BatchReport
    from flows.session import BatchMode, SessionSettings

__all__ = ["app"]

app = typer.Typer(
    help="Run an architecture over a large file of inputs, resumably and as cheaply as the deadline allows.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

InputArgument = Annotated[Path, typer.Argument(metavar="INPUT", help="JSONL, CSV or Parquet.")]
OutOption = Annotated[Path, typer.Option("--out", help="JSONL or Parquet; failed rows go to OUT.failed.jsonl.")]
TemplateOption = Annotated[str | None, typer.Option(help="The question: '… {column} …', or Jinja with {{ column }}.")]
QuestionOption = Annotated[str | None, typer.Option(help="The column that is the question; else 'question'.")]
GoldOption = Annotated[str | None, typer.Option(help="Column of the right answer, to score each row.")]
ScorerOption = Annotated[str, typer.Option(help="stated, numeric, math, choice, exact, text, regex or judge.")]
ScorerModelOption = Annotated[str | None, typer.Option(help="Model of the scorer judge.")]
AnswerOption = Annotated[str, typer.Option("--answer", help="How answers are compared, without a scorer.")]
PrefixOption = Annotated[str, typer.Option(help="Stands before the names of the columns that are added.")]
ChunkOption = Annotated[
    int | None, typer.Option(help="Rows in one part; else 500, and 5,000 where calls wait for each other.", min=1)
]
ConcurrencyOption = Annotated[int, typer.Option(help="Rows in flight.", min=1)]
BatchOption = Annotated[bool, typer.Option("--batch", help="Use the providers' batch interfaces, at their price.")]
DeadlineOption = Annotated[
    timedelta | None,
    typer.Option(parser=length_of_time, metavar="TIME", help="With --batch: be done in 6h, at full price if need be."),
]
LingerOption = Annotated[float, typer.Option(help="Seconds without a new call before a batch goes out.", min=0.01)]
OneModelOption = Annotated[
    bool, typer.Option("--one-model-at-a-time", help="Ask one model after the other, for a machine that holds one.")
]
OrderOption = Annotated[str, typer.Option(help="input, or prefix: rows that begin alike follow each other.")]
TracesOption = Annotated[bool, typer.Option("--traces", help="Keep the way to each answer in the database.")]
FreshOption = Annotated[str, typer.Option(help="Name a series of samples of its own.")]
PrefectOption = Annotated[bool, typer.Option("--prefect/--no-prefect", help="Run as a Prefect flow, or plainly.")]


@app.command("run")
def run(
    architecture: Annotated[str, typer.Argument(help="A file, Archon's file, or preset:NAME.")],
    input_: InputArgument,
    out_file: OutOption,
    template: TemplateOption = None,
    question_column: QuestionOption = None,
    gold: GoldOption = None,
    scorer: ScorerOption = "stated",
    scorer_model: ScorerModelOption = None,
    answer: AnswerOption = "auto",
    prefix: PrefixOption = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that stands.")] = False,
    resume_: Annotated[bool, typer.Option("--resume", help="Go on with an output that stands.")] = False,
    batch: BatchOption = False,
    deadline: DeadlineOption = None,
    linger: LingerOption = 2.0,
    one_model: OneModelOption = False,
    order: OrderOption = "input",
    concurrency: ConcurrencyOption = 64,
    chunk: ChunkOption = None,
    traces: TracesOption = False,
    fresh: FreshOption = "",
    set_: SetOption = None,
    models: ModelsOption = None,
    techniques: TechniquesOption = None,
    cache: CacheOption = "on",
    budget_dollars: BudgetDollars = None,
    budget_tokens: BudgetTokens = None,
    budget_calls: BudgetCalls = None,
    prefect: PrefectOption = True,
    json: JsonOption = False,
) -> None:
    """Answer every row. A run that was killed goes on by the same command, and pays for nothing twice."""
    from colonnade.batching import make_batch_job

    if overwrite and resume_:
        raise ConfigError("Give --overwrite or --resume, not both.")
    session = settings(
        models, cache, dollars=budget_dollars, tokens=budget_tokens, calls=budget_calls, techniques=techniques
    )
    session = _way(session, batch=batch, deadline=deadline, linger=linger, one_model=one_model)
    job = make_batch_job(
        architecture,
        input_,
        session,
        out=out_file,
        template=template,
        question_column=question_column,
        parameters=parameters(set_),
        gold=gold,
        scorer=scorer,
        scorer_model=scorer_model,
        answer=answer,
        prefix=prefix,
        deadline=deadline,
        concurrency=concurrency,
        chunk=chunk or _chunk(session),
        order=_order(order),
        traces=traces,
        fresh=fresh,
    )
    _run(job, "overwrite" if overwrite else "resume" if resume_ else "ask", prefect=prefect, json=json)


@app.command("plan")
def plan(
    architecture: Annotated[str, typer.Argument(help="A file, Archon's file, or preset:NAME.")],
    input_: InputArgument,
    pilot: Annotated[
        int,
        typer.Option(help="Answer so many rows first and correct the plan by them; they are not paid again.", min=0),
    ] = 0,
    template: TemplateOption = None,
    question_column: QuestionOption = None,
    gold: GoldOption = None,
    scorer: ScorerOption = "stated",
    scorer_model: ScorerModelOption = None,
    answer: AnswerOption = "auto",
    concurrency: ConcurrencyOption = 64,
    fresh: FreshOption = "",
    set_: SetOption = None,
    models: ModelsOption = None,
    techniques: TechniquesOption = None,
    budget_dollars: BudgetDollars = None,
    json: JsonOption = False,
) -> None:
    """Foretell calls, tokens, dollars and hours by node and model, for each way of running the batch."""
    from colonnade.batch_tables import plan_record, plan_text
    from colonnade.batching import foretell_batch, make_batch_job

    job = make_batch_job(
        architecture,
        input_,
        settings(models, dollars=budget_dollars, techniques=techniques).model_copy(update={"caps_per_run": True}),
        template=template,
        question_column=question_column,
        parameters=parameters(set_),
        gold=gold,
        scorer=scorer,
        scorer_model=scorer_model,
        answer=answer,
        concurrency=concurrency,
        fresh=fresh,
    )
    planned = asyncio.run(foretell_batch(job, pilot=pilot))
    if json:
        emit(plan_record(planned))
    else:
        out(plan_text(planned))


@app.command("resume")
def resume(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id (colonnade batch list).")],
    out_file: Annotated[Path | None, typer.Option("--out", help="Write the output elsewhere.")] = None,
    batch: Annotated[
        bool | None, typer.Option("--batch/--no-batch", help="Change whether it uses the providers' batch interfaces.")
    ] = None,
    deadline: DeadlineOption = None,
    models: ModelsOption = None,
    techniques: TechniquesOption = None,
    budget_dollars: BudgetDollars = None,
    budget_tokens: BudgetTokens = None,
    budget_calls: BudgetCalls = None,
    prefect: PrefectOption = True,
    json: JsonOption = False,
) -> None:
    """Go on with a batch as it was begun, and ask its failed rows again; without caps, those that it had hold."""
    from colonnade.batching import stored_batch_job

    session = settings(models, dollars=budget_dollars, tokens=budget_tokens, calls=budget_calls, techniques=techniques)
    mode: BatchMode | None = None if batch is None else "on" if batch else "off"
    job = stored_batch_job(run_id, session, out=out_file, batch=mode, deadline=deadline)
    _run(job, "resume", prefect=prefect, json=json)


@app.command("cancel")
def cancel(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id.")],
    models: ModelsOption = None,
    techniques: TechniquesOption = None,
    json: JsonOption = False,
) -> None:
    """Cancel what a run has at providers' batch interfaces; what was answered by then is booked and kept."""
    from colonnade.batching import cancel_batch

    cancelled = asyncio.run(cancel_batch(run_id, settings(models, techniques=techniques)))
    if json:
        emit(cancelled._asdict())
    else:
        kept = f"{number(cancelled.calls)} calls had been answered and are kept, for {dollars(cancelled.dollars)}"
        out(f"{cancelled.batches} batches were cancelled; {kept}.")


@app.command("show")
def show(run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id.")], json: JsonOption = False) -> None:
    """Show what a batch came to: rows, dollars by node and model, what was saved; or how far it is."""
    from colonnade.batching import UnderWay, show_batch

    shown = show_batch(run_id)
    if not isinstance(shown, UnderWay):
        _report(shown, json=json)
    elif json:
        emit(shown._asdict())
    else:
        paid = f"{number(shown.calls)} calls paid with {dollars(shown.dollars)}"
        out(f"{run_id}  {shown.name}: {shown.chunks} chunks finished, {paid}, {shown.batches} batches at providers")
        out(f"If it was killed, it goes on with: colonnade batch resume {run_id}")


@app.command("list")
def listing(json: JsonOption = False) -> None:
    """List the batches, newest first."""
    from db.database import Database
    from db.runs import RunStore

    with Database.open() as database:
        records = RunStore(database).list(limit=100, kind="batch")
    for record in records:
        if json:
            emit({"run": record.id, "status": record.status, "architecture": record.name, "input": record.task})
        else:
            out(f"{record.id}  {record.started_at:%Y-%m-%d %H:%M}  {record.status:<11}  {record.name}  {record.task}")
    if not records and not json:
        out("No batches yet.")


def _way(
    session: SessionSettings, *, batch: bool, deadline: timedelta | None, linger: float, one_model: bool
) -> SessionSettings:
    """Set how calls are made; the caps hold for the run over all its goes."""
    if deadline is not None and not batch:
        raise ConfigError("--deadline chooses between a batch interface and immediate calls; give --batch with it.")
    if batch and one_model:
        raise ConfigError("Give --batch or --one-model-at-a-time, not both.")
    chosen: dict[str, Any] = {"caps_per_run": True, "batch_linger_s": linger, "one_model_at_a_time": one_model}
    return session.model_copy(update={**chosen, "batch": "on" if batch else "off"})


def _chunk(session: SessionSettings) -> int:
    return 5_000 if session.batch == "on" or session.one_model_at_a_time else 500


def _order(name: str) -> RowOrder:
    if name == "prefix":
        return "prefix"
    if name == "input":
        return "input"
    raise ConfigError(f"--order takes input or prefix, not {name!r}.")


def _run(job: BatchJob, existing: Existing, *, prefect: bool, json: bool) -> None:
    from colonnade.batching import count_rows, run_batch
    from colonnade.progress import Progress

    with Progress([job.title], [0 if json else count_rows(job)], quiet=json) as progress:
        try:
            watcher = None if json else lambda session, run_id: progress.item_done(session, 0, run_id)
            report = asyncio.run(run_batch(job, existing=existing, prefect=prefect, watcher=watcher))
        except KeyboardInterrupt:
            progress.stop()
            say("Stopped. Every answer that was paid is kept; the same command goes on from here.")
            raise
    _report(report, json=json)
    if report.status == "over_budget":
        say(f"Stopped at the budget: {report.reason}")
        say("What was done is kept. With a higher cap it goes on from here:")
        caps = [f"--budget-{name} …" for name, cap in job.session.caps if cap is not None]
        say(f"  colonnade batch resume {report.run_id} {' '.join(caps)}".rstrip())
        raise typer.Exit(1)


def _report(report: BatchReport, *, json: bool) -> None:
    from colonnade.batch_tables import batch_text

    if json:
        emit(report.record())
    else:
        out(batch_text(report))
