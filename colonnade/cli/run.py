"""`colonnade run`: one question through one architecture."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from colonnade.cli.console import cached_note, dollars, emit, number, out, say, seconds
from colonnade.cli.options import (
    AnswerOption,
    BudgetCalls,
    BudgetDollars,
    BudgetTokens,
    CacheExpiryOption,
    CacheOption,
    JsonOption,
    ModelsOption,
    SetOption,
    TechniquesOption,
    parameters,
    settings,
)

if TYPE_CHECKING:
    from flows.answer import Answer

__all__ = ["run"]


def run(
    architecture: str,
    question: str,
    models: ModelsOption = None,
    set_: SetOption = None,
    answer: AnswerOption = "auto",
    fresh: Annotated[str, typer.Option(help="Name a series of samples of its own.")] = "",
    trace: Annotated[bool, typer.Option("--trace", help="Also show what every node handed on.")] = False,
    techniques: TechniquesOption = None,
    cache: CacheOption = "on",
    cache_expiry: CacheExpiryOption = None,
    budget_dollars: BudgetDollars = None,
    budget_tokens: BudgetTokens = None,
    budget_calls: BudgetCalls = None,
    json: JsonOption = False,
) -> None:
    """Answer a question with an architecture (a file, one of Archon's files, or preset:NAME)."""
    from flows.answer import answer_once

    chosen = settings(
        models,
        cache,
        dollars=budget_dollars,
        tokens=budget_tokens,
        calls=budget_calls,
        techniques=techniques,
        cache_expiry=cache_expiry,
    )
    result = asyncio.run(
        answer_once(architecture, question, chosen, parameters=parameters(set_), answer_kind=answer, fresh=fresh)
    )
    for warning in result.warnings:
        say(f"Warning: {warning}")
    if json:
        emit(result.record(trace=trace))
        return
    if trace:
        _show_trace(result)
    out(result.text)
    totals = result.totals
    tokens = totals.prompt_tokens + totals.completion_tokens
    price = dollars(totals.cost) + (" nominal" if result.nominal else "")
    say(
        f"{number(totals.calls)} calls, {number(tokens)} tokens, {price}, "
        f"{seconds(result.seconds)}, run {result.run_id}"
    )
    if totals.cached_calls:
        say(cached_note(totals.cached_calls, totals.calls, totals.cost, totals.paid_cost))


def _show_trace(result: Answer) -> None:
    for node, state in result.outcome.trace.items():
        say(f"── {node}: {len(state.candidates)} candidates")
        for candidate in state.candidates:
            scores = " ".join(f"{name}={value:.2f}" for name, value in candidate.scores.items())
            say(f"   {candidate.id} ({candidate.model or '-'}) {scores}")
            say("      " + candidate.text.replace("\n", "\n      "))
    for note in result.outcome.state.notes:
        say(f"   note: {note.node}: {note.kind}: {note.detail}")
