"""The evaluation of one architecture on one task, in chunks of items.

A chunk is the unit of work of a flow: idempotent, since items that the database already holds are skipped, so that a
repeated chunk, a retried flow and a resumed run pay nothing twice. A run is named by what it is (architecture, task,
items, models), so the same job finds its earlier run and goes on where that stopped.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from db.errors import ColonnadeError, ConfigError
from flows.chunks import chunked, tell_watchers
from flows.limits import LimitHistory, limit_histories
from flows.session import Session, SessionSettings

if TYPE_CHECKING:
    from architectures import Architecture, CompiledArchitecture
    from db.runs import ItemRecord, RunRecord, RunStatus
    from evals import Item, Summary, Task
    from providers.book import ModelBook

__all__ = [
    "Chunk",
    "ChunkDone",
    "ChunkRunner",
    "EvaluateJob",
    "Evaluation",
    "TaskChoice",
    "evaluate",
    "evaluate_chunk",
    "items_left",
    "preflight",
    "run_chunk",
]


class TaskChoice(BaseModel):
    """Which items to evaluate on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """A registered task, or the path of a data file."""
    options: dict[str, str] = Field(default_factory=dict)
    items: int | None = Field(default=None, gt=0)
    """How many items; None takes the task's usual number."""
    seed: int = 0

    def load(self) -> Task:
        """Load the task; raises `UserError`s."""
        from evals import load_task

        return load_task(self.name, items=self.items, seed=self.seed, options=self.options)


class EvaluateJob(BaseModel):
    """Everything that an evaluation is, as plain data: what a deployment stores and a worker gets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: dict[str, Any]
    """The architecture, written out in full (a path or a preset's name would mean something else elsewhere)."""
    task: TaskChoice
    session: SessionSettings = SessionSettings()
    concurrency: int = Field(default=64, gt=0)
    """Items in flight."""
    chunk: int = Field(default=50, gt=0)
    """Items in one chunk, which is one Prefect task."""
    fresh: str = ""
    """A name for a series of samples of its own, where independence from all earlier runs is wanted."""
    again: int = Field(default=0, ge=0)
    """0 goes on with the run of the same job; k > 0 is its k-th repetition (calls still come from the cache)."""

    @property
    def title(self) -> str:
        """The architecture's name, for people."""
        return str(self.architecture.get("name") or "architecture")


class Chunk(BaseModel):
    """Some items of a run, by id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    number: int
    items: tuple[str, ...]


class ChunkDone(BaseModel):
    """What came of a chunk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: int
    """Items that the database now holds."""
    stopped: str = ""
    """Why the chunk was not finished: the budget's own words."""


ChunkRunner = Callable[[Chunk], Awaitable[ChunkDone]]
"""Runs one chunk; the Prefect task wraps `run_chunk`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What an evaluation came to."""

    run_id: str
    name: str
    architecture_id: str
    task: str
    status: RunStatus
    planned: int
    """Items of the job; there are fewer results where the run was stopped."""
    summary: Summary | None
    """None where no item was done."""
    results: tuple[ItemRecord, ...]
    seconds: float
    """Wall time of all goes at this run together."""
    reason: str = ""
    """Why the run was stopped."""
    limits: tuple[LimitHistory, ...] = ()
    """Limits of calls in flight that changed in the last go at this run."""
    nominal: bool = False
    """Some prices are nominal: they are paid to nobody."""
    reused: bool = False
    """Nothing was left to do: the database held every item."""

    def record(self) -> dict[str, object]:
        """Return the evaluation as flat data, without its items."""
        record: dict[str, object] = {
            "run_id": self.run_id,
            "architecture": self.name,
            "architecture_id": self.architecture_id,
            "task": self.task,
            "status": self.status,
            "planned": self.planned,
            "limits": self.limits,
            "nominal": self.nominal,
            "reused": self.reused,
            "seconds": round(self.seconds, 3),
            "reason": self.reason,
        }
        if self.summary is None:
            return {**record, "items": 0}
        summary = asdict(self.summary)
        return {**record, **summary, "cost_per_correct": self.summary.cost_per_correct.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """What the chunks of a run share in one process."""

    run_id: str
    job: EvaluateJob
    session: Session
    architecture: Architecture
    compiled: CompiledArchitecture
    task: Task
    items: Mapping[str, Item]
    models: tuple[str, ...]


_OPEN: dict[str, _Open] = {}


async def run_chunk(chunk: Chunk) -> ChunkDone:
    """Evaluate the items of a chunk that the database does not hold yet."""
    return await _evaluate_items(_OPEN[chunk.run_id], chunk)


async def _evaluate_items(run: _Open, chunk: Chunk) -> ChunkDone:
    from evals import evaluate_items

    evaluated = await evaluate_items(
        run.compiled,
        [run.items[item_id] for item_id in chunk.items],
        run.task,
        run.session.gateway,
        run.session.runs,
        chunk.run_id,
        architecture_id=run.architecture.id,
        concurrency=min(run.job.concurrency, len(chunk.items)),
        fresh=run.job.fresh,
        retry_failed=True,
        on_item=lambda _: tell_watchers(chunk.run_id),
    )
    return ChunkDone(items=len(evaluated.results), stopped=str(evaluated.stopped or ""))


async def evaluate_chunk(job: EvaluateJob, chunk: Chunk, session: Session) -> ChunkDone:
    """Evaluate one chunk of a run that another process began and goes on to look after.

    Raises `ConfigError` where the database of this process does not know the run, or its models make the job another.
    """
    session.runs.get(chunk.run_id)
    run = _open(job, session)
    if run.run_id != chunk.run_id:
        raise ConfigError(
            f"Here the job of run {chunk.run_id} would be run {run.run_id}: the task's data or the models differ from "
            "those where it began; give all machines the same files and the same models."
        )
    return await _evaluate_items(run, chunk)


async def evaluate(
    job: EvaluateJob, session: Session, *, runner: ChunkRunner = run_chunk, at_once: int | None = None
) -> Evaluation:
    """Evaluate a job, or what is left of it; failed items of an earlier go are tried again.

    `at_once` is how many chunks the runner is given at a time; None is as many as fill the job's `concurrency`.
    A cap that stops the run gives the status `over_budget`, with what was done; the same job goes on from there.
    Raises `UserError` for a job that cannot be run at all.
    """
    run = _open(job, session)
    left = _left(run)
    if not left:
        session.runs.finish(run.run_id, "done")
        return _result(run, "done", reused=True)
    await session.gateway.preflight(run.models)
    _OPEN[run.run_id] = run
    status: RunStatus = "stopped"
    before = session.runs.finish(run.run_id, "running")
    began = time.perf_counter()
    try:
        reason = await _run_chunks(run, left, runner, at_once or -(-job.concurrency // job.chunk))
        status = "over_budget" if reason else "done"
    except ColonnadeError:
        status = "failed"
        raise
    finally:
        del _OPEN[run.run_id]
        seconds = _seconds(before) + time.perf_counter() - began
        limits = limit_histories(session.gateway.status())
        session.runs.finish(run.run_id, status, totals=orjson.dumps({"seconds": seconds, "limits": limits}).decode())
    return _result(run, status, reason=reason)


def _seconds(record: RunRecord) -> float:
    """Wall seconds that a run has taken so far, over all its goes."""
    return float(orjson.loads(record.totals or "{}").get("seconds", 0.0))


async def preflight(job: EvaluateJob, session: Session) -> None:
    """Make sure that the job's models can be reached; raises `ConfigError`."""
    await session.gateway.preflight(_open(job, session).models)


def items_left(job: EvaluateJob, session: Session) -> int:
    """Count the items of a job that are still to be done; raises `UserError` for a job that cannot be run at all."""
    return len(_left(_open(job, session)))


def _left(run: _Open) -> list[str]:
    done = run.session.runs.done_item_ids(run.run_id, run.architecture.id, include_failed=False)
    return [item_id for item_id in run.items if item_id not in done]


def _open(job: EvaluateJob, session: Session) -> _Open:
    from architectures import compile_architecture, load
    from architectures.canonical import canonical_json

    architecture = load(job.architecture, session.book)
    task = job.task.load()
    models = tuple(sorted({*architecture.spec.models(), *task.scorer.models()}))
    identities = [session.gateway.identity(model) for model in models]
    what = "\x00".join((architecture.id, task.digest, *identities, job.fresh, str(job.again)))
    run_id = f"e-{hashlib.sha256(what.encode()).hexdigest()[:10]}"
    session.runs.save_architecture(
        architecture.id, name=architecture.name, canonical=canonical_json(architecture.spec).decode()
    )
    session.runs.create(
        kind="evaluate",
        name=architecture.name,
        architecture_id=architecture.id,
        task=task.name,
        config=orjson.dumps(job.model_dump(mode="json")).decode(),
        run_id=run_id,
    )
    items = {item.id: item for item in task.items}
    return _Open(
        run_id=run_id,
        job=job,
        session=session,
        architecture=architecture,
        compiled=compile_architecture(architecture.spec, session.book),
        task=task,
        items=items,
        models=models,
    )


async def _run_chunks(run: _Open, left: list[str], runner: ChunkRunner, at_once: int) -> str:
    """Run chunks, so many at a time; return why they were stopped, or nothing."""
    places = asyncio.Semaphore(at_once)
    reasons: list[str] = []

    async def one(chunk: Chunk) -> None:
        async with places:
            if not reasons and (reason := (await runner(chunk)).stopped):
                reasons.append(reason)

    try:
        async with asyncio.TaskGroup() as group:
            for number, items in enumerate(chunked(left, run.job.chunk)):
                group.create_task(one(Chunk(run_id=run.run_id, number=number, items=items)))
    except* ColonnadeError as failed:
        raise _first(failed) from None
    return reasons[0] if reasons else ""


def _first(group: BaseExceptionGroup[ColonnadeError]) -> ColonnadeError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _result(run: _Open, status: RunStatus, *, reason: str = "", reused: bool = False) -> Evaluation:
    from evals import summarise

    stored = {record.item_id: record for record in run.session.runs.items(run.run_id, run.architecture.id)}
    record = run.session.runs.get(run.run_id)
    results = tuple(stored[item_id] for item_id in run.items if item_id in stored)
    return Evaluation(
        run_id=run.run_id,
        name=run.architecture.name,
        architecture_id=run.architecture.id,
        task=run.task.name,
        status=status,
        planned=len(run.items),
        summary=summarise(results) if results else None,
        results=results,
        seconds=_seconds(record),
        limits=tuple(orjson.loads(record.totals or "{}").get("limits", ())),
        nominal=has_nominal_prices(run.session.book, run.models),
        reason=reason,
        reused=reused,
    )


def has_nominal_prices(book: ModelBook, models: Sequence[str]) -> bool:
    """Say whether the price of one of the models is nominal."""
    prices = (book.resolve(model).price for model in models)
    return any(price is not None and price.nominal for price in prices)
