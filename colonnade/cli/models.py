"""`colonnade models`: which models there are, what they cost, and whether they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from colonnade.cli.console import emit, out, say
from colonnade.cli.options import JsonOption, ModelsOption

if TYPE_CHECKING:
    from providers.book import ModelBook
    from providers.models import Feature, ModelSpec

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
    probe: Annotated[bool, typer.Option(help="Try what each endpoint can do, with a dozen tiny requests.")] = True,
    json: JsonOption = False,
) -> None:
    """Ask each endpoint for its models and try what it can do; exit code 1 where one cannot be used.

    What is found is kept in .colonnade/capabilities.json, for what models.yaml leaves open.
    """
    from providers.book import ModelBook
    from providers.builtin import EMBEDDED

    book = ModelBook.load(models)
    wanted = names or [*book.names(), *(f"embedded/{model}" for model in EMBEDDED)]
    endpoints = [one for name in wanted if not name.endswith("/*") for one in book.resolve(name).replicas()]
    hosted = sum(one.hosted for one in endpoints)
    if probe and hosted:
        from providers.probe import MOST_REQUESTS, MOST_TOKENS

        say(
            f"Sending at most {MOST_REQUESTS} requests with {MOST_TOKENS} tokens of answers in all to each of {hosted} "
            f"endpoints; --no-probe asks for their models alone."
        )
    findings = asyncio.run(_findings(book, endpoints, probing=probe))
    for finding in findings:
        if json:
            emit(finding._asdict() | {"ok": not finding.detail})
        else:
            out(_line(finding))
    if any(finding.detail for finding in findings):
        raise typer.Exit(1)


class Finding(NamedTuple):
    """What is known of one endpoint after a look at it."""

    model: str
    address: str | None
    detail: str
    """What is wrong; empty where nothing is."""
    capabilities: Mapping[Feature, bool]
    """What was tried just now."""
    contradicted: tuple[str, ...]
    """Features of which models.yaml says otherwise, and it stands."""


async def _findings(book: ModelBook, endpoints: Sequence[ModelSpec], *, probing: bool) -> list[Finding]:
    return [await _finding(book, spec, probing=probing) for spec in endpoints]


async def _finding(book: ModelBook, spec: ModelSpec, *, probing: bool) -> Finding:
    from db.errors import UserError
    from providers.errors import ProviderError
    from providers.found import record_found
    from providers.preflight import look
    from providers.probe import probe
    from providers.registry import make_transport

    nothing = Finding(spec.name, spec.base_url, "", {}, ())
    try:
        key = book.api_key(spec)
        transport = make_transport(spec, key)
        try:
            wrong = await look(spec, transport) if spec.hosted else None
        finally:
            await transport.aclose()
        if wrong is not None:
            return nothing._replace(detail=wrong.sentence)
        if not probing or not spec.hosted:
            return nothing
        found = (await probe(spec, key)).capabilities
    except (ProviderError, UserError) as error:
        return nothing._replace(detail=str(error))
    record_found(spec, found)
    stated = {name: spec.capabilities.has(name) for name in found if name in spec.settled}
    contradicted = tuple(sorted(name for name, value in stated.items() if value != found[name]))
    return nothing._replace(capabilities=found, contradicted=contradicted)


def _line(finding: Finding) -> str:
    told = [f"{name}: {'yes' if value else 'no'}" for name, value in sorted(finding.capabilities.items())]
    told += [f"(models.yaml says otherwise of {', '.join(finding.contradicted)})"] if finding.contradicted else []
    address = f" at {finding.address}" if finding.address else ""
    place = f"{'WRONG' if finding.detail else 'ok   '}  {finding.model}{address}"
    return "  ".join(part for part in (place, finding.detail, ", ".join(told)) if part)


def _price(spec: ModelSpec) -> str:
    if spec.usd_per_hour is not None:
        return f"${spec.usd_per_hour} per hour and endpoint"
    if spec.price is None:
        return "$?"
    nominal = " (nominal)" if spec.price.nominal else ""
    return f"${spec.price.prompt} / ${spec.price.completion} per million tokens{nominal}"


def _record(spec: ModelSpec) -> dict[str, object]:
    return spec.model_dump(mode="json", exclude={"api_key_env"}) | {"key_variable": spec.api_key_env}
