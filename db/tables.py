"""The tables, as SQLModel classes; rows stay inside `db/`, across its border go the frozen records beside each store.

Money is exact decimal text and time is ISO 8601 text in UTC, so that SQLite and PostgreSQL hold the same values.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import BigInteger, Dialect, String, Text, UniqueConstraint
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, MetaData, SQLModel

__all__ = [
    "ArchitectureRow",
    "CallFailureRow",
    "CallRow",
    "ItemResultRow",
    "ProviderBatchCallRow",
    "ProviderBatchRow",
    "RunRow",
    "SpendingRow",
    "StudyJobRow",
    "StudyRow",
    "TrialRow",
    "UtcText",
    "metadata",
]


class UtcText(TypeDecorator[datetime]):
    """An aware moment, stored as ISO 8601 text in UTC with microseconds, which sorts as it reads."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """Write a moment; raises `ValueError` for one without a time zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the moment {value.isoformat()} has no time zone")
        return value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        """Read a moment."""
        return None if value is None else datetime.fromisoformat(value)


class CallRow(SQLModel, table=True):
    """One paid sample of one model: what was asked, what came, what it cost, and who paid."""

    __tablename__ = "call"

    key: str = Field(primary_key=True, max_length=64)
    identity: str
    alias: str
    node: str
    item_id: str
    run_id: str = Field(index=True)
    sample_index: int
    request: str = Field(sa_type=Text)
    response: str = Field(sa_type=Text)
    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int
    tokens_estimated: bool
    cost: str | None = None
    latency_s: float
    created_at: datetime = Field(sa_type=UtcText, index=True)
    key_label: str | None = None


class CallFailureRow(SQLModel, table=True):
    """One sample that did not come, after all attempts."""

    __tablename__ = "call_failure"

    id: int | None = Field(default=None, primary_key=True)
    run_id: str = Field(index=True)
    item_id: str
    node: str
    alias: str
    identity: str
    sample_index: int
    kind: str
    message: str = Field(sa_type=Text)
    attempts: int
    created_at: datetime = Field(sa_type=UtcText, index=True)


class SpendingRow(SQLModel, table=True):
    """What was paid and stands in no row of `call`: not stored, withheld, replaced, or cleared away since."""

    __tablename__ = "spending"

    id: int | None = Field(default=None, primary_key=True)
    run_id: str = Field(index=True)
    key_label: str | None = None
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: str | None = None
    created_at: datetime = Field(sa_type=UtcText, index=True)


class ProviderBatchRow(SQLModel, table=True):
    """A batch at a provider; written with its mark before the provider is asked for it."""

    __tablename__ = "provider_batch"

    mark: str = Field(primary_key=True, max_length=32)
    place: str = Field(index=True)
    alias: str
    run_id: str = Field(index=True)
    status: str
    provider_id: str | None = None
    lines: int
    created_at: datetime = Field(sa_type=UtcText)
    sent_at: datetime | None = Field(default=None, sa_type=UtcText)
    ended_at: datetime | None = Field(default=None, sa_type=UtcText)


class ProviderBatchCallRow(SQLModel, table=True):
    """A sample that is asked for in a batch; gone once it is stored, so that no key stands in two batches."""

    __tablename__ = "provider_batch_call"

    key: str = Field(primary_key=True, max_length=64)
    mark: str = Field(foreign_key="provider_batch.mark", index=True)
    line: int
    place: int
    run_id: str
    item_id: str
    node: str
    sample_index: int
    request: str = Field(sa_type=Text)


class ArchitectureRow(SQLModel, table=True):
    """An architecture, named by the hash of its canonical JSON."""

    __tablename__ = "architecture"

    id: str = Field(primary_key=True, max_length=64)
    name: str
    canonical: str = Field(sa_type=Text)
    created_at: datetime = Field(sa_type=UtcText)


class RunRow(SQLModel, table=True):
    """One evaluation, search or batch."""

    __tablename__ = "run"

    id: str = Field(primary_key=True, max_length=32)
    kind: str
    status: str
    name: str
    architecture_id: str | None = None
    task: str | None = None
    config: str = Field(sa_type=Text)
    totals: str | None = Field(default=None, sa_type=Text)
    started_at: datetime = Field(sa_type=UtcText, index=True)
    ended_at: datetime | None = Field(default=None, sa_type=UtcText)


class ItemResultRow(SQLModel, table=True):
    """What one architecture made of one item in one run, with its full trace."""

    __tablename__ = "item_result"

    run_id: str = Field(primary_key=True, max_length=32, foreign_key="run.id")
    architecture_id: str = Field(primary_key=True, max_length=64)
    item_id: str = Field(primary_key=True)
    status: str
    answer: str | None = Field(default=None, sa_type=Text)
    output: str | None = Field(default=None, sa_type=Text)
    score: float | None = None
    correct: bool | None = None
    calls_used: int
    calls_paid: int
    prompt_tokens_used: int
    completion_tokens_used: int
    prompt_tokens_paid: int
    completion_tokens_paid: int
    cost_used: str | None = None
    cost_paid: str | None = None
    latency_s: float
    error_class: str | None = None
    error_message: str | None = Field(default=None, sa_type=Text)
    trace: str = Field(sa_type=Text)
    created_at: datetime = Field(sa_type=UtcText)


class StudyRow(SQLModel, table=True):
    """A search over architectures; its run has the same id."""

    __tablename__ = "study"

    id: str = Field(primary_key=True, max_length=32, foreign_key="run.id")
    domain: str = Field(max_length=64)
    data: str = Field(max_length=64)
    seed: int = Field(sa_type=BigInteger)
    created_at: datetime = Field(sa_type=UtcText)


class TrialRow(SQLModel, table=True):
    """One architecture that a study tries; its label is the JSON of the point's parameters."""

    __tablename__ = "trial"
    __table_args__ = (UniqueConstraint("study_id", "point", name="uq_trial_study_id_point"),)

    study_id: str = Field(primary_key=True, max_length=32, foreign_key="study.id")
    number: int = Field(primary_key=True)
    point: int
    architecture_id: str = Field(max_length=64)
    label: str = Field(sa_type=Text)
    created_at: datetime = Field(sa_type=UtcText)


class StudyJobRow(SQLModel, table=True):
    """One rung of a trial, or with trial -1 work of the study as a whole: who does it, until when, what came of it."""

    __tablename__ = "study_job"

    study_id: str = Field(primary_key=True, max_length=32, foreign_key="study.id")
    trial: int = Field(primary_key=True)
    rung: int = Field(primary_key=True)
    worker: str
    leased_until: datetime = Field(sa_type=UtcText)
    scores: str | None = Field(default=None, sa_type=Text)
    totals: str | None = Field(default=None, sa_type=Text)
    created_at: datetime = Field(sa_type=UtcText)
    told_at: datetime | None = Field(default=None, sa_type=UtcText)


metadata: MetaData = SQLModel.metadata
