"""The Python face: load an architecture, ask it, plan it, draw it, evaluate it, batch it; search for a better one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from colonnade.evaluating import make_job, run_jobs
from db.errors import ConfigError
from flows.answer import Answer, answer_once
from flows.evaluate import Evaluation, TaskChoice
from flows.session import CacheMode, Caps, SessionSettings

if TYPE_CHECKING:
    import pandas as pd

    from architectures import Plan
    from colonnade.plots import CostPoint
    from flows.batch_parts import Existing
    from flows.batch_plan import BatchPlan
    from flows.batch_report import BatchReport
    from flows.study_view import StudyView

__all__ = ["Architecture", "EvaluationResult", "SearchResult", "load", "search"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """One evaluation: its summary, its items, and what to make of them."""

    evaluation: Evaluation

    @property
    def run_id(self) -> str:
        """The run's id, for `colonnade runs show` and `colonnade compare`."""
        return self.evaluation.run_id

    @property
    def accuracy(self) -> float | None:
        """Mean score from 0 to 1; None where no item was done."""
        return self.evaluation.summary.accuracy if self.evaluation.summary else None

    def to_frame(self) -> pd.DataFrame:
        """Return one row an item as a pandas table; raises `ConfigError` without pandas."""
        from evals import to_frame

        return to_frame(self.evaluation.results)

    def plot(self, path: str | Path, *others: EvaluationResult) -> tuple[CostPoint, ...]:
        """Draw accuracy against cost, of this evaluation and others, to a file, and return what is shown."""
        from colonnade.plots import plot_accuracy_cost

        return plot_accuracy_cost([self.evaluation, *(other.evaluation for other in others)], Path(path))

    def __str__(self) -> str:
        from colonnade.tables import evaluation_table

        return evaluation_table([self.evaluation])


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """A search: its trials, its end, and what to make of the winner."""

    view: StudyView
    """Everything that is shown of it, as data."""
    settings: SessionSettings

    @property
    def study_id(self) -> str:
        """The study's id, for `colonnade search show`."""
        return self.view.id

    @property
    def best(self) -> Architecture:
        """The winner, or the best so far; raises `ConfigError` where no trial has finished its first rung."""
        if self.view.architecture is None or self.view.leader is None:
            raise ConfigError(f"Study {self.view.id!r} has no best yet: no trial has finished its first rung.")
        data = {**self.view.architecture, "name": f"{self.view.id}-{self.view.leader}"}
        return Architecture(data, self.settings, ())

    def report(self, path: str | Path) -> None:
        """Write the report, one HTML file that needs no network; raises `ConfigError` without plotly."""
        from colonnade.report import write_report

        write_report(self.view, Path(path))

    def __str__(self) -> str:
        from colonnade.study_tables import study_text

        return study_text(self.view)


class Architecture:
    """An architecture that was loaded and checked; made by `load`."""

    def __init__(self, spec: Mapping[str, object], settings: SessionSettings, warnings: tuple[str, ...]) -> None:
        self._spec = spec
        self._settings = settings
        self.warnings = warnings
        """What its author should know, such as a critique that nothing reads."""

    @property
    def name(self) -> str:
        """Its name."""
        return str(self._spec["name"])

    def run(self, question: str, *, answer: str = "auto", fresh: str = "") -> Answer:
        """Answer a question; `arun` is the same as a coroutine. Raises `UserError`s and `BudgetExceeded`."""
        return _sync(self.arun(question, answer=answer, fresh=fresh))

    async def arun(self, question: str, *, answer: str = "auto", fresh: str = "") -> Answer:
        """Answer a question."""
        return await answer_once(self._spec, question, self._settings, answer_kind=answer, fresh=fresh)

    def evaluate(
        self,
        task: str,
        *,
        items: int | None = None,
        options: Mapping[str, str] | None = None,
        seed: int = 0,
        concurrency: int = 64,
        fresh: str = "",
        prefect: bool = False,
    ) -> EvaluationResult:
        """Evaluate on a task (its name or a data file); a repeated call goes on where the last one stopped.

        `prefect=True` runs it as a Prefect flow. Raises `UserError`s; a cap that ends it shows in the status.
        """
        choice = TaskChoice(name=task, options=dict(options or {}), items=items, seed=seed)
        job = make_job(self._spec, choice, self._settings, concurrency=concurrency, fresh=fresh)
        (evaluation,) = _sync(run_jobs([job], prefect=prefect))
        return EvaluationResult(evaluation=evaluation)

    def batch(
        self, rows: str | Path, out: str | Path, *, existing: Existing = "ask", prefect: bool = False, **options: Any
    ) -> BatchReport:
        """Answer every row of a file into another; the same call goes on after a kill (see `docs/batch.md`).

        `existing` says what becomes of an output that stands: `resume` or `overwrite`. `options` are those of
        `colonnade.batching.make_batch_job`, such as `template`, `gold`, `scorer` and `chunk`. The caps hold
        for the run over all its goes. Raises `UserError`s; a cap that ends it shows in the status.
        """
        from colonnade.batching import make_batch_job, run_batch

        settings = self._settings.model_copy(update={"caps_per_run": True})
        job = make_batch_job(self._spec, Path(rows), settings, out=Path(out), **options)
        return _sync(run_batch(job, existing=existing, prefect=prefect))

    def plan_batch(self, rows: str | Path, *, pilot: int = 0, **options: Any) -> BatchPlan:
        """Foretell a batch, for each way of running it; `pilot` rows are answered, and not paid again by the batch."""
        from colonnade.batching import foretell_batch, make_batch_job

        settings = self._settings.model_copy(update={"caps_per_run": True})
        return _sync(foretell_batch(make_batch_job(self._spec, Path(rows), settings, **options), pilot=pilot))

    def plan(self, question: str | None = None) -> Plan:
        """Foretell calls, tokens and dollars of one question, without a call."""
        from architectures import load as load_spec
        from architectures import plan
        from providers.book import ModelBook

        book = ModelBook.load(self._settings.models)
        return plan(load_spec(self._spec, book).spec, book, question)

    def mermaid(self) -> str:
        """Draw it as Mermaid text."""
        from architectures import draw_mermaid
        from architectures import load as load_spec

        return draw_mermaid(load_spec(self._spec).spec)


def load(
    source: str | Path | Mapping[str, object],
    *,
    models: str | Path | None = None,
    database_url: str | None = None,
    dollars: Decimal | float | None = None,
    tokens: int | None = None,
    calls: int | None = None,
    cache: CacheMode = "on",
    techniques: Sequence[str | Path] = (),
    **parameters: object,
) -> Architecture:
    """Load an architecture: a YAML or JSON file, `preset:name` with its parameters, or plain data.

    `techniques` are Python files with techniques of your own. `dollars`, `tokens` and `calls` cap what each `run` or
    `evaluate` may spend. Raises `UserError`s.
    """
    from architectures import load as load_spec
    from providers.book import ModelBook

    caps = Caps(dollars=None if dollars is None else Decimal(str(dollars)), tokens=tokens, calls=calls)
    settings = SessionSettings(
        models=None if models is None else Path(models),
        database_url=database_url,
        techniques=tuple(Path(path).resolve() for path in techniques),
        caps=caps,
        cache=cache,
    )
    settings.load_techniques()
    loaded = load_spec(source, ModelBook.load(settings.models), parameters=parameters)
    return Architecture({**loaded.spec.data(), "name": loaded.name}, settings, loaded.warnings)


def search(
    space: str | Path | Mapping[str, Any],
    task: str = "arithmetic",
    *,
    items: int | None = None,
    task_options: Mapping[str, str] | None = None,
    models: str | Path | None = None,
    database_url: str | None = None,
    dollars: Decimal | float | None = None,
    tokens: int | None = None,
    calls: int | None = None,
    techniques: Sequence[str | Path] = (),
    prefect: bool = False,
    **options: Any,
) -> SearchResult:
    """Search a space (a ready one's name, a YAML file, or plain data) for the best architecture on a task.

    `dollars`, `tokens` and `calls` cap the whole study; a repeated call goes on where the last one stopped. `options`
    are those of `flows.search_job.SearchJob`, such as `trials`, `caps` (of one question), `sampler`, `objectives`,
    `baselines` and `seed`. Raises `UserError`s; a cap that ends it shows in the status.
    """
    from colonnade.searching import make_search_job, run_search

    settings = SessionSettings(
        models=None if models is None else Path(models),
        database_url=database_url,
        techniques=tuple(Path(path).resolve() for path in techniques),
        caps=Caps(dollars=None if dollars is None else Decimal(str(dollars)), tokens=tokens, calls=calls),
    )
    choice = TaskChoice(name=task, options=dict(task_options or {}), items=items, seed=int(options.get("seed", 0)))
    job = make_search_job(space, choice, settings, **options)
    return SearchResult(view=_sync(run_search(job, prefect=prefect)), settings=settings)


def _sync(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine to its end, also where a loop runs already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
