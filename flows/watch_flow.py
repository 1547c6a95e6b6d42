"""The watch as a Prefect flow: every evaluation is a flow in it; alarms are events, the report is an artifact."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import acreate_markdown_artifact
from prefect.events import emit_event

from flows.evaluate import EvaluateJob, Evaluation
from flows.prefect_flow import SHARED_SESSION, evaluate_flow
from flows.session import Session, open_session
from flows.watch import looks_of, watch
from flows.watch_job import Look, WatchJob
from flows.watch_report import looks_markdown

__all__ = ["watch_flow"]


@flow(name="watch", persist_result=False)
async def watch_flow(job: WatchJob) -> tuple[Look, ...]:
    """Look once at every architecture of a job; see `flows.watch.watch`.

    An alarm is an event `colonnade.watch.quality-fell`, `.cost-rose` or `.model-changed` on the resource
    `colonnade.watch.WATCH`; the flow run itself is completed, since it did what it was asked.
    """
    session = SHARED_SESSION.get()
    if session is not None:
        return await _watch(job, session)
    async with open_session(job.session) as own:
        return await _watch(job, own)


async def _watch(job: WatchJob, session: Session) -> tuple[Look, ...]:
    looks = await watch(job, session, evaluator=_evaluate)
    for look in looks:
        markdown = looks_markdown(looks_of(look.watch, session.database))
        await acreate_markdown_artifact(markdown, key=look.watch, description=f"Watch {look.watch}")
        _raise_events(look)
    return looks


async def _evaluate(job: EvaluateJob, session: Session) -> Evaluation:
    token = SHARED_SESSION.set(session)
    try:
        return await evaluate_flow(job)
    finally:
        SHARED_SESSION.reset(token)


def _raise_events(look: Look) -> None:
    for finding in look.alarms:
        emit_event(
            event=f"colonnade.watch.{finding.kind}",
            resource={"prefect.resource.id": f"colonnade.watch.{look.watch}", "prefect.resource.name": look.name},
            payload={"look": look.number, "run": look.run_id, "task": look.task, **finding.model_dump(mode="json")},
        )
