"""What a batch job is, as plain data, and what its rows share while it runs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from db.errors import ConfigError, DataError
from flows.answer import answer_kind_of
from flows.batch_input import InputFile, inspect_input, need_pyarrow
from flows.batch_parts import failed_path
from flows.batch_template import Template
from flows.session import Session, SessionSettings

if TYPE_CHECKING:
    from architectures import Architecture, CompiledArchitecture
    from evals import Scorer
    from flows.batch_input import InputRow
    from flows.batch_parts import Parts
    from nodes.base import AnswerKind

__all__ = ["OUTPUT_COLUMNS", "OUTPUT_SUFFIXES", "BatchJob", "OpenBatch", "RowOrder", "open_batch", "register"]

RowOrder = Literal["input", "prefix"]
OUTPUT_SUFFIXES = (".jsonl", ".ndjson", ".parquet")
OUTPUT_COLUMNS = ("answer", "extracted", "score", "cost", "paid", "tokens", "calls", "trace")


class BatchJob(BaseModel):
    """Everything that a batch job is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: dict[str, Any]
    """The architecture, written out in full (a path or a preset's name would mean something else elsewhere)."""
    input: Path
    out: Path | None = None
    """None for a job that is only planned."""
    template: str = "{question}"
    answer: str = "auto"
    """The kind of answer, where no scorer says it."""
    gold: str | None = None
    """Column of the right answer; None scores nothing."""
    scorer: str = "stated"
    scorer_model: str | None = None
    prefix: str = ""
    """Stands before the names of the columns that are added."""
    session: SessionSettings = SessionSettings()
    deadline: timedelta | None = None
    """From the start of a go at the job; chooses between batch price and immediate calls."""
    concurrency: int = Field(default=64, gt=0)
    """Rows in flight, without a provider's batch interface."""
    chunk: int = Field(default=500, gt=0)
    """Rows in one part, which is one Prefect task."""
    order: RowOrder = "input"
    """How the rows of a chunk are asked; the output stands in the order of the input."""
    traces: bool = False
    """Keep the way to each answer in the database."""
    fresh: str = ""
    again: int = Field(default=0, ge=0)

    @property
    def title(self) -> str:
        """The architecture's name, for people."""
        return str(self.architecture.get("name") or "architecture")

    @property
    def levelled(self) -> bool:
        """Whether calls wait for others of their kind, so that all rows of a chunk go level by level."""
        return self.session.batch == "on" or self.session.one_model_at_a_time

    @property
    def in_flight(self) -> int:
        """Rows in flight."""
        return self.chunk if self.levelled else self.concurrency

    @property
    def due_session(self) -> SessionSettings:
        """The session of a go that begins now, with the moment of its deadline."""
        if self.deadline is None:
            return self.session
        return self.session.model_copy(update={"batch_deadline": datetime.now(UTC) + self.deadline})


@dataclass(slots=True, kw_only=True)
class OpenBatch:
    """What the chunks of a job share in one process."""

    run_id: str
    job: BatchJob
    session: Session
    architecture: Architecture
    compiled: CompiledArchitecture
    template: Template
    scorer: Scorer | None
    answer_kind: AnswerKind
    models: tuple[str, ...]
    input: InputFile
    window: asyncio.Semaphore
    parts: Parts | None = None
    waiting: dict[int, Sequence[InputRow]] = field(default_factory=dict)
    """The rows of the chunks that are under way, by chunk."""

    @property
    def added(self) -> dict[str, str]:
        """The names of the columns that are added, by what they hold."""
        held = [name for name in OUTPUT_COLUMNS if self.scorer is not None or name not in ("extracted", "score")]
        return {name: f"{self.job.prefix}{name}" for name in held}


def open_batch(job: BatchJob, session: Session) -> OpenBatch:
    """Read architecture, template and input, and name the run; raises `UserError`s for what cannot be run.

    A run is named by what it answers: the architecture, the input's bytes, the template, the scorer and the models. So
    a pilot, a run and its resumption are one run, wherever their output goes and however quickly they are to be done.
    """
    from architectures import compile_architecture, load
    from evals import make_scorer

    architecture = load(job.architecture, session.book)
    template = Template(job.template)
    scorer = make_scorer(job.scorer, model=job.scorer_model) if job.gold is not None else None
    answer_kind = scorer.answer_kind if scorer is not None else answer_kind_of(job.answer)
    read = inspect_input(job.input)
    models = tuple(sorted({*architecture.spec.models(), *(scorer.models() if scorer is not None else ())}))
    what = (
        architecture.id,
        read.digest,
        job.template,
        answer_kind,
        f"{job.gold}\x01{scorer.name}" if scorer is not None else "",
        *(session.gateway.identity(model) for model in models),
        job.fresh,
        str(job.again),
    )
    named = hashlib.sha256("\x00".join(what).encode()).hexdigest()
    opened = OpenBatch(
        run_id=f"b-{named[:10]}",
        job=job,
        session=session,
        architecture=architecture,
        compiled=compile_architecture(architecture.spec, session.book),
        template=template,
        scorer=scorer,
        answer_kind=answer_kind,
        models=models,
        input=read,
        window=asyncio.Semaphore(job.in_flight),
    )
    _check_columns(opened)
    _check_way(opened)
    return opened


def register(opened: OpenBatch) -> None:
    """Store the run of a job, unless an earlier go at it did."""
    from architectures.canonical import canonical_json

    runs, architecture, job = opened.session.runs, opened.architecture, opened.job
    runs.save_architecture(
        architecture.id, name=architecture.name, canonical=canonical_json(architecture.spec).decode()
    )
    runs.create(
        kind="batch",
        name=architecture.name,
        architecture_id=architecture.id,
        task=job.input.name,
        config=orjson.dumps(job.model_dump(mode="json")).decode(),
        run_id=opened.run_id,
    )


def _check_way(opened: OpenBatch) -> None:
    """Make sure that batch interfaces are asked for where there is one, and a deadline where it can be kept."""
    if opened.job.deadline is not None and opened.job.session.batch == "off":
        raise ConfigError(
            'A deadline chooses between a batch interface and immediate calls; give the session batch: "on" with it.'
        )
    if opened.session.settings.batch == "off":
        return
    if all(opened.session.book.resolve(model).batch is None for model in opened.models):
        raise ConfigError(
            f"No provider of {', '.join(opened.models)} has a batch interface; leave --batch out, or give the model's "
            "in models.yaml (batch: {api: openai})."
        )


def _check_columns(opened: OpenBatch) -> None:
    """Hold the names of the job against the columns of the input's first good row."""
    job, columns = opened.job, opened.input.columns
    if not columns:
        raise DataError(f"No row of {job.input} can be used; the first ones are not valid.")
    opened.template.check(columns)
    if job.gold is not None and job.gold not in columns:
        raise DataError(f"The input has no column {job.gold!r} for --gold; the columns are {', '.join(columns)}.")
    taken = [name for name in opened.added.values() if name in columns]
    if taken:
        raise ConfigError(
            f"The input has a column {taken[0]!r} itself, which the output adds; choose other names with --prefix, "
            "such as --prefix out_."
        )
    if job.out is not None and not job.out.name.lower().endswith(OUTPUT_SUFFIXES):
        raise ConfigError(f"The output {job.out} is of an unknown kind; name it {', '.join(OUTPUT_SUFFIXES)}.")
    if job.out is not None and any(_is_input(job, path) for path in (job.out, failed_path(job.out))):
        raise ConfigError(f"The output {job.out} would be written over the input {job.input}; name another --out.")
    if job.out is not None and job.out.name.lower().endswith(".parquet"):
        need_pyarrow()


def _is_input(job: BatchJob, path: Path) -> bool:
    return path.exists() and path.samefile(job.input)
