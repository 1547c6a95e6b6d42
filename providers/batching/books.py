"""Samples of batches for which nobody waits any more: paid, so they are stored or at least booked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from db.batches import BatchCall
from db.calls import CallRecord
from db.spending import Ledger, SpendingRecord
from providers.batching.lane import Lane
from providers.codec import Stored, as_record
from providers.replicas import Answered

if TYPE_CHECKING:
    from db.calls import CallStore

__all__ = ["Orphans", "batch_cost"]


class Orphans:
    """Keeps them: as calls that whoever asks next finds, or as spending where they are stored already or not to be."""

    def __init__(self, store: CallStore, *, keep: bool) -> None:
        self._store = store
        self._ledger = Ledger(store.database)
        self._keep = keep

    async def keep(self, lane: Lane, orphans: Sequence[tuple[BatchCall, Answered]]) -> None:
        """Store samples of a lane, each with its answer."""
        samples = [(call, answered, _stored(lane, call, answered)) for call, answered in orphans]
        # What the provider withheld is never stored.
        kept = [one for one in samples if self._keep and one[2].completion.finish_reason in ("stop", "length")]
        records = [
            as_record(
                stored,
                identity=lane.endpoint.identity,
                alias=lane.endpoint.spec.name,
                node=call.node,
                index=call.sample_index,
                request=call.request,
                served=answered.reply.served_model,
                key_label=lane.endpoint.key_label or None,
            )
            for call, answered, stored in kept
        ]
        standing = await self._store.put(records) if records else {}
        # A sample that another process read out of the same batch was billed once; one that was asked at once meanwhile
        # was billed beside it, at its own price.
        keys = {record.key for record in records if record.key not in standing or _same(record, standing, lane)}
        await self._ledger.put(spending=[_spending(lane, *one) for one in samples if one[0].key not in keys])


def batch_cost(lane: Lane, answered: Answered) -> Decimal | None:
    """Return the dollars of a sample that came by a batch."""
    spec = lane.endpoint.spec
    if spec.price is None:
        return answered.rent
    return spec.batch_cost(answered.reply.completions[0].usage)


def _same(record: CallRecord, standing: Mapping[str, CallRecord], lane: Lane) -> bool:
    """Tell whether the record that stands is the same sample, bought by the same batch."""
    other = standing[record.key]
    # The price of a rented machine's time depends on who looked when.
    rented = lane.endpoint.spec.price is None
    same = (other.response, other.completion_tokens) == (record.response, record.completion_tokens)
    return same and (rented or other.cost == record.cost)


def _stored(lane: Lane, call: BatchCall, answered: Answered) -> Stored:
    return Stored(
        key=call.key,
        completion=answered.reply.completions[0],
        cost=batch_cost(lane, answered),
        latency_s=answered.latency_s,
        payer=(call.run_id, call.item_id),
    )


def _spending(lane: Lane, call: BatchCall, answered: Answered, stored: Stored) -> SpendingRecord:
    usage = answered.reply.completions[0].usage
    return SpendingRecord(
        run_id=call.run_id,
        key_label=lane.endpoint.key_label or None,
        calls=1,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost=stored.cost,
        created_at=datetime.now(UTC),
    )
