"""From the outcome of one item to the record that is stored."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import orjson

from architectures.trace import trace_json
from db.runs import ItemRecord

if TYPE_CHECKING:
    from architectures.outcome import Outcome
    from evals.task import Score
    from providers.scope import Scope

__all__ = ["Place", "answered", "failed"]


class Place(NamedTuple):
    """Where a record belongs."""

    run_id: str
    architecture_id: str
    item_id: str


def answered(
    place: Place,
    scope: Scope,
    outcome: Outcome,
    score: Score,
    judging: Scope,
    latency_s: float,
    *,
    keep_trace: bool = True,
) -> ItemRecord:
    """Make the record of an item that was answered and scored.

    Where the score is no plain right or wrong (`Score.status`), the error class holds that status.
    """
    judge = judging.totals()
    trace = {
        **({"outcome": trace_json(outcome)} if keep_trace else {}),
        "score": {"reason": score.reason, "source": score.source, "status": score.status},
        "scorer_calls": {"calls": judge.calls, "paid": judge.paid_calls, "cost": _dollars(judge.cost)},
        "failures": _failures(scope, judging),
    }
    plain = score.status == "scored"
    return replace(
        _used(place, scope, latency_s),
        status="ok",
        answer=score.answer,
        output=outcome.answer,
        score=score.value,
        correct=score.correct,
        error_class=None if plain else score.status,
        error_message=None if plain else score.reason,
        trace=_json(trace),
    )


def failed(place: Place, scope: Scope, error: Exception, latency_s: float) -> ItemRecord:
    """Make the record of an item on which the architecture failed: wrong, and said apart."""
    return replace(
        _used(place, scope, latency_s),
        status="failed",
        score=0.0,
        correct=False,
        error_class=type(error).__name__,
        error_message=str(error),
        trace=_json({"failures": _failures(scope)}),
    )


def _used(place: Place, scope: Scope, latency_s: float) -> ItemRecord:
    totals = scope.totals()
    return ItemRecord(
        run_id=place.run_id,
        architecture_id=place.architecture_id,
        item_id=place.item_id,
        calls_used=totals.calls,
        calls_paid=totals.paid_calls,
        prompt_tokens_used=totals.prompt_tokens,
        completion_tokens_used=totals.completion_tokens,
        prompt_tokens_paid=totals.paid_prompt_tokens,
        completion_tokens_paid=totals.paid_completion_tokens,
        cost_used=totals.cost,
        cost_paid=totals.paid_cost,
        latency_s=latency_s,
        created_at=datetime.now(UTC),
    )


def _failures(*scopes: Scope) -> list[dict[str, str]]:
    return [
        {"node": failure.node, "kind": failure.error.kind, "message": str(failure.error)}
        for scope in scopes
        for failure in scope.failures
    ]


def _dollars(cost: Decimal | None) -> str | None:
    return None if cost is None else format(cost, "f")


def _json(data: object) -> str:
    return orjson.dumps(data, option=orjson.OPT_SORT_KEYS).decode()
