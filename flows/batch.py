"""A batch: one architecture over all rows of a file, in chunks, each a part of the output that is written once.

What holds after a kill: a part stands whole or not at all, and the calls of a chunk that was cut off are in the call
store. So a resumed job takes the parts as they are, answers the rest from what was paid, and pays for nothing twice.
Nothing but the chunks under way is in memory, whatever the length of the file.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict

from db.batches import BatchStore
from db.errors import BudgetExceeded, ColonnadeError, ConfigError, DataError
from flows.batch_early import early_stops
from flows.batch_input import InputRow, read_input
from flows.batch_job import BatchJob, OpenBatch, open_batch, register
from flows.batch_output import join_parts, sum_parts
from flows.batch_parts import Existing, Parts, failed_path, open_parts
from flows.batch_report import BatchReport, Saving, Sums, full_price, savings
from flows.batch_rows import answer_row, question_of
from flows.chunks import tell_watchers
from flows.evaluate import has_nominal_prices

if TYPE_CHECKING:
    from db.runs import RunRecord, RunStatus
    from flows.session import Session

__all__ = [
    "PREPARED",
    "BatchChunk",
    "BatchChunkDone",
    "BatchRunner",
    "Prepared",
    "batch",
    "prepare",
    "run_batch_chunk",
    "stored_report",
]

_CHUNKS_AT_ONCE = 2
"""The next chunk fills the window while the last rows of one are still out."""

_OPEN: dict[str, OpenBatch] = {}


class BatchChunk(BaseModel):
    """A chunk of a job's rows; the rows themselves wait in the process that read them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    number: int


class BatchChunkDone(BaseModel):
    """What came of a chunk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    """Rows that its part holds."""
    stopped: str = ""
    """Why the chunk was not finished: the budget's own words."""


BatchRunner = Callable[[BatchChunk], Awaitable[BatchChunkDone]]
"""Runs one chunk; the Prefect task wraps `run_batch_chunk`."""


class Prepared(NamedTuple):
    """A job that can be run; without parts its output is complete."""

    opened: OpenBatch
    parts: Parts | None


PREPARED: ContextVar[Prepared | None] = ContextVar("PREPARED", default=None)
"""A job that was prepared already in this process; where there is none, `batch` prepares its own."""


async def run_batch_chunk(chunk: BatchChunk) -> BatchChunkDone:
    """Answer the rows of a chunk that no part holds, or holds as failed, and write the part."""
    batch = _OPEN[chunk.run_id]
    assert batch.parts is not None
    rows = batch.waiting[chunk.number]
    came: dict[int, dict[str, Any]] = {}
    if batch.parts.stands(chunk.number):
        came = {row["row"]: row for row in batch.parts.read(chunk.number) if row["ok"] or not row["retry"]}
    stopped: list[str] = []

    async def one(row: InputRow) -> None:
        async with batch.window:
            if stopped:
                return
            try:
                came[row.number] = await answer_row(batch, row)
            except BudgetExceeded as error:
                stopped.append(str(error))
                return
        tell_watchers(chunk.run_id)

    try:
        async with asyncio.TaskGroup() as group:
            for row in _ordered(batch, [row for row in rows if row.number not in came]):
                group.create_task(one(row))
    except* ColonnadeError as failed:
        raise _first(failed) from None
    if stopped:
        return BatchChunkDone(rows=0, stopped=stopped[0])
    batch.parts.write(chunk.number, [came[row.number] for row in rows])
    return BatchChunkDone(rows=len(rows))


def _ordered(batch: OpenBatch, rows: list[InputRow]) -> list[InputRow]:
    """Put rows whose questions begin alike next to each other, where that is wanted."""
    if batch.job.order == "input":
        return rows

    def question(row: InputRow) -> str:
        try:
            return question_of(batch, row)
        except DataError:
            return ""

    return sorted(rows, key=question)


async def batch(
    job: BatchJob, session: Session, *, existing: Existing = "ask", runner: BatchRunner = run_batch_chunk
) -> BatchReport:
    """Run a job, or what is left of it; rows that failed in an earlier go are tried again.

    A cap that stops the run gives the status `over_budget`; the same job goes on from there. Raises `UserError` for a
    job that cannot be run at all, such as one whose output stands already (see `flows.batch_parts.open_parts`).
    """
    ready = PREPARED.get() or await prepare(job, session, existing=existing)
    if ready.parts is None:
        return stored_report(session.runs.get(ready.opened.run_id))
    with closing(ready.parts):
        session.runs.note(ready.opened.run_id, {"job": ready.opened.job.model_dump(mode="json")})
        return await _go(ready.opened, ready.parts, runner)


async def prepare(job: BatchJob, session: Session, *, existing: Existing = "ask") -> Prepared:
    """Find out whether a job can be run, before anything that takes long; raises `UserError`s as `batch` does."""
    if job.out is None:
        raise ConfigError("A batch needs a file for its output; name one with --out.")
    opened = open_batch(job, session)
    out_at = _batches_out(opened)
    if out_at and session.settings.batch == "off":
        raise ConfigError(
            f"Run {opened.run_id} has {out_at} batches at its provider, whose rows would be paid a second time; go on "
            f"with --batch, or cancel them first: colonnade batch cancel {opened.run_id}"
        )
    await session.gateway.preflight(opened.models)
    opened.parts = open_parts(job.out, opened.run_id, job.chunk, existing=existing, ended=_ended(opened))
    register(opened)
    return Prepared(opened, opened.parts)


def _batches_out(opened: OpenBatch) -> int:
    """Count the batches of a run that have not ended at the provider, as far as is known."""
    live = BatchStore(opened.session.database).live(run_id=opened.run_id)
    return sum(one.status in ("sent", "open", "pulled") for one in live)


def _ended(opened: OpenBatch) -> bool:
    # Before its first go a run is not known.
    with suppress(ConfigError):
        return opened.session.runs.get(opened.run_id).status == "done"
    return False


async def _go(opened: OpenBatch, parts: Parts, runner: BatchRunner) -> BatchReport:
    runs = opened.session.runs
    _OPEN[opened.run_id] = opened
    status: RunStatus = "stopped"
    before = runs.finish(opened.run_id, "running")
    began = time.perf_counter()
    reason = ""
    sums: Sums | None = None
    try:
        reason = await _run_chunks(opened, parts, runner)
        if not reason:
            sums = await asyncio.to_thread(join_parts, opened, parts)
        status = "over_budget" if reason else "done"
    except ColonnadeError:
        status = "failed"
        raise
    finally:
        del _OPEN[opened.run_id]
        seconds = _totals(before).get("seconds", 0.0) + time.perf_counter() - began
        runs.note(opened.run_id, {"seconds": seconds})
        if status != "done":
            runs.finish(opened.run_id, status)
    sums = sums or sum_parts(opened, parts)
    report = _report(opened, sums, status, seconds, reason and f"{reason}{_unfinished(opened, sums)}")
    runs.note(opened.run_id, {"report": report.record()})
    runs.finish(opened.run_id, status)
    if status == "done" and not sums.retriable:
        parts.remove()
    return report


async def _run_chunks(opened: OpenBatch, parts: Parts, runner: BatchRunner) -> str:
    """Run the chunks whose parts are not finished; return why they were stopped, or nothing."""
    at_once = asyncio.Semaphore(1 if opened.job.levelled else _CHUNKS_AT_ONCE)
    reasons: list[str] = []

    async def one(number: int) -> None:
        try:
            reason = (await runner(BatchChunk(run_id=opened.run_id, number=number))).stopped
            reasons.extend([reason] if reason else [])
        finally:
            del opened.waiting[number]
            at_once.release()

    try:
        async with asyncio.TaskGroup() as group:
            for number, rows in enumerate(_chunks(opened.job.input, parts.chunk)):
                if parts.stands(number) and not any(row.get("retry") for row in parts.read(number)):
                    continue
                await at_once.acquire()
                if reasons:
                    break
                opened.waiting[number] = rows
                group.create_task(one(number))
    except* ColonnadeError as failed:
        raise _first(failed) from None
    return reasons[0] if reasons else ""


def _chunks(path: Path, size: int) -> Iterator[list[InputRow]]:
    rows = read_input(path)
    while chunk := list(islice(rows, size)):
        yield chunk


def _first(group: BaseExceptionGroup[ColonnadeError]) -> ColonnadeError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _report(opened: OpenBatch, sums: Sums, status: RunStatus, seconds: float, reason: str) -> BatchReport:
    job = opened.job
    assert job.out is not None
    return BatchReport(
        run_id=opened.run_id,
        name=opened.architecture.name,
        status=status,
        planned=opened.input.rows,
        rows=sums.rows,
        failed=sums.failed,
        retriable=sums.retriable,
        score=sums.scores / sums.scored if sums.scored else None,
        spending=sums.total,
        by_node=sums.uses,
        savings=_savings(opened, sums),
        seconds=seconds,
        out=str(job.out),
        failed_out=str(failed_path(job.out)) if sums.failed and status == "done" else "",
        reason=reason,
        nominal=has_nominal_prices(opened.session.book, opened.models),
        estimate=_estimate(opened, sums),
    )


def _unfinished(opened: OpenBatch, sums: Sums) -> str:
    """Say what was paid for rows whose chunks are not finished, which no part tells of."""
    more = opened.session.calls.spent(opened.run_id).calls - sums.total.paid_calls
    return f" {more:,} more calls are paid, for rows whose chunks are not finished." if more > 0 else ""


def _savings(opened: OpenBatch, sums: Sums) -> tuple[Saving, ...]:
    book = opened.session.book
    found = savings(sums, book, switches=_switches(opened), ordered=opened.job.order == "prefix")
    return (*found, *early_stops(opened.architecture.spec, book, sums), *_moved(opened))


def _moved(opened: OpenBatch) -> tuple[Saving, ...]:
    """Say what the deadline cost in this go: calls that were made at once, though a batch would have been cheaper."""
    collector = opened.session.gateway.collector
    if collector is None or not collector.report.moved:
        return ()
    moved, left = collector.report.moved, _batches_out(opened)
    said = f"{moved:,} calls were made at once to meet the deadline"
    if left:
        # What they answer after all is billed beside it, and known once they have ended.
        said = f"{left} batches have not ended yet ('colonnade batch cancel {opened.run_id}' books them); {said}"
    return (Saving("deadline", -collector.report.extra, said),)


def _switches(opened: OpenBatch) -> tuple[int, int] | None:
    turns = opened.session.gateway.turns
    return None if turns is None else (turns.changes, turns.changes_else)


def _estimate(opened: OpenBatch, sums: Sums) -> dict[str, Any] | None:
    """Hold what was planned after a pilot against what came of it."""
    planned = _totals(opened.session.runs.get(opened.run_id)).get("estimate")
    listed = full_price(sums, opened.session.book)
    if planned is None or listed is None or sums.rows + sums.failed < opened.input.rows:
        return None
    # Rows that ask the same are planned once.
    spent = float(listed) * planned["distinct_share"]
    return {**planned, "spent": spent, "error": planned["likely"] / spent - 1 if spent else None}


def _totals(record: RunRecord) -> dict[str, Any]:
    return dict(orjson.loads(record.totals or "{}"))


def stored_report(record: RunRecord) -> BatchReport:
    """Return the report of an earlier go; raises `ConfigError` for a run that has none."""
    stored = _totals(record).get("report")
    if record.kind != "batch" or stored is None:
        raise ConfigError(f"Run {record.id} has no report of a batch yet; try: colonnade batch resume {record.id}")
    return BatchReport.read(stored)
