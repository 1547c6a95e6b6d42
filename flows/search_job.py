"""What a search is, as plain data, and the opening of it: its space planned, its items cut, its store at hand."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field

from architectures.planner import Speed
from db.errors import ConfigError
from db.speeds import measured_speeds
from flows.evaluate import TaskChoice
from flows.session import Session, SessionSettings
from search.objective import Objective, ObjectiveName

if TYPE_CHECKING:
    from db.database import Database
    from db.studies import StudyStore
    from evals import Item, Task
    from providers.book import ModelBook
    from search import Bills, PlannedSpace, Race
    from search.caps import Cap, CapName
    from search.pricing import PlannedPoint
    from search.space import Space

__all__ = [
    "OpenStudy",
    "SearchJob",
    "Split",
    "needs_speeds",
    "open_study",
    "planned_speeds",
    "reordered",
    "token_speeds",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z")
_OF_A_GO: Final = {"baselines", "concurrency", "finalists", "parallel", "trials"}
_NOT_ITSELF = frozenset({*_OF_A_GO, "history", "session", "speeds", "study"})
"""What may change from one go at a study to the next."""
_SPLIT_BY: Final = {"dev_share", "seed", "task"}
_PRICED: Final = {"cost_per_correct", "dollars", "utility"}
"""Objectives in which a price that nobody knows would count as nothing."""
_LEAST_HISTORY = 10
"""Items that an earlier run has to share with the dev split to count."""
_MOST_HISTORY = 5
_MOST_RUNS = 100_000


class SearchJob(BaseModel):
    """Everything that a search is, as plain data: what a deployment stores and a worker gets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str = ""
    """The study's id; empty makes one of what is searched, so that the same search finds its earlier study."""
    space: dict[str, Any]
    """The space, written out in full."""
    models: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Models by role, in the place of those of the space."""
    caps: dict[str, Any] = Field(default_factory=dict)
    """What one question may cost, as a space says it, beside the caps of the space."""
    task: TaskChoice
    dev_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of the items that the search may see; the others are held out for the end."""
    guard_share: float = Field(default=0.2, ge=0, lt=1)
    """Share of the dev items that the sampler does not see; the winner is chosen from the finalists on them."""
    session: SessionSettings = SessionSettings()
    """Its caps hold for the study as a whole, whatever the number of goes and workers."""
    sampler: str = "gp"
    options: dict[str, float] = Field(default_factory=dict)
    """Options of the sampler."""
    race: bool = True
    """Trials grow through rungs of items; else every trial is scored on all of them."""
    rungs: tuple[int, ...] = ()
    """Items after each rung; empty leaves it to the default."""
    eta: int = Field(default=3, ge=2)
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Error of dropping the best, and of what is said at the end."""
    objectives: tuple[ObjectiveName, ...] = ("quality",)
    error_price: float = Field(default=0.0, ge=0)
    """Dollars that a wrong answer costs, for the objective `utility`."""
    trials: int = Field(default=60, gt=0)
    """How many architectures are tried at most."""
    parallel: int = Field(default=4, gt=0)
    """Pieces of trials that run side by side; they are asked for together, so that the course is reproducible."""
    concurrency: int = Field(default=64, gt=0)
    """Items in flight in all of them."""
    finalists: int = Field(default=3, gt=0)
    """The winner and its runners-up."""
    baselines: tuple[dict[str, Any], ...] = ()
    """Architectures, written out, that the winner is compared with beside the best single model and its votes."""
    start: tuple[dict[str, Any], ...] = ()
    """Architectures, written out, that are tried first."""
    history: tuple[str, ...] | None = None
    """Ids of architectures that are tried next; None takes those that did best on these items in earlier runs."""
    speeds: dict[str, float] | None = None
    """Tokens a second of each model, for a cap in seconds; None takes those of the calls that are stored when the study
    begins."""
    rank: bool = False
    """Measure every model alone in each role first, so that the best k of a role are the best by measurement."""
    share: bool = True
    """Trials share their samples; without it each draws its own, which costs a multiple."""
    seed: int = 0

    @property
    def objective(self) -> Objective:
        """The objectives."""
        return Objective(names=self.objectives, error_price=self.error_price)

    @property
    def go(self) -> dict[str, Any]:
        """What this go at the study may have other than the last, as plain data."""
        return {**self.model_dump(mode="json", include=_OF_A_GO), "caps": self.session.caps.model_dump(mode="json")}

    def gone_on(self, go: Mapping[str, Any]) -> SearchJob:
        """Return the job with what a later go at the study had."""
        data = self.model_dump(mode="json")
        session = {**data["session"], "caps": go["caps"]}
        return SearchJob.model_validate({**data, **{name: go[name] for name in _OF_A_GO}, "session": session})

    @property
    def id(self) -> str:
        """The study's id."""
        if self.study:
            if not _NAME.match(self.study):
                raise ConfigError(f"A study's name has up to 32 letters, digits and . _ -, unlike {self.study!r}.")
            return self.study
        what = orjson.dumps(self.model_dump(mode="json", exclude=set(_NOT_ITSELF)), option=orjson.OPT_SORT_KEYS)
        return f"s-{hashlib.sha256(what).hexdigest()[:10]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The items of a study, in its order."""

    search: tuple[Item, ...]
    """What trials are scored on."""
    guard: tuple[Item, ...]
    """What the winner is chosen on from the finalists."""
    held_out: tuple[Item, ...]
    """What nobody looks at before the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStudy:
    """What the parts of a search share in one process."""

    id: str
    job: SearchJob
    session: Session
    store: StudyStore
    task: Task
    split: Split
    planned: PlannedSpace
    race: Race
    caps: tuple[Cap, ...]
    """What one question may cost."""
    bills: Bills
    first: tuple[int, ...]
    """Points that are tried before the sampler's own."""
    worker: str

    @property
    def models(self) -> tuple[str, ...]:
        """All models that may be asked."""
        spec_models = {model for point in self.planned.points for model in point.spec.models()}
        return tuple(sorted({*spec_models, *self.task.scorer.models()}))

    @property
    def items(self) -> dict[str, Item]:
        """All items by id."""
        return {item.id: item for part in (self.split.search, self.split.guard, self.split.held_out) for item in part}


def open_study(job: SearchJob, session: Session) -> OpenStudy:
    """Plan the space, cut the items, and find the study or begin it; makes no call.

    Raises `UserError`s: for a space or caps that leave nothing, a task with too few items, and a study of this name
    that was begun on something else.
    """
    from architectures.places import Place
    from db.studies import StudyStore
    from search import Bills, plan_space, read_space
    from search.caps import read_caps

    _check_objectives(job)
    task = job.task.load()
    split = _split(job, task)
    space = read_space(job.space, models=job.models)
    caps = read_caps(job.caps, Place("caps"))
    job = job.model_copy(update={"speeds": _speeds(job, space, caps, session)})
    planned = plan_space(
        space, session.book, [item.prompt for item in split.search], caps=caps, speeds=planned_speeds(job.speeds)
    )
    _check_prices(job, planned.points)
    race, first = _race(job, planned, len(split.search)), _first(job, planned, session)
    study_id = job.id
    store = StudyStore(session.database)
    job = _stored(job, study_id, session, task, _history(job, planned, split, session, task))
    _same(study_id, store, planned, _data_digest(planned, task, session), job)
    places = {key: place for place, key in enumerate(planned.domain.keys)}
    remembered = [places[key] for key in job.history or () if key in places]
    return OpenStudy(
        id=study_id,
        job=job,
        session=session,
        store=store,
        task=task,
        split=split,
        planned=planned,
        race=race,
        caps=(*space.caps, *caps),
        bills=Bills(planned),
        first=(*dict.fromkeys([*first, *remembered]),),
        worker=f"{socket.gethostname()}|{os.getpid()}|{secrets.token_hex(4)}",
    )


def reordered(study: OpenStudy, values: Mapping[str, Mapping[str, float]]) -> OpenStudy:
    """Return the study with the models of each role in the order of their values, best first."""
    from search import Bills, plan_space, rank_models

    space = study.planned.space
    for role, measured in values.items():
        space = rank_models(space, role, measured)
    prompts = [item.prompt for item in study.split.search]
    speeds = planned_speeds(study.job.speeds)
    planned = plan_space(space, study.session.book, prompts, caps=study.caps, speeds=speeds)
    first, history = _first(study.job, planned, study.session), study.job.history or ()
    places = {key: place for place, key in enumerate(planned.domain.keys)}
    return replace(
        study,
        planned=planned,
        race=_race(study.job, planned, len(study.split.search)),
        bills=Bills(planned),
        first=(*dict.fromkeys([*first, *(places[key] for key in history if key in places)]),),
    )


def _speeds(job: SearchJob, space: Space, caps: Sequence[Cap], session: Session) -> dict[str, float] | None:
    """Return how fast the models of a space answer, as the study began with it; None where no cap is in seconds."""
    if job.speeds is not None or not needs_speeds(space, caps):
        return job.speeds
    began = session.runs.find(job.id)
    if began is not None and began.kind == "search":
        return SearchJob.model_validate_json(began.config).speeds
    return token_speeds(session.database, space, session.book)


def needs_speeds(space: Space, caps: Sequence[Cap]) -> bool:
    """Tell whether a cap, of the space or beside it, is in seconds."""
    return any(cap.name == "seconds" for cap in (*space.caps, *caps))


def token_speeds(database: Database, space: Space, book: ModelBook) -> dict[str, float]:
    """Return the tokens a second of each model of a space that has stored calls."""
    models = {model for drawn in space.points(book) for model in drawn.spec.models()}
    return {name: one.tokens_per_s for name, one in measured_speeds(database, sorted(models)).items()}


def planned_speeds(speeds: Mapping[str, float] | None) -> dict[str, Speed]:
    """Return tokens a second as plans take them."""
    # The wait for the first token is in the tokens a second.
    return {name: Speed(0.0, tokens_per_s) for name, tokens_per_s in (speeds or {}).items()}


def _check_objectives(job: SearchJob) -> None:
    if not job.objectives or len({*job.objectives}) < len(job.objectives):
        raise ConfigError(f"Objectives are different ones, one at least, unlike {', '.join(job.objectives) or 'none'}.")
    if job.error_price and "utility" not in job.objectives:
        raise ConfigError("An error price counts in the objective utility alone: add it, or leave the price out.")
    if "seconds" in job.objectives and job.share:
        raise ConfigError(
            "Seconds can only be measured where every sample is drawn anew, since a stored one takes no time: "
            "add --no-share, or leave the objective out."
        )
    if job.race and "cost_per_correct" in job.objectives:
        raise ConfigError(
            "A cost per correct answer belongs to many items, so trials cannot race by it: add --no-race, or take "
            "the objective utility with an error price."
        )


def _check_prices(job: SearchJob, points: Sequence[PlannedPoint]) -> None:
    wanted = next((name for name in job.objectives if name in _PRICED), None)
    if wanted and any(point.figures.likely["dollars"] is None for point in points):
        raise ConfigError(
            f"The objective {wanted!r} needs the dollars of every architecture, and some are unknown; give all models "
            "a price."
        )


def _split(job: SearchJob, task: Task) -> Split:
    parts = task.split(job.dev_share, job.seed)
    dev = parts.dev.sample(len(parts.dev.items), job.seed).items
    guarded = round(job.guard_share * len(dev))
    seen = dev[: len(dev) - guarded]
    if len(seen) < 3 or len(parts.held_out.items) < 3:
        raise ConfigError(
            f"Task {task.name!r} has {len(task.items)} items, of which {len(seen)} are for the search and "
            f"{len(parts.held_out.items)} held out; each needs 3 at least: give more with --items."
        )
    return Split(search=seen, guard=dev[len(seen) :], held_out=parts.held_out.items)


def _stored(job: SearchJob, study_id: str, session: Session, task: Task, history: tuple[str, ...]) -> SearchJob:
    """Return the job as the study began, with what may change as it is given now."""
    new = job.model_copy(update={"history": history})
    record = session.runs.create(
        kind="search",
        name=str(job.space.get("name") or "search"),
        task=task.name,
        config=orjson.dumps(new.model_dump(mode="json")).decode(),
        run_id=study_id,
    )
    if record.kind != "search":
        raise ConfigError(f"{study_id!r} is the id of a run that is no search but a '{record.kind}'; name another.")
    began = SearchJob.model_validate_json(record.config)
    changed = _differences(began, job)
    if changed:
        raise ConfigError(
            f"Study {study_id!r} was begun with another {' and '.join(changed)}; give back what it had "
            f"(colonnade search resume {study_id}), or begin a new study with another name."
        )
    return job.model_copy(update={"history": began.history})


def _differences(began: SearchJob, job: SearchJob) -> list[str]:
    old, new = began.model_dump(mode="json"), job.model_dump(mode="json")
    return [key.replace("_", " ") for key in old if key not in _NOT_ITSELF and old[key] != new[key]]


def _same(study_id: str, store: StudyStore, planned: PlannedSpace, data: str, job: SearchJob) -> None:
    """Begin the study, or see that it is the same: the files and models behind equal words may have changed."""
    record = store.create(study_id, domain=planned.domain.digest, data=data, seed=job.seed)
    what = "space, prices or caps" if record.domain != planned.domain.digest else "items or models"
    if (record.domain, record.data) != (planned.domain.digest, data):
        raise ConfigError(
            f"Study {study_id!r} was begun on other {what}; bring them back, or begin a new study with another name."
        )


def _data_digest(planned: PlannedSpace, task: Task, session: Session) -> str:
    models = {model for point in planned.points for model in point.spec.models()} | {*task.scorer.models()}
    identities = sorted(session.gateway.identity(model) for model in models)
    return hashlib.sha256("\x00".join((task.digest, *identities)).encode()).hexdigest()


def _race(job: SearchJob, planned: PlannedSpace, items: int) -> Race:
    from search import Race, default_race, make_sampler

    span = _span(job, planned.points)
    if job.race and job.sampler == "gp" and not job.options and not job.rungs and job.eta == 3:
        return default_race(planned.domain, items, span=span, alpha=job.alpha)
    sampler = make_sampler(job.sampler, planned.domain, **job.options)
    if not job.race:
        rungs: Sequence[int] = (items,)
    else:
        rungs = job.rungs or default_race(planned.domain, items).rungs
        if rungs[-1] > items:
            raise ConfigError(
                f"The last rung has {rungs[-1]} items, but the search has {items}; give more with --items."
            )
    return Race(sampler, rungs, eta=job.eta, alpha=job.alpha, span=span)


def _span(job: SearchJob, points: Sequence[PlannedPoint]) -> float | None:
    """The difference between the greatest and the least score that an item can have; None where it has no bound."""
    match job.objectives[0]:
        case "seconds":
            return None
        case "utility":
            return job.error_price + _most(points, "dollars", job)
        case "calls" | "dollars" as name:
            return _most(points, name, job)
        case _:
            return 1.0


def _most(points: Sequence[PlannedPoint], name: CapName, job: SearchJob) -> float:
    figures = [point.figures.high[name] for point in points]
    known = [figure for figure in figures if figure is not None]
    if len(known) < len(figures):
        raise ConfigError(
            f"The objective {job.objectives[0]!r} needs the {name} of every architecture, and some are unknown; give "
            "all models a price and max_tokens."
        )
    return float(max(known, default=Decimal(0))) or 1.0


def _first(job: SearchJob, planned: PlannedSpace, session: Session) -> list[int]:
    from architectures import load

    places = {key: place for place, key in enumerate(planned.domain.keys)}
    specs = [load(data, session.book).spec for data in job.start]
    for spec in specs:
        if spec.id not in places:
            raise ConfigError(f"The architecture {spec.name!r} is no point of the space under its caps; leave it out.")
    return [places[spec.id] for spec in specs]


def _with_other_splits(job: SearchJob, session: Session) -> set[str]:
    """Name the searches that were made on other dev items.

    What they tried was chosen on items that may be held out here, so their good points would look too good in the end.
    """
    ours = job.model_dump(mode="json", include=_SPLIT_BY)
    # As plain data, since a study of an earlier version need not be a job of this one.
    configs = {one.id: orjson.loads(one.config) for one in session.runs.list(limit=_MOST_RUNS, kind="search")}
    return {run for run, config in configs.items() if {name: config.get(name) for name in ours} != ours}


def _history(job: SearchJob, planned: PlannedSpace, split: Split, session: Session, task: Task) -> tuple[str, ...]:
    """Choose points that did best on the dev items in earlier runs, by the lower ends of their intervals.

    Searches count where they had the same dev items.
    """
    from evals.stats import wilson

    if job.history is not None:
        return job.history
    dev = {item.id for item in (*split.search, *split.guard)}
    known = session.runs.scores(task.name, without={job.id, *_with_other_splits(job, session)})
    graded = []
    for architecture in known.keys() & set(planned.domain.keys):
        scores = [score for item, score in known[architecture].items() if item in dev]
        if len(scores) >= _LEAST_HISTORY:
            graded.append((wilson(round(sum(scores)), len(scores)).low, architecture))
    return tuple(architecture for _, architecture in sorted(graded, reverse=True)[:_MOST_HISTORY])
