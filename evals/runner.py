"""One architecture over many items: a bounded window in flight, each result durable before it is reported."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from db.errors import BudgetExceeded, ConfigError, UserError
from evals.records import Place, answered, failed
from evals.task import Asking, Item, Task
from providers.errors import AuthError
from providers.scope import Scope
from providers.telemetry import span, totals_attributes

if TYPE_CHECKING:
    from architectures.outcome import Outcome
    from db.runs import ItemRecord, RunStore
    from nodes.base import AnswerKind
    from providers.gateway import Gateway

__all__ = ["Evaluated", "Runnable", "attempt", "evaluate_items"]

_ENDS_THE_RUN = (AuthError, BudgetExceeded, UserError)


class Runnable(Protocol):
    """What can be evaluated; a compiled architecture is one."""

    async def run(self, question: str, *, gateway: Gateway, scope: Scope, answer_kind: AnswerKind = "auto") -> Outcome:
        """Answer one question."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What came of an evaluation or of a part of it."""

    results: tuple[ItemRecord, ...]
    """Of the items asked for, in their order, those that are done, now or earlier in the same run."""
    skipped: tuple[str, ...]
    """Ids of the items that the store held already."""
    remaining: tuple[str, ...]
    """Ids of the items that are still to be done, because the budget ended."""
    stopped: BudgetExceeded | None = None


@dataclass(slots=True, kw_only=True)
class _Job:
    """What the workers of one evaluation share."""

    architecture: Runnable
    architecture_id: str
    task: Task
    gateway: Gateway
    run_store: RunStore
    run_id: str
    fresh: str
    on_item: Callable[[ItemRecord], None] | None
    keep_trace: bool
    waiting: Iterator[Item]
    done: dict[str, ItemRecord] = field(default_factory=dict)
    stopped: BudgetExceeded | None = None


async def evaluate_items(
    architecture: Runnable,
    items: Sequence[Item],
    task: Task,
    gateway: Gateway,
    run_store: RunStore,
    run_id: str,
    *,
    architecture_id: str,
    concurrency: int = 64,
    fresh: str = "",
    retry_failed: bool = False,
    on_item: Callable[[ItemRecord], None] | None = None,
    keep_trace: bool = True,
) -> Evaluated:
    """Answer and score the items of a run that are not in the store yet, `concurrency` at a time.

    Every result is committed with its full trace before `on_item` hears of it. An item whose architecture fails is
    stored as failed with the error's class and counts as wrong; `retry_failed` does such items of an earlier go again.
    At the budget's cap no new item is begun, those in flight end if they still can, and `stopped` says so; the call
    store keeps what an unfinished item has paid for. `fresh` names a sequence of samples of its own. Without
    `keep_trace` a result holds its score, not the way to it; the calls can be read in the store all the same.

    Raises `ConfigError` for items with equal ids or a concurrency below one, and at once every other `UserError` and
    `AuthError`; what is stored stays.
    """
    if concurrency < 1:
        raise ConfigError(f"At least one item must be in flight (concurrency={concurrency}).")
    if len({item.id for item in items}) < len(items):
        raise ConfigError(f"The items of task {task.name!r} do not have ids of their own; make them unique.")
    stored = run_store.done_item_ids(run_id, architecture_id, include_failed=not retry_failed)
    todo = [item for item in items if item.id not in stored]
    job = _Job(
        architecture=architecture,
        architecture_id=architecture_id,
        task=task,
        gateway=gateway,
        run_store=run_store,
        run_id=run_id,
        fresh=fresh,
        on_item=on_item,
        keep_trace=keep_trace,
        waiting=iter(todo),
    )
    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(concurrency, len(todo))):
                workers.create_task(_work(job))
    except BaseExceptionGroup as group:
        # The first error is why the others were cancelled; people get that one and no group.
        raise _first(group) from None
    skipped = tuple(item.id for item in items if item.id in stored)
    done = dict(job.done)
    if skipped:
        done |= {r.item_id: r for r in run_store.items(run_id, architecture_id) if r.item_id in stored}
    return Evaluated(
        results=tuple(done[item.id] for item in items if item.id in done),
        skipped=skipped,
        remaining=tuple(item.id for item in todo if item.id not in done),
        stopped=job.stopped,
    )


async def _work(job: _Job) -> None:
    while job.stopped is None and (item := next(job.waiting, None)) is not None:
        try:
            record = await _answer(job, item)
        except BudgetExceeded as error:
            job.stopped = error
            return
        await job.run_store.save_items([record])
        job.done[item.id] = record
        if job.on_item is not None:
            job.on_item(record)


async def _answer(job: _Job, item: Item) -> ItemRecord:
    with span("item", {"colonnade.run.id": job.run_id, "colonnade.item.id": item.id}) as opened:
        scope, judging = (Scope(job.run_id, item.id, fresh=job.fresh) for _ in range(2))
        record = await _record(job, item, scope, judging)
        if opened.recording:
            opened.set(
                {
                    "colonnade.task": job.task.name,
                    "colonnade.item.status": record.status,
                    **totals_attributes(scope.totals().plus(judging.totals())),
                }
            )
        return record


async def _record(job: _Job, item: Item, scope: Scope, judging: Scope) -> ItemRecord:
    """Answer and score an item; the scorer's calls are counted apart, so that an architecture's cost is its own."""
    place = Place(job.run_id, job.architecture_id, item.id)
    begin = time.perf_counter()
    outcome = await attempt(job.architecture, item.prompt, job.gateway, scope, job.task.answer_kind)
    latency_s = time.perf_counter() - begin
    if isinstance(outcome, Exception):
        return failed(place, scope, outcome, latency_s)
    score = await job.task.scorer.score(item, outcome.answer, Asking(job.gateway, judging))
    return answered(place, scope, outcome, score, judging, latency_s, keep_trace=job.keep_trace)


async def attempt(
    architecture: Runnable, question: str, gateway: Gateway, scope: Scope, answer_kind: AnswerKind
) -> Outcome | Exception:
    """Answer one question of many, or return the error of the architecture; raises what ends the run for all."""
    try:
        return await architecture.run(question, gateway=gateway, scope=scope, answer_kind=answer_kind)
    except Exception as error:  # one item that breaks a technique must not lose the others
        cause = _cause(error)
        if isinstance(cause, _ENDS_THE_RUN):
            raise cause from error
        return cause


def _cause(error: Exception) -> Exception:
    """Look into groups, which the task groups of nodes raise; what ends the run comes before all else."""
    if not isinstance(error, ExceptionGroup):
        return error
    causes = [_cause(one) for one in error.exceptions]
    return next((cause for cause in causes if isinstance(cause, _ENDS_THE_RUN)), causes[0])


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
