"""What the command line and the Python face share about searches: jobs, and running them with or without Prefect."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from db.errors import ConfigError, did_you_mean
from flows.chunks import watching
from flows.evaluate import TaskChoice
from flows.search_job import SearchJob
from flows.session import Session, SessionSettings, open_session

if TYPE_CHECKING:
    from flows.search import Round
    from flows.study_view import StudyView

__all__ = ["ItemWatcher", "RoundWatcher", "make_search_job", "run_search", "stored_architecture", "stored_view"]

ItemWatcher = Callable[[Session], None]
RoundWatcher = Callable[["Round"], None]


def make_search_job(
    space: str | Path | Mapping[str, Any],
    task: TaskChoice,
    settings: SessionSettings,
    *,
    baselines: Sequence[str | Path | Mapping[str, Any]] = (),
    start: Sequence[str | Path | Mapping[str, Any]] = (),
    **options: Any,
) -> SearchJob:
    """Read a space and the architectures named beside it, and make the job of searching it; raises `UserError`s.

    `options` are the other fields of `SearchJob`. The caps of the settings hold for the study as a whole.
    """
    from providers.book import ModelBook
    from search.ready import space_data

    settings.load_techniques()
    book = ModelBook.load(settings.models)
    fields = {
        "space": dict(space) if isinstance(space, Mapping) else space_data(space),
        "task": task,
        "session": settings.model_copy(update={"caps_per_run": True}),
        "baselines": [_written(source, book) for source in baselines],
        "start": [_written(source, book) for source in start],
        **options,
    }
    try:
        return SearchJob.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"search: {first['loc'][0]}: {first['msg']}.{_near(first)}") from None


def _near(error: Any) -> str:
    unknown = error["type"] == "extra_forbidden"
    return did_you_mean(str(error["loc"][0]), SearchJob.model_fields) if unknown else ""


def _written(source: str | Path | Mapping[str, Any], book: Any) -> dict[str, Any]:
    from architectures import load

    spec = load(source, book).spec
    return {**spec.data(), "name": spec.name}


async def run_search(
    job: SearchJob,
    *,
    prefect: bool = True,
    on_item: ItemWatcher | None = None,
    on_round: RoundWatcher | None = None,
) -> StudyView:
    """Search, or go on with a study, and show what came of it; raises `UserError`s."""
    from flows.search import WATCHER, search
    from flows.studies import study_view

    async with open_session(job.session) as session:
        told = None if on_item is None else lambda _: on_item(session)
        token = WATCHER.set(on_round)
        try:
            with watching(told):
                study_id = await (_flow(job, session) if prefect else search(job, session))
        finally:
            WATCHER.reset(token)
        return study_view(study_id, session.database)


async def _flow(job: SearchJob, session: Session) -> str:
    from flows.search import OPENED, already_ended, preflight
    from flows.search_job import open_study

    # What cannot be run is found out before Prefect starts, which takes seconds.
    study = open_study(job, session)
    if already_ended(study):
        return study.id
    await preflight(study)
    from flows.prefect_flow import SHARED_SESSION
    from flows.search_flow import search_flow

    tokens = SHARED_SESSION.set(session), OPENED.set(study)
    try:
        return await search_flow(job)
    finally:
        SHARED_SESSION.reset(tokens[0])
        OPENED.reset(tokens[1])


def stored_view(study_id: str | None, database_url: str | None = None) -> StudyView:
    """Show a stored study, the newest where none is named; raises `ConfigError` where there is none."""
    from db.database import Database
    from flows.studies import newest_study, study_view

    with Database.open(database_url) as database:
        return study_view(study_id or newest_study(database), database)


def stored_architecture(study_id: str | None, trial: int | None = None, database_url: str | None = None) -> str:
    """Return the best architecture of a study, or that of a trial, as YAML with a comment that says where it is from.

    Raises `ConfigError` where there is none.
    """
    import yaml

    from db.database import Database
    from flows.studies import newest_study, study_view, trial_architecture

    with Database.open(database_url) as database:
        view = study_view(study_id or newest_study(database), database)
        number = view.leader if trial is None else trial
        if number is None:
            raise ConfigError(f"Study {view.id!r} has no best yet: no trial has finished its first rung.")
        data = trial_architecture(view.id, number, database)
    about = f"Trial {number} of study {view.id}: {view.trials[number].label}."
    said = f"# {about}\n" + (f"# {view.ending.sentence}\n" if view.ending is not None and trial is None else "")
    return said + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
