"""One row of a batch: its question through the architecture, its score, and what goes into its part."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from db.errors import DataError
from flows.batch_report import uses_of, uses_row
from providers.scope import Scope

if TYPE_CHECKING:
    from architectures import Outcome
    from evals import Item, Score
    from flows.batch_input import InputRow
    from flows.batch_job import OpenBatch

__all__ = ["answer_row", "bad_row", "question_of"]


def question_of(batch: OpenBatch, row: InputRow) -> str:
    """Return the question of a row; raises `DataError` with the reason where there is none."""
    if row.reason:
        raise DataError(row.reason)
    taken = [name for name in batch.added.values() if name in row.values]
    if taken:
        raise DataError(f"the row has a column {taken[0]!r} itself, which the output adds; use --prefix")
    return batch.template.fill(row.values)


def bad_row(row: InputRow, error: DataError) -> dict[str, Any]:
    """Return the part's row for one that cannot be asked, now or later."""
    return {"row": row.number, "ok": False, "retry": False, "error": "DataError", "reason": str(error), "uses": []}


async def answer_row(batch: OpenBatch, row: InputRow) -> dict[str, Any]:
    """Answer and score a row and return what its part holds; an architecture that fails is its row's failure.

    Raises what ends the run for all rows: a spent budget, a refused key, any other `UserError`.
    """
    from evals.runner import attempt

    try:
        question = question_of(batch, row)
        item = _item(batch, row, question)
    except DataError as error:
        return bad_row(row, error)
    scope, judging = (Scope(batch.run_id, item.id, fresh=batch.job.fresh) for _ in range(2))
    begin = time.perf_counter()
    outcome = await attempt(batch.compiled, question, batch.session.gateway, scope, batch.answer_kind)
    latency_s = time.perf_counter() - begin
    if isinstance(outcome, Exception):
        why = {"error": type(outcome).__name__, "reason": str(outcome), "uses": uses_row(uses_of(scope))}
        return {"row": row.number, "ok": False, "retry": True, **why}
    score = await _scored(batch, item, outcome, judging)
    if batch.job.traces:
        await _keep_trace(batch, item, outcome, score, (scope, judging), latency_s)
    came: dict[str, Any] = {
        "row": row.number,
        "ok": True,
        "out": _output(batch, item, outcome, score, scope),
        "uses": uses_row(uses_of(scope, judging)),
    }
    return {**came, "skipped": outcome.skipped} if outcome.skipped else came


def _item(batch: OpenBatch, row: InputRow, question: str) -> Item:
    from evals import Item

    gold = "" if batch.job.gold is None else row.values.get(batch.job.gold)
    if gold is None:
        raise DataError(f"the column {batch.job.gold!r} holds no right answer")
    return Item(id=f"row-{row.number}", question=question, gold=str(gold))


async def _scored(batch: OpenBatch, item: Item, outcome: Outcome, judging: Scope) -> Score | None:
    from evals.task import Asking

    if batch.scorer is None:
        return None
    return await batch.scorer.score(item, outcome.answer, Asking(batch.session.gateway, judging))


def _output(batch: OpenBatch, item: Item, outcome: Outcome, score: Score | None, scope: Scope) -> dict[str, Any]:
    totals = scope.totals()
    values = {
        "answer": outcome.answer,
        "extracted": score.answer if score is not None else None,
        "score": score.value if score is not None else None,
        "cost": None if totals.cost is None else float(totals.cost),
        "paid": None if totals.paid_cost is None else float(totals.paid_cost),
        "tokens": totals.prompt_tokens + totals.completion_tokens,
        "calls": totals.calls,
        "trace": f"{batch.run_id}/{item.id}",
    }
    return {name: values[what] for what, name in batch.added.items()}


async def _keep_trace(
    batch: OpenBatch, item: Item, outcome: Outcome, score: Score | None, scopes: tuple[Scope, Scope], latency_s: float
) -> None:
    from evals.records import Place, answered
    from evals.task import Score

    place = Place(batch.run_id, batch.architecture.id, item.id)
    shown = score or Score(value=0.0, correct=False, answer=None, reason="", source="-")
    record = answered(place, scopes[0], outcome, shown, scopes[1], latency_s)
    if score is None:
        record = replace(record, score=None, correct=None)
    await batch.session.runs.save_items([record])
