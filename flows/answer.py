"""One question through one architecture, without Prefect (whose first flow costs seconds)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from db.errors import ConfigError, did_you_mean
from flows.evaluate import has_nominal_prices
from flows.session import Session, SessionSettings, open_session

if TYPE_CHECKING:
    from architectures import Outcome
    from nodes.base import AnswerKind
    from providers.tally import Totals

__all__ = ["Answer", "answer_kind_of", "answer_once"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to one question, what it cost, and how it came about."""

    run_id: str
    text: str
    outcome: Outcome
    totals: Totals
    seconds: float
    warnings: tuple[str, ...]
    nominal: bool
    """Some prices are nominal: they are paid to nobody."""

    def record(self, *, trace: bool) -> dict[str, object]:
        """Return the answer as data; with the full trace where it is wanted."""
        from architectures import trace_json

        totals = self.totals
        record: dict[str, object] = {
            "run_id": self.run_id,
            "answer": self.text,
            "calls": totals.calls,
            "calls_paid": totals.paid_calls,
            "prompt_tokens": totals.prompt_tokens,
            "completion_tokens": totals.completion_tokens,
            "dollars": totals.cost,
            "dollars_paid": totals.paid_cost,
            "nominal": self.nominal,
            "seconds": round(self.seconds, 3),
            "warnings": self.warnings,
        }
        return {**record, "trace": trace_json(self.outcome)} if trace else record


async def answer_once(
    architecture: str | Mapping[str, object],
    question: str,
    settings: SessionSettings,
    *,
    parameters: Mapping[str, object] | None = None,
    answer_kind: str = "auto",
    fresh: str = "",
) -> Answer:
    """Answer one question.

    Raises `UserError` for what cannot be run, `BudgetExceeded` at the cap, and `InsufficientCandidates` where every
    call that an answer could come from failed.
    """
    async with open_session(settings) as session:
        return await _answer(session, architecture, question, parameters or {}, answer_kind_of(answer_kind), fresh)


async def _answer(
    session: Session,
    source: str | Mapping[str, object],
    question: str,
    parameters: Mapping[str, object],
    answer_kind: AnswerKind,
    fresh: str,
) -> Answer:
    from architectures import compile_architecture, load
    from providers.scope import Scope

    if not question.strip():
        raise ConfigError("The question is empty; give a text.")
    architecture = load(source, session.book, parameters=parameters)
    compiled = compile_architecture(architecture.spec, session.book)
    await session.gateway.preflight(architecture.spec.models())
    record = session.runs.create(kind="run", name=architecture.name, architecture_id=architecture.id)
    scope = Scope(record.id, "question", fresh=fresh)
    began = time.perf_counter()
    finished = False
    try:
        outcome = await compiled.run(question, gateway=session.gateway, scope=scope, answer_kind=answer_kind)
        finished = True
    finally:
        session.runs.finish(record.id, "done" if finished else "failed")
    return Answer(
        run_id=record.id,
        text=outcome.answer,
        outcome=outcome,
        totals=scope.totals(),
        seconds=time.perf_counter() - began,
        warnings=architecture.warnings,
        nominal=has_nominal_prices(session.book, architecture.spec.models()),
    )


def answer_kind_of(name: str) -> AnswerKind:
    """Return an answer kind by its name; raises `ConfigError` with the nearest."""
    from nodes.base import AnswerKind

    kinds: tuple[AnswerKind, ...] = get_args(AnswerKind)
    for kind in kinds:
        if kind == name:
            return kind
    raise ConfigError(f"There is no kind of answer '{name}'.{did_you_mean(name, kinds)}")
