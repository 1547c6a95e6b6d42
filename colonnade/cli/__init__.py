"""The command line: one module a group of commands, each importing what it needs when it is called."""

from __future__ import annotations

import typer

from colonnade.cli import (
    batch,
    cache,
    calls,
    compare,
    coverage,
    doctor,
    evaluate,
    graph,
    models,
    plan,
    run,
    runs,
    search,
    serve,
    techniques,
    watch,
)

__all__ = ["app"]

app = typer.Typer(
    name="colonnade",
    help="Compose, run, evaluate and search architectures of inference-time techniques, under a budget.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("eval")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("coverage")(coverage.coverage)
app.command("graph")(graph.graph)
app.add_typer(techniques.app, name="techniques")
app.add_typer(models.app, name="models")
app.command("serve-model")(serve.serve_model)
app.add_typer(search.app, name="search")
app.add_typer(batch.app, name="batch")
app.add_typer(watch.app, name="watch")
app.add_typer(runs.app, name="runs")
app.command("calls")(calls.calls)
app.add_typer(cache.app, name="cache")
app.command("doctor")(doctor.doctor)


@app.callback(invoke_without_command=True)
def root(
    version: bool = typer.Option(False, "--version", help="Print the version and stop.", is_eager=True),
) -> None:
    """Compose, run, evaluate and search architectures of inference-time techniques, under a budget."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"colonnade {installed('colonnade')}")
        raise typer.Exit
