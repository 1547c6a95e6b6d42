"""What the command line and the Python face share about watches: jobs, looks, and what is stored of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from db.errors import ConfigError
from flows.session import SessionSettings, open_session
from flows.watch_job import Look, WatchJob

if TYPE_CHECKING:
    from flows.evaluate import TaskChoice

__all__ = ["make_watch_job", "run_watch", "stored_looks"]


def make_watch_job(
    sources: Sequence[str | Path | dict[str, Any]], task: TaskChoice, settings: SessionSettings, **options: Any
) -> WatchJob:
    """Read architectures and make the job of watching them; `options` are the other fields of `WatchJob`.

    Raises `UserError`s.
    """
    from architectures import load
    from providers.book import ModelBook

    settings.load_techniques()
    book = ModelBook.load(settings.models)
    specs = [load(source, book).spec for source in sources]
    task.load()
    fields = {
        "architectures": [{**spec.data(), "name": spec.name} for spec in specs],
        "task": task,
        "session": settings,
        **options,
    }
    try:
        return WatchJob.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"watch: {first['loc'][0]}: {first['msg']}.") from None


async def run_watch(job: WatchJob, *, prefect: bool = True) -> tuple[Look, ...]:
    """Look once at every architecture of a job; raises `UserError`s."""
    async with open_session(job.session) as session:
        if not prefect:
            from flows.watch import watch

            return await watch(job, session)
        from flows.prefect_flow import SHARED_SESSION
        from flows.watch_flow import watch_flow

        token = SHARED_SESSION.set(session)
        try:
            return await watch_flow(job)
        finally:
            SHARED_SESSION.reset(token)


def stored_looks(watch: str | None, database_url: str | None = None) -> tuple[Look, ...]:
    """Return the looks of a watch, of the newest where none is named; raises `ConfigError` where there is none."""
    from db.database import Database
    from flows.watch import looks_of, stored_watches

    with Database.open(database_url) as database:
        if watch is None:
            known = stored_watches(database)
            if not known:
                raise ConfigError("There is no watch yet; begin one with 'colonnade watch run ARCHITECTURE'.")
            watch = known[0].id
        return looks_of(watch, database)
