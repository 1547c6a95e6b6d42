"""`colonnade coverage`: how many samples a run's questions need."""

from __future__ import annotations

from typing import Annotated

import typer

from colonnade.cli.console import emit, out
from colonnade.cli.options import JsonOption

__all__ = ["coverage"]


def coverage(
    run_id: str,
    node: Annotated[str | None, typer.Option(help="Whose samples; else the node that drew most.")] = None,
    target: Annotated[
        list[float] | None, typer.Option(help="A coverage, such as 0.9, to foretell samples for; may be repeated.")
    ] = None,
    samples: Annotated[
        list[int] | None, typer.Option(help="Samples to foretell the coverage of; may be repeated.", min=1)
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show pass@k of an evaluation with several samples an item, the law fitted to it, and what it foretells."""
    from colonnade.coverage import coverage_record, coverage_text, run_coverage
    from db.errors import ConfigError

    targets, ks = tuple(target or ()), tuple(samples or ())
    for one in targets:
        if not 0 < one < 1:
            raise ConfigError(f"--target takes a coverage between 0 and 1, both excluded, such as 0.9, not {one:g}.")
    found = run_coverage(run_id, node=node)
    if json:
        emit(coverage_record(found, targets=targets, ks=ks))
    else:
        out(coverage_text(found, targets=targets, ks=ks))
