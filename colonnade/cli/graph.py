"""`colonnade graph`: an architecture as a drawing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from colonnade.cli.console import emit, out, say
from colonnade.cli.options import JsonOption, SetOption, TechniquesOption, parameters, settings

__all__ = ["graph"]


def graph(
    architecture: str,
    output: Annotated[
        Path | None, typer.Option("--out", help="Write here; .svg gives a picture, anything else Mermaid.")
    ] = None,
    set_: SetOption = None,
    techniques: TechniquesOption = None,
    json: JsonOption = False,
) -> None:
    """Draw an architecture: Mermaid text to stdout, or a file."""
    from architectures import draw_mermaid, draw_svg, load

    settings(None, techniques=techniques).load_techniques()
    loaded = load(architecture, parameters=parameters(set_))
    if output is None:
        text = draw_mermaid(loaded.spec)
        if json:
            emit({"name": loaded.name, "id": loaded.id, "mermaid": text})
        else:
            out(text)
        return
    drawn = draw_svg(loaded.spec) if output.suffix == ".svg" else draw_mermaid(loaded.spec)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(drawn, encoding="utf-8")
    if json:
        emit({"name": loaded.name, "id": loaded.id, "path": str(output)})
    else:
        say(f"Drawn: {output}")
