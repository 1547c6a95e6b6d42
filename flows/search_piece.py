"""One architecture on some items of a study: what is scored at a time, by a Prefect task or directly."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
from pydantic import BaseModel, ConfigDict

from db.errors import ColonnadeError
from flows.chunks import tell_watchers
from flows.search_job import OpenStudy
from flows.study_view import Spent
from providers.errors import CallTimeout, ConnectionFailed, Overloaded, RateLimited
from search.objective import Measured

if TYPE_CHECKING:
    from db.runs import ItemRecord

__all__ = ["OPEN_STUDIES", "ModelsAway", "Piece", "PieceDone", "PieceRunner", "run_piece", "used_of"]

_PASSING: Final = frozenset(one.kind for one in (CallTimeout, ConnectionFailed, Overloaded, RateLimited))


class Piece(BaseModel):
    """One architecture on some items of a study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study_id: str
    title: str
    architecture: dict[str, Any]
    items: tuple[str, ...]
    fresh: str = ""
    keep_trace: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceDone:
    """What came of a piece."""

    measured: tuple[Measured, ...]
    """One for each item, in the order of the piece; fewer where it was stopped."""
    used: Spent
    failed: int = 0
    """Items that failed; their quality is 0."""
    stopped: str = ""
    """Why it was not finished: the budget's own words."""


PieceRunner = Callable[[Piece], Awaitable[PieceDone]]
"""Runs one piece; the Prefect task wraps `run_piece`."""


class ModelsAway(ColonnadeError):
    """The models of a piece answered nothing, for reasons that pass; its scores would say nothing of it."""


OPEN_STUDIES: dict[str, OpenStudy] = {}
"""The studies that are under way in this process, by id, for the task that is given a piece."""


async def run_piece(piece: Piece) -> PieceDone:
    """Score the items of a piece that the database does not hold yet."""
    from architectures import compile_architecture, load
    from architectures.canonical import canonical_json
    from evals import evaluate_items

    study = OPEN_STUDIES[piece.study_id]
    session, items = study.session, study.items
    architecture = load(piece.architecture, session.book)
    session.runs.save_architecture(
        architecture.id, name=architecture.name, canonical=canonical_json(architecture.spec).decode()
    )
    evaluated = await evaluate_items(
        compile_architecture(architecture.spec, session.book),
        [items[item_id] for item_id in piece.items],
        study.task,
        session.gateway,
        session.runs,
        study.id,
        architecture_id=architecture.id,
        concurrency=max(1, study.job.concurrency // study.job.parallel),
        fresh=piece.fresh,
        retry_failed=True,
        on_item=lambda _: tell_watchers(study.id),
        keep_trace=piece.keep_trace,
    )
    if not evaluated.stopped and (why := _away(evaluated.results)):
        raise ModelsAway(
            f"No item of {piece.title} could be answered ({why}); nothing of that counts: go on when the models "
            f"answer again (colonnade search resume {study.id})."
        )
    return PieceDone(
        measured=tuple(map(_measured, evaluated.results)),
        used=used_of(evaluated.results),
        failed=sum(one.status == "failed" for one in evaluated.results),
        stopped=str(evaluated.stopped or ""),
    )


def _away(records: Sequence[ItemRecord]) -> str:
    """Return why nothing was answered where every call failed for a reason that passes; else nothing."""
    failures = [failure for one in records for failure in orjson.loads(one.trace).get("failures", ())]
    passing = all(failure["kind"] in _PASSING for failure in failures)
    if not failures or not passing or any(one.status == "ok" for one in records):
        return ""
    return str(failures[-1]["message"])


def used_of(records: Sequence[ItemRecord]) -> Spent:
    """Add up what items used."""
    total = Spent()
    for one in records:
        tokens = one.prompt_tokens_used + one.completion_tokens_used
        total = total.plus(Spent(calls_used=one.calls_used, tokens_used=tokens, dollars_used=one.cost_used))
    return total


def _measured(record: ItemRecord) -> Measured:
    return Measured(
        quality=record.score or 0.0,
        dollars=float(record.cost_used or 0),
        calls=float(record.calls_used),
        seconds=record.latency_s,
    )
