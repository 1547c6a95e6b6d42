"""`colonnade models`: which models there are, what they cost, and whether they answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from colonnade.cli.console import emit, out
from colonnade.cli.options import JsonOption, ModelsOption

if TYPE_CHECKING:
    from providers.models import ModelSpec

__all__ = ["app"]

app = typer.Typer(
    help="List the models, or check that they answer.", invoke_without_command=True, rich_markup_mode=None
)


@app.callback(invoke_without_command=True)
def listing(context: typer.Context, models: ModelsOption = None, json: JsonOption = False) -> None:
    """List the models of models.yaml and those that are built in."""
    from providers.book import ModelBook
    from providers.builtin import EMBEDDED

    if context.invoked_subcommand is not None:
        return
    book = ModelBook.load(models)
    for name in (*book.names(), *(f"embedded/{model}" for model in EMBEDDED)):
        spec = book.resolve(name)
        if json:
            emit(_record(spec))
        else:
            out(f"{name:<24} {spec.transport:<9} {spec.model:<28} {_price(spec)}")


@app.command("check")
def check(
    names: Annotated[list[str] | None, typer.Argument(help="Which models; none means all.")] = None,
    models: ModelsOption = None,
    json: JsonOption = False,
) -> None:
    """Ask each model's endpoint for its model list; exit code 1 where one does not answer."""
    from db.errors import UserError
    from providers.book import ModelBook
    from providers.builtin import EMBEDDED
    from providers.gateway import Gateway

    book = ModelBook.load(models)

    async def ask() -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        async with Gateway(book, None) as gateway:
            for name in names or [*book.names(), *(f"embedded/{model}" for model in EMBEDDED)]:
                try:
                    await gateway.preflight([name])
                except UserError as error:
                    found.append((name, str(error)))
                else:
                    found.append((name, ""))
        return found

    findings = asyncio.run(ask())
    for name, wrong in findings:
        if json:
            emit({"model": name, "ok": not wrong, "detail": wrong})
        else:
            out(f"{'WRONG' if wrong else 'ok   '}  {name}  {wrong}".rstrip())
    if any(wrong for _, wrong in findings):
        raise typer.Exit(1)


def _price(spec: ModelSpec) -> str:
    if spec.price is None:
        return "$?"
    nominal = " (nominal)" if spec.price.nominal else ""
    return f"${spec.price.prompt} / ${spec.price.completion} per million tokens{nominal}"


def _record(spec: ModelSpec) -> dict[str, object]:
    return spec.model_dump(mode="json", exclude={"api_key_env"}) | {"key_variable": spec.api_key_env}
