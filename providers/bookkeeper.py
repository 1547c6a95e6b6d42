"""What no stored call shows is written down too: samples that failed, and samples that were paid and not kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from db.calls import CallStore
from db.spending import FailureRecord, Ledger, SpendingRecord
from providers.base import Usage
from providers.errors import ProviderError
from providers.payer import Paid, Unpaid
from providers.question import Bill, Question
from providers.scrub import scrub

__all__ = ["Bookkeeper"]


class Bookkeeper:
    """Writes to the ledger of a database; without a database it writes nothing."""

    def __init__(self, store: CallStore | None) -> None:
        self._ledger = None if store is None else Ledger(store.database)

    async def failed(self, question: Question, outcomes: Sequence[Unpaid], *, item_id: str, node: str) -> None:
        """Write down samples that did not come, and what was billed for those that were withheld.

        Errors that are no provider's (a spent budget, a wrong setting) are no failed calls.
        """
        if self._ledger is None or not outcomes:
            return
        now = datetime.now(UTC)
        failures = [
            FailureRecord(
                run_id=question.charge.run_id,
                item_id=item_id,
                node=node,
                alias=question.endpoint.spec.name,
                identity=question.endpoint.identity,
                sample_index=outcome.index,
                kind=outcome.error.kind,
                message=scrub(str(outcome.error)),
                attempts=max(1, outcome.error.attempts),
                created_at=now,
            )
            for outcome in outcomes
            if isinstance(outcome.error, ProviderError)
        ]
        billed = [(outcome.billed, outcome.cost) for outcome in outcomes if outcome.billed is not None]
        await self._ledger.put(failures=failures, spending=_spending(question, billed, now))

    async def not_kept(self, question: Question, bought: Iterable[Paid]) -> None:
        """Write down what samples cost that were paid and are not stored."""
        paid = [(sample.completion.usage, sample.cost) for sample in bought]
        if self._ledger is not None and paid:
            await self._ledger.put(spending=_spending(question, paid, datetime.now(UTC)))

    async def cut(self, question: Question, bills: Iterable[Bill]) -> None:
        """Write down what samples cost that were cancelled."""
        paid = [(bill.usage, bill.cost) for bill in bills]
        if self._ledger is not None and paid:
            await self._ledger.put(spending=_spending(question, paid, datetime.now(UTC)))


def _spending(question: Question, paid: Sequence[tuple[Usage, Decimal | None]], now: datetime) -> list[SpendingRecord]:
    return [
        SpendingRecord(
            run_id=question.charge.run_id,
            key_label=question.charge.key or None,
            calls=1,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost=cost,
            created_at=now,
        )
        for usage, cost in paid
    ]
