"""What the command line and the Python face share about evaluations: jobs, and running them with or without Prefect."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from db.errors import ConfigError
from flows.chunks import watching
from flows.evaluate import EvaluateJob, Evaluation, TaskChoice, evaluate, items_left, preflight
from flows.session import Session, SessionSettings, open_session

__all__ = ["Watcher", "make_job", "run_jobs", "stored_job"]

Watcher = Callable[[Session, int, str], None]
"""Told of the session, the number of the evaluation in it and the run's id, after every item."""


def make_job(
    source: str | Path | Mapping[str, object],
    task: TaskChoice,
    settings: SessionSettings,
    *,
    parameters: Mapping[str, object] | None = None,
    concurrency: int = 64,
    chunk: int = 50,
    fresh: str = "",
    again: int = 0,
) -> EvaluateJob:
    """Read an architecture and make the job of evaluating it; raises `UserError`s."""
    from architectures import load
    from providers.book import ModelBook

    settings.load_techniques()
    spec = load(source, ModelBook.load(settings.models), parameters=parameters).spec
    task.load()
    return EvaluateJob(
        architecture={**spec.data(), "name": spec.name},
        task=task,
        session=settings,
        concurrency=concurrency,
        chunk=chunk,
        fresh=fresh,
        again=again,
    )


def stored_job(run_id: str, settings: SessionSettings) -> EvaluateJob:
    """Return the job of an earlier run, with the caps of now; raises `ConfigError` where there is no such run."""
    from db.database import Database
    from db.runs import RunStore

    with Database.open(settings.database_url) as database:
        record = RunStore(database).get(run_id)
    if record.kind != "evaluate":
        raise ConfigError(f"Run {run_id} is no evaluation but a '{record.kind}'; ask it again with 'colonnade run'.")
    job = EvaluateJob.model_validate_json(record.config)
    models = settings.models or job.session.models
    return job.model_copy(update={"session": settings.model_copy(update={"models": models})})


async def run_jobs(
    jobs: Sequence[EvaluateJob],
    *,
    prefect: bool = True,
    pool: str | None = None,
    ray: str | None = None,
    watcher: Watcher | None = None,
) -> list[Evaluation]:
    """Run evaluations one after the other in one session, so that their caps and their samples are shared.

    `pool` names a Prefect work pool whose workers take the chunks, `ray` the address of a Ray cluster whose nodes do
    (`local` starts one). Stops after the first that a cap ended. Raises `UserError` for a job that cannot be run.
    """
    if pool and ray:
        raise ConfigError("Chunks go to a pool or to Ray: give --pool or --ray, not both.")
    if pool or ray:
        jobs = _sharing_caps(jobs)
    done: list[Evaluation] = []
    async with open_session(jobs[0].session) as session:
        for number, job in enumerate(jobs):
            told = None if watcher is None else partial(watcher, session, number)
            with watching(told):
                done.append(await _run(job, session, prefect=prefect, pool=pool, ray=ray))
            if done[-1].status == "over_budget":
                break
    return done


def _sharing_caps(jobs: Sequence[EvaluateJob]) -> list[EvaluateJob]:
    """Name an account for caps that hold for all of the jobs, so that all workers count under it."""
    account = f"command {secrets.token_hex(6)}"
    return [
        job.model_copy(update={"session": job.session.model_copy(update={"account": job.session.account or account})})
        for job in jobs
    ]


async def _run(job: EvaluateJob, session: Session, *, prefect: bool, pool: str | None, ray: str | None) -> Evaluation:
    if not (prefect or pool or ray) or items_left(job, session) == 0:
        return await evaluate(job, session)
    await preflight(job, session)
    from flows.prefect_flow import SHARED_SESSION, evaluate_flow

    token = SHARED_SESSION.set(session)
    try:
        if pool:
            from flows.spread import spread_flow

            return await spread_flow(job, pool)
        if ray:
            from flows.ray import ray_flow

            return await ray_flow(job, ray)
        return await evaluate_flow(job)
    finally:
        SHARED_SESSION.reset(token)
