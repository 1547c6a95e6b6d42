"""`colonnade techniques`: what there is to compose."""

from __future__ import annotations

import typer

from colonnade.cli.console import emit, out
from colonnade.cli.options import JsonOption, TechniquesOption, settings

__all__ = ["app"]

app = typer.Typer(help="List the techniques, or show one.", invoke_without_command=True, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def listing(context: typer.Context, json: JsonOption = False, techniques: TechniquesOption = None) -> None:
    """List the techniques, one a line."""
    from nodes.registry import describe, names

    settings(None, techniques=techniques).load_techniques()
    if context.invoked_subcommand is not None:
        return
    described = [describe(name) for name in names()]
    if json:
        for one in described:
            emit(
                {
                    "name": one.name,
                    "summary": one.summary,
                    "calls": one.sections["Calls"],
                    "needs": one.needs,
                    "gives": one.gives,
                    "requires": one.requires,
                    "settings": [setting.name for setting in one.settings],
                }
            )
        return
    width = max(len(one.name) for one in described)
    out("\n".join(f"{one.name:<{width}}  {one.summary}" for one in described))


@app.command("show")
def show(name: str, json: JsonOption = False) -> None:
    """Show what a technique does, when to use it, its calls, its paper and its settings."""
    from dataclasses import asdict

    from nodes.docs import page
    from nodes.registry import describe

    if json:
        emit(asdict(describe(name)))
    else:
        out(page(name))
