"""The search as a Prefect flow: a piece of a trial is a task; progress, trials and the end are artifacts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from prefect import flow, task
from prefect.artifacts import (
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.cache_policies import NO_CACHE

from flows.prefect_flow import SHARED_SESSION, retry_on
from flows.search import Round, search
from flows.search_job import SearchJob
from flows.search_piece import Piece, PieceDone, run_piece
from flows.session import Session, open_session
from flows.studies import study_view

if TYPE_CHECKING:
    from uuid import UUID

    from flows.study_view import StudyView

__all__ = ["search_flow"]


@task(
    name="trial",
    task_run_name="{piece.title}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=[1, 5],
    retry_condition_fn=retry_on,
)
async def piece_task(piece: Piece) -> PieceDone:
    """Score one architecture on some items."""
    return await run_piece(piece)


class _Progress:
    """A progress artifact that is brought up to date after every round: trials that were tried, of those allowed."""

    def __init__(self) -> None:
        self._artifact: UUID | None = None

    async def __call__(self, done: Round) -> None:
        """Report a round."""
        if self._artifact is None:
            self._artifact = await acreate_progress_artifact(0.0, description=f"Study {done.study.id}")
        most = min(done.study.job.trials, len(done.study.planned.points))
        await aupdate_progress_artifact(self._artifact, min(100.0, 100.0 * done.trials / most))


@flow(name="search", persist_result=False)
async def search_flow(job: SearchJob) -> str:
    """Search for an architecture, return the study's id; see `flows.search.search`."""
    session = SHARED_SESSION.get()
    if session is not None:
        return await _search(job, session)
    async with open_session(job.session) as own:
        return await _search(job, own)


async def _search(job: SearchJob, session: Session) -> str:
    study_id = await search(job, session, runner=piece_task, on_round=_Progress())
    view = study_view(study_id, session.database)
    await acreate_table_artifact(table=_rows(view), key=_key(study_id), description=f"Study {study_id}")
    if view.ending is not None:
        await acreate_markdown_artifact(_markdown(view), key=_key(f"{study_id}-end"))
    return study_id


def _key(name: str) -> str:
    """Make a name what Prefect takes as a key: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", f"study-{name}".lower())


def _rows(view: StudyView) -> list[dict[str, Any]]:
    return [
        {
            "trial": one.number,
            "state": one.state,
            "items": one.items,
            "quality": one.quality,
            "dollars": one.dollars,
            "calls": one.calls,
            "architecture": one.label,
        }
        for one in view.trials
    ]


def _markdown(view: StudyView) -> str:
    assert view.ending is not None
    head = "| | quality | calls | dollars |\n|---|---:|---:|---:|"
    rows = [f"| {one.name} | {one.quality:.3f} | {one.calls:.1f} | {one.dollars} |" for one in view.ending.contenders]
    return "\n".join([view.ending.sentence, "", head, *rows])
