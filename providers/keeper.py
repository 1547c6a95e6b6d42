"""What of a database a gateway reads and writes, by its cache mode: samples found, and samples made durable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal

from db.calls import CallRecord, CallStore
from providers.bookkeeper import Bookkeeper
from providers.codec import Stored, as_record, from_record
from providers.payer import Paid
from providers.question import Question
from providers.shared_cache import Hot

__all__ = ["CacheMode", "Keeper"]

CacheMode = Literal["off", "on", "read-only", "refresh"]
"""on: read and write. off: neither. refresh: pay anew and replace what is stored. read-only: read, write nothing."""


class Keeper:
    """A store as one gateway uses it; without a store nothing is found and nothing kept."""

    def __init__(self, store: CallStore | None, mode: CacheMode, books: Bookkeeper) -> None:
        self._store = store
        self._mode = mode
        self._books = books
        self._refreshed: set[str] = set()

    async def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        """Return the samples that are stored and may be read, by key."""
        if self._store is None or self._mode == "off":
            return {}
        wanted = [key for key in keys if self._mode != "refresh" or key in self._refreshed]
        found = await self._store.find(wanted) if wanted else {}
        return {key: from_record(record) for key, record in found.items()}

    async def keep(
        self, question: Question, bought: Sequence[Paid], keys: Mapping[int, str], payer: tuple[str, str]
    ) -> list[Stored]:
        """Make samples durable; where another process was first, its samples stand in place of ours."""
        samples = [
            Stored(
                key=keys[paid.index],
                completion=paid.completion,
                cost=paid.cost,
                latency_s=paid.latency_s,
                payer=payer,
            )
            for paid in bought
        ]
        if self._store is None or not samples:
            return samples
        if self._mode in ("off", "read-only"):
            await self._books.not_kept(question, bought)
            return samples
        label = question.charge.key or None
        records = [
            _record(question, paid.index, stored, served=paid.served_model, key_label=label)
            for stored, paid in zip(samples, bought, strict=True)
        ]
        standing = await self._store.put(records, replace=self._mode == "refresh")
        if self._mode == "refresh":
            self._refreshed.update(record.key for record in records)
        if not standing:
            return samples
        # What was billed beside the samples that stand; a batch is billed once, however often it is read.
        beside = [paid for paid in bought if keys[paid.index] in standing and not paid.batched]
        await self._books.not_kept(question, beside)
        return [
            replace(from_record(standing[stored.key]), payer=payer) if stored.key in standing else stored
            for stored in samples
        ]

    async def take_over(self, question: Question, foreign: Mapping[int, Hot]) -> None:
        """Store samples that only another database holds."""
        if foreign and self._store is not None and self._mode == "on":
            await self._store.put(
                [_record(question, index, one.stored, created_at=one.created_at) for index, one in foreign.items()]
            )


def _record(
    question: Question,
    index: int,
    stored: Stored,
    *,
    served: str | None = None,
    key_label: str | None = None,
    created_at: datetime | None = None,
) -> CallRecord:
    return as_record(
        stored,
        identity=question.endpoint.identity,
        alias=question.endpoint.spec.name,
        node=question.node,
        index=question.number(index),
        request=question.payload(index).decode(),
        served=served,
        key_label=key_label,
        created_at=created_at,
    )
