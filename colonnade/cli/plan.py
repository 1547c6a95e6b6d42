"""`colonnade plan`: calls, tokens and dollars before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from colonnade.cli.console import dollars, emit, number, out, say
from colonnade.cli.options import (
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
    from architectures import Plan, Quantities
    from nodes.base import Range

__all__ = ["plan"]


def plan(
    architecture: str,
    question: Annotated[str | None, typer.Option(help="Plan for this question.")] = None,
    task: Annotated[str | None, typer.Option(help="Plan for all items of a task or data file.")] = None,
    items: ItemsOption = None,
    task_option: TaskOption = None,
    seed: int = 0,
    set_: SetOption = None,
    models: ModelsOption = None,
    techniques: TechniquesOption = None,
    json: JsonOption = False,
) -> None:
    """Foretell what an architecture will cost, without a call; low, likely, high."""
    from architectures import load
    from architectures import plan as foretell
    from providers.book import ModelBook

    if question is not None and task is not None:
        raise ConfigError("Give --question or --task, not both.")
    settings(models, techniques=techniques).load_techniques()
    book = ModelBook.load(models)
    loaded = load(architecture, book, parameters=parameters(set_))
    count = 1
    questions: str | list[str] | None = question
    if task is not None:
        from evals import load_task

        chosen = load_task(task, items=items, seed=seed, options=pairs(task_option or [], "--task-option")).items
        questions, count = [item.prompt for item in chosen], len(chosen)
    planned = foretell(loaded.spec, book, questions)
    for warning in loaded.warnings:
        say(f"Warning: {warning}")
    if json:
        emit({"name": loaded.name, "id": loaded.id, "items": count, **_record(planned, count)})
    else:
        out(_text(planned, count))


def _text(planned: Plan, count: int) -> str:
    from colonnade.tables import columns

    rows = [("node", "technique", "models", "calls", "prompt tokens", "reply tokens", "dollars")]
    rows += [(node.id, node.technique, ", ".join(node.models), *_cells(node.quantities)) for node in planned.nodes]
    rows.append(("one question", "", "", *_cells(planned.total)))
    if count > 1:
        rows.append((f"{number(count)} items", "", "", *_cells(planned.total.times(count))))
    lines = [columns(rows, left=frozenset({0, 1, 2}))]
    if planned.unpriced:
        lines.append(f"No price is known of {', '.join(planned.unpriced)}; give one in models.yaml.")
    if planned.unbounded:
        lines.append(f"No limit is known for the replies of {', '.join(planned.unbounded)}; give max_tokens.")
    return "\n".join([*lines, *planned.assumptions])


def _cells(quantities: Quantities) -> tuple[str, str, str, str]:
    cost = quantities.dollars
    if cost is None:
        shown = "$?"
    else:
        shown = (
            dollars(cost.likely)
            if cost.low == cost.high
            else f"{dollars(cost.likely)} ({dollars(cost.low)} – {dollars(cost.high)})"
        )
    return (_range(quantities.calls), _range(quantities.prompt_tokens), _range(quantities.completion_tokens), shown)


def _range(value: Range) -> str:
    if value.low == value.high:
        return number(value.likely)
    return f"{number(value.likely)} ({number(value.low)} – {number(value.high)})"


def _record(planned: Plan, count: int) -> dict[str, object]:
    return {
        "total": _quantities(planned.total.times(count)),
        "nodes": [
            {"id": node.id, "technique": node.technique, "models": node.models, **_quantities(node.quantities)}
            for node in planned.nodes
        ],
        "exact_calls": planned.exact_calls,
        "unpriced": planned.unpriced,
        "unbounded": planned.unbounded,
        "assumptions": planned.assumptions,
    }


def _quantities(quantities: Quantities) -> dict[str, object]:
    return {name: None if value is None else list(value) for name, value in quantities._asdict().items()}
