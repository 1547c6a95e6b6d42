"""`colonnade techniques`: what there is to compose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import typer

from colonnade.cli.console import emit, out
from colonnade.cli.options import JsonOption, TechniquesOption, settings
from db.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from nodes.describe import Description

__all__ = ["app"]

app = typer.Typer(
    help="List techniques, scorers and presets, or show one.", invoke_without_command=True, rich_markup_mode=None
)


class _Entry(NamedTuple):
    kind: Literal["technique", "scorer", "preset"]
    group: str
    name: str
    summary: str
    calls: str
    paper: str
    needs: tuple[str, ...]
    gives: tuple[str, ...]
    requires: tuple[str, ...]
    settings: tuple[str, ...]


@app.callback(invoke_without_command=True)
def listing(context: typer.Context, json: JsonOption = False, techniques: TechniquesOption = None) -> None:
    """List techniques by group, then the scorers that they may use, then the presets that are made of them."""
    settings(None, techniques=techniques).load_techniques()
    if context.invoked_subcommand is not None:
        return
    entries = [*_techniques(), *_scorers(), *_presets()]
    if json:
        for entry in entries:
            emit(entry._asdict())
        return
    width = max(len(entry.name) for entry in entries)
    heading = ""
    for entry in entries:
        title = entry.group if entry.kind == "technique" else f"{entry.kind}s"
        if title != heading:
            out(f"{title}:" if not heading else f"\n{title}:")
            heading = title
        out(f"  {entry.name:<{width}}  {entry.summary}")


@app.command("show")
def show(name: str, json: JsonOption = False) -> None:
    """Show what a technique, a scorer or a preset does, when to use it, its calls, its paper and its settings.

    Where a technique has the name too, write `scorer:NAME` or `preset:NAME`.
    """
    from dataclasses import asdict

    from nodes.docs import page

    about = _described(name)
    if about is not None:
        if json:
            emit(asdict(about))
        else:
            out(page(about))
    else:
        _show_preset(name, json=json)


def _show_preset(name: str, *, json: bool) -> None:
    from architectures.preset import preset_info, preset_names
    from architectures.preset_page import preset_page
    from nodes.registry import names
    from nodes.scorers import scorer_names

    bare = name.removeprefix("preset:")
    if bare not in preset_names():
        known = (*names(), *scorer_names(), *preset_names())
        raise SpecError(f"There is no technique, scorer or preset {name!r}.{did_you_mean(name, known)}")
    found = preset_info(bare)
    if json:
        emit({**found._asdict(), "parameters": {key: one._asdict() for key, one in found.parameters.items()}})
    else:
        out(preset_page(found))


def _described(name: str) -> Description | None:
    from nodes.registry import describe, names
    from nodes.scorers import describe_scorer, scorer_names

    if name in names():
        return describe(name)
    bare = name.removeprefix("scorer:")
    return describe_scorer(bare) if bare in scorer_names() else None


def _techniques() -> list[_Entry]:
    from nodes.catalog import GROUPS
    from nodes.registry import describe, names

    built_in = {name: group for group, members in GROUPS.items() for name in members}
    others = [name for name in names() if name not in built_in]
    grouped = [*built_in.items(), *((name, "your own") for name in others)]
    return [_entry("technique", group, describe(name)) for name, group in grouped]


def _scorers() -> list[_Entry]:
    from nodes.catalog import SCORERS
    from nodes.scorers import describe_scorer, scorer_names

    groups = {name: group for group, members in SCORERS.items() for name in members}
    return [_entry("scorer", groups.get(name, "your own"), describe_scorer(name)) for name in scorer_names()]


def _entry(kind: Literal["technique", "scorer"], group: str, about: Description) -> _Entry:
    return _Entry(
        kind=kind,
        group=group,
        name=about.name,
        summary=about.summary,
        calls=about.sections["Calls"],
        paper=about.sections["Paper"],
        needs=about.needs,
        gives=about.gives,
        requires=about.requires,
        settings=tuple(setting.name for setting in about.settings),
    )


def _presets() -> list[_Entry]:
    from architectures.preset import preset_info, preset_names

    found = [preset_info(name) for name in preset_names()]
    return [
        _Entry(
            kind="preset",
            group=one.group,
            name=one.name,
            summary=one.description,
            calls=f"colonnade plan preset:{one.name}",
            paper=one.paper,
            needs=(),
            gives=("candidates",),
            requires=(),
            settings=tuple(one.parameters),
        )
        for one in found
    ]
