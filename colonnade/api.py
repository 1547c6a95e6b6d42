"""The Python face: load an architecture, ask it, plan it, draw it, evaluate it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from colonnade.evaluating import make_job, run_jobs
from flows.answer import Answer, answer_once
from flows.evaluate import Evaluation, TaskChoice
from flows.session import CacheMode, Caps, SessionSettings

if TYPE_CHECKING:
    import pandas as pd

    from architectures import Plan
    from colonnade.plots import CostPoint

__all__ = ["Architecture", "EvaluationResult", "load"]

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


def _sync(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine to its end, also where a loop runs already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
