"""The search itself: pieces of trials are asked for, claimed, scored, told; then the end on held-out items.

All memory is in the database. A round reads the study's rows, asks the sampler, claims what it was given and scores it;
a claim that rests on old rows fails as a whole, so several workers on one study give no duplicate. Whatever ends a
round early (a cap, a kill, an error), the rows say what is left, and samples that were paid are in the call store.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson

from db.errors import ColonnadeError, ConfigError
from flows.search_job import OpenStudy, SearchJob, open_study, reordered
from flows.search_piece import OPEN_STUDIES, Piece, PieceDone, PieceRunner, run_piece
from flows.search_purse import affordable, bought_items
from flows.study_view import Spent
from search.space import describe

if TYPE_CHECKING:
    from architectures.spec import ArchitectureSpec
    from db.runs import RunStatus
    from db.studies import JobRecord, Snapshot
    from flows.session import Session
    from search import Job, Race, RaceState

__all__ = [
    "LEASE",
    "OPENED",
    "WATCHER",
    "WHOLE",
    "Round",
    "already_ended",
    "preflight",
    "race_state",
    "search",
    "state_of",
]

LEASE = timedelta(seconds=60)
"""How long the work of a worker that fell silent is left to it, where nobody can see whether it lives."""
WHOLE = -1
"""The trial of what belongs to the study as a whole."""
_ENDING: Final = (WHOLE, 0)
_PURSE: Final = (WHOLE, 1)
"""What the worker holds whose process keeps the study's budget."""
_RANKING: Final = (WHOLE, 2)
_POLL_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a search has come to after a round, for whoever watches."""

    study: OpenStudy
    state: RaceState
    trials: int
    leader: int | None


Watcher = Callable[[Round], Awaitable[None] | None]
"""Told of every round before it is asked for."""

WATCHER: ContextVar[Watcher | None] = ContextVar("WATCHER", default=None)
"""Told of every round too, for whoever starts a flow and cannot hand it a function."""

OPENED: ContextVar[OpenStudy | None] = ContextVar("OPENED", default=None)
"""The study, where whoever starts a flow has opened it in this process already."""


async def search(
    job: SearchJob,
    session: Session,
    *,
    runner: PieceRunner = run_piece,
    on_round: Watcher | None = None,
) -> str:
    """Search, or go on with a search, to its end; return the study's id (`flows.studies.study_view` shows it).

    A cap that stops it gives the status `over_budget`; with a higher one the same job goes on from there. Raises
    `UserError` for a job that cannot be run at all.
    """
    study = OPENED.get() or open_study(job, session)
    if already_ended(study):
        return study.id
    _join(study)
    OPEN_STUDIES[study.id] = study
    status: RunStatus = "stopped"
    reason, clock = "", _Clock(study)
    try:
        await preflight(study)
        note(study, facts=_facts(study), go=study.job.go)
        session.runs.finish(study.id, "running")
        async with _leases(study, clock):
            reason = await _rank(study, runner)
            study = OPEN_STUDIES[study.id]
            reason = reason or await _rounds(study, runner, on_round) or await _end(study, runner)
        status = "over_budget" if reason else "done"
    except ColonnadeError as error:
        status, reason = "failed", str(error)
        raise
    finally:
        del OPEN_STUDIES[study.id]
        study.store.release(study.id, worker=study.worker)
        clock.tick()
        note(study, reason=reason)
        if status == "done" or not _alive_others(study):
            session.runs.finish(study.id, status)
    return study.id


async def preflight(study: OpenStudy) -> None:
    """See that the study's models can be asked; raises `ConfigError`, with which the study has failed."""
    try:
        await study.session.gateway.preflight(study.models)
    except ConfigError as error:
        note(study, reason=str(error))
        if not _alive_others(study):
            study.session.runs.finish(study.id, "failed")
        raise


def already_ended(study: OpenStudy) -> bool:
    """Say whether the study has its end: its held-out items were looked at, so that it does not go on."""
    if "ending" not in notes_of(study):
        return False
    if study.session.runs.get(study.id).status != "done":
        # Whoever wrote the end was killed before this.
        study.session.runs.finish(study.id, "done")
    return True


def notes_of(study: OpenStudy) -> dict[str, Any]:
    """Return what is noted with the study's run."""
    return dict(orjson.loads(study.session.runs.get(study.id).totals or "{}"))


def note(study: OpenStudy, **facts: object) -> None:
    """Note something with the study's run, in the place of what stood there under the same word."""
    study.session.runs.note(study.id, facts)


def state_of(study: OpenStudy, snapshot: Snapshot) -> RaceState:
    """Return the race as the study's rows tell it."""
    return race_state(study.race, study.job.seed, [trial.point for trial in snapshot.trials], snapshot.jobs)


def race_state(race: Race, seed: int, points: Sequence[int], jobs: Sequence[JobRecord]) -> RaceState:
    """Return a race that asked for these points, by the rows of its jobs."""
    from search import RaceState

    state, _ = race.start(seed).study.asked(points)
    asked: dict[int, int] = {}
    scores: dict[tuple[int, int], tuple[float, ...]] = {}
    values: dict[tuple[int, int], tuple[float, ...]] = {}
    for job in jobs:
        if job.trial == WHOLE:
            continue
        asked[job.trial] = max(job.rung, asked.get(job.trial, 0))
        if job.scores is not None:
            scores[job.trial, job.rung] = job.scores
            noted: Any = (job.totals or {}).get("values")
            if noted:
                values[job.trial, job.rung] = tuple(noted)
    return RaceState(study=state, rungs=race.rungs, asked=asked, scores=scores, values=values)


async def _rank(study: OpenStudy, runner: PieceRunner) -> str:
    """Let one worker measure the models alone; go on with their order. Return why it stopped, or nothing."""
    from search import ranking

    asked = ranking(study.planned.space, study.session.book) if study.job.rank else {}
    if not asked:
        return ""
    while "ranking" not in notes_of(study):
        if not _held(study, _RANKING):
            await asyncio.sleep(_POLL_S)
        elif reason := await _measure_alone(study, asked, runner):
            return reason
    OPEN_STUDIES[study.id] = reordered(study, notes_of(study)["ranking"])
    return ""


async def _measure_alone(
    study: OpenStudy, asked: Mapping[str, Mapping[str, ArchitectureSpec]], runner: PieceRunner
) -> str:
    items = study.split.search[: study.race.rungs[0]]
    values: dict[str, dict[str, float]] = {role: {} for role in asked}
    reasons: list[str] = []

    async def one(role: str, model: str, spec: ArchitectureSpec) -> None:
        piece = Piece(
            study_id=study.id,
            title=f"{model} alone in {role}",
            architecture=spec.data(),
            items=tuple(item.id for item in items),
        )
        done = await runner(piece)
        values[role][model] = sum(measured.quality for measured in done.measured) / len(items)
        reasons.extend([done.stopped] if done.stopped else [])

    alone = [partial(one, role, model, spec) for role, models in asked.items() for model, spec in models.items()]
    await together(alone, study.job.parallel)
    if reasons:
        return reasons[0]
    note(study, ranking=values)
    return ""


async def _rounds(
    study: OpenStudy, runner: PieceRunner, on_round: Callable[[Round], Awaitable[None] | None] | None
) -> str:
    """Ask, claim, score and tell until there is nothing to ask; return why it stopped early, or nothing."""
    while True:
        snapshot = study.store.snapshot(study.id)
        state = state_of(study, snapshot)
        told = Round(study=study, state=state, trials=len(snapshot.trials), leader=study.race.leader(state))
        for watcher in filter(None, (on_round, WATCHER.get())):
            if (waiting := watcher(told)) is not None:
                await waiting
        jobs = _orphans(study, snapshot, state)
        if not jobs:
            asked = _asked(study, state, snapshot)
            if asked is None:
                if not any(job.scores is None for job in snapshot.jobs if job.trial != WHOLE):
                    return ""
                await asyncio.sleep(_POLL_S)
                continue
            state, jobs = asked
            if not _claimed(study, snapshot, state, jobs):
                continue
        reason = await _score(study, state, jobs, runner)
        if reason:
            return reason


def _orphans(study: OpenStudy, snapshot: Snapshot, state: RaceState) -> tuple[Job, ...]:
    """Take over the jobs whose workers died, in the order in which they were asked."""
    pending = {(job.trial, job.rung): job for job in study.race.pending(state)}
    taken = []
    for row in snapshot.jobs:
        job = pending.get((row.trial, row.rung))
        if job is not None and _abandoned(row) and _take(study, row):
            taken.append(job)
    return tuple(taken)


def _take(study: OpenStudy, row: JobRecord) -> bool:
    return study.store.take_over(study.id, row.trial, row.rung, worker=study.worker, lease=LEASE, was=row.worker)


def _abandoned(row: JobRecord) -> bool:
    """Say whether a job's worker is known to be gone: its lease has run out, or its process on this machine has."""
    if row.leased_until <= datetime.now(UTC):
        return True
    host, pid, _ = row.worker.split("|")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _alive_others(study: OpenStudy) -> bool:
    jobs = study.store.snapshot(study.id).jobs
    return any(row.scores is None and row.worker != study.worker and not _abandoned(row) for row in jobs)


def _join(study: OpenStudy) -> None:
    """Begin to work on the study, alone where a budget is kept in this process; raises `ConfigError`."""
    from providers.shared_budget import SharedBudget

    if not study.job.session.caps or isinstance(study.session.gateway.budget, SharedBudget):
        return
    if _alive_others(study) or not _held(study, _PURSE):
        raise ConfigError(
            f"Another worker is at work on study {study.id!r}, and a budget holds for both only through Redis: set "
            "COLONNADE_REDIS_URL for all workers, or wait until the other has ended."
        )


def _held(study: OpenStudy, whole: tuple[int, int]) -> bool:
    """Say whether this worker holds a job of the study as a whole, which it takes where nobody alive does."""
    rows = [row for row in study.store.snapshot(study.id).jobs if (row.trial, row.rung) == whole]
    if rows:
        return any(row.worker == study.worker or (_abandoned(row) and _take(study, row)) for row in rows)
    return study.store.claim(study.id, worker=study.worker, lease=LEASE, jobs=[whole])


def _asked(study: OpenStudy, state: RaceState, snapshot: Snapshot) -> tuple[RaceState, tuple[Job, ...]] | None:
    """Ask for a round of jobs that the budget pays, with the end's part left aside; None where there is none."""
    wanted = study.job.parallel
    while wanted:
        jobs = _next(study, state, wanted)
        fits = affordable(study, state, snapshot, jobs.jobs)
        if fits == len(jobs.jobs):
            return (jobs.state, jobs.jobs) if jobs.jobs else None
        wanted = fits
    return None


def _next(study: OpenStudy, state: RaceState, wanted: int) -> Any:
    race, job = study.race, study.job
    new = max(0, job.trials - len(state.study.trials))
    costs = study.bills.left(bought_items(study, state), range(race.rungs[0])) if job.share else None
    jobs = race.ask_batch(state, wanted, costs=costs, first=study.first, new=new)
    return jobs if jobs.jobs or race.pending(state) else race.ask_finals(state, job.finalists, wanted)


def _claimed(study: OpenStudy, snapshot: Snapshot, state: RaceState, jobs: Sequence[Job]) -> bool:
    from db.studies import NewTrial

    new, varying = [], set(study.planned.domain.axes)
    for trial in state.study.trials[len(snapshot.trials) :]:
        point = study.planned.points[trial.point]
        likely = point.figures.likely
        facts = {
            "values": dict(point.values),
            "label": describe({name: value for name, value in point.values.items() if name in varying}),
            "architecture": point.spec.data(),
            "calls": float(likely["calls"] or 0),
            "dollars": None if likely["dollars"] is None else float(likely["dollars"]),
        }
        new.append(NewTrial(trial.id, trial.point, point.spec.id, facts))
    claims = [(job.trial, job.rung) for job in jobs]
    return study.store.claim(study.id, worker=study.worker, lease=LEASE, trials=new, jobs=claims)


async def _score(study: OpenStudy, state: RaceState, jobs: Sequence[Job], runner: PieceRunner) -> str:
    """Score jobs side by side and tell each as soon as it is done; return why some were stopped, or nothing."""
    reasons: list[str] = []

    async def one(job: Job) -> None:
        point = study.planned.points[job.point]
        piece = Piece(
            study_id=study.id,
            title=f"trial {job.trial}, items {job.first + 1} to {job.last}",
            architecture={**point.spec.data(), "name": f"trial {job.trial}"},
            items=tuple(item.id for item in study.split.search[job.first : job.last]),
            fresh="" if study.job.share else f"trial {point.spec.id[:16]}",
        )
        done = await runner(piece)
        if done.stopped:
            reasons.append(done.stopped)
        else:
            _tell(study, job, done)

    await together([partial(one, job) for job in jobs], study.job.parallel)
    return reasons[0] if reasons else ""


async def together(work: Sequence[Callable[[], Awaitable[None]]], most: int) -> None:
    """Do all of it, so many at once; of several errors the first is raised, without the group around it."""
    at_once = asyncio.Semaphore(most)

    async def wait(one: Callable[[], Awaitable[None]]) -> None:
        async with at_once:
            await one()

    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(wait(one))
    except* ColonnadeError as failed:
        first: BaseException = failed
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


def _tell(study: OpenStudy, job: Job, done: PieceDone) -> None:
    objective = study.job.objective
    several = len(objective.names) > 1 or objective.names[0] == "cost_per_correct"
    if objective.names[0] == "cost_per_correct":
        scores = [one.quality for one in done.measured]
    else:
        scores = [objective.score(one) for one in done.measured]
    totals: dict[str, object] = {
        "spent": asdict(_with_paid(study, done.used)),
        "seconds": sum(one.seconds for one in done.measured),
        "quality": [one.quality for one in done.measured],
    }
    if several:
        totals["values"] = list(objective.values(done.measured))
    plain = orjson.loads(orjson.dumps(totals, default=str))
    study.store.tell(study.id, job.trial, job.rung, scores, plain)


def _with_paid(study: OpenStudy, used: Spent) -> Spent:
    """Put in what the whole study has paid so far: trials share samples, so that no trial has paid them alone."""
    paid = study.session.calls.spent(study.id)
    return replace(
        used,
        calls_paid=paid.calls,
        tokens_paid=paid.prompt_tokens + paid.completion_tokens,
        dollars_paid=None if paid.unpriced_calls else paid.cost,
    )


async def _end(study: OpenStudy, runner: PieceRunner) -> str:
    """Let one worker write the end; return why it stopped, or nothing."""
    from flows.search_end import end

    while not already_ended(study):
        if _held(study, _ENDING):
            return await end(study, runner)
        await asyncio.sleep(_POLL_S)
    return ""


class _Clock:
    """Adds to the study's seconds while it runs, so that a kill loses few of them."""

    def __init__(self, study: OpenStudy) -> None:
        self._study = study
        self._told = time.perf_counter()

    def tick(self) -> None:
        """Note the seconds since the last time."""
        told, self._told = self._told, time.perf_counter()
        note(self._study, seconds=float(notes_of(self._study).get("seconds", 0.0)) + self._told - told)


@asynccontextmanager
async def _leases(study: OpenStudy, clock: _Clock) -> AsyncIterator[None]:
    """Keep the leases of this worker's jobs as long as it lives, and the study's time."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(LEASE.total_seconds() / 4)
            await asyncio.to_thread(study.store.renew, study.id, worker=study.worker, lease=LEASE)
            await asyncio.to_thread(clock.tick)

    beating = asyncio.create_task(beat(), name="colonnade-study-lease")
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.wait({beating})


def _facts(study: OpenStudy) -> dict[str, object]:
    """What is shown of a study and would need its space to be planned again."""
    from flows.evaluate import has_nominal_prices

    space, job = study.planned.space, study.job
    return {
        "space": space.name,
        "raw": space.raw,
        "points": len(study.planned.points),
        "caps": [str(cap) for cap in study.caps],
        "rungs": list(study.race.rungs),
        "span": study.race.span,
        "sampler": f"race over {job.sampler}" if job.race else job.sampler,
        "nominal": has_nominal_prices(study.session.book, study.models),
        "items": {name: len(getattr(study.split, name)) for name in ("search", "guard", "held_out")},
    }
