"""The life of a batch: submitted, or found again; looked at; pulled back for a deadline; its results handed out."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

from db.batches import BatchCall, BatchRecord, BatchStatus, BatchStore
from db.errors import ColonnadeError
from providers.batching.base import BatchState, Line, Missing, Result, custom_id, line_of
from providers.batching.books import Orphans
from providers.batching.lane import Gathered, Lane, Out, Wanted, reply_part
from providers.batching.report import BatchReport
from providers.errors import BadRequest, CallTimeout, ConnectionFailed, MalformedReply, Overloaded, ProviderError
from providers.replicas import Answered

if TYPE_CHECKING:
    from db.calls import CallStore

__all__ = ["Carrier"]

_LOG: Final = logging.getLogger("colonnade.providers")
_T = TypeVar("_T")
_LONGEST_POLL_S = 60.0
_AGE_PER_POLL = 20
_MOST_BATCHES = 5
"""Batches in which a request may stand in vain before it fails."""
_GRACE = 1.5
"""How much longer than its request could have been under way a batch is looked for that may have been created."""


class Carrier:
    """Sees batches through; what they do not bring is handed to `place` to be submitted anew."""

    def __init__(
        self,
        store: BatchStore,
        calls: CallStore,
        report: BatchReport,
        place: Callable[[Lane, Wanted], None],
        *,
        deadline: datetime | None,
        keep: bool,
    ) -> None:
        self._store = store
        self._orphans = Orphans(calls, keep=keep)
        self._report = report
        self._place = place
        self._deadline = deadline

    def too_late(self, lane: Lane) -> bool:
        """Tell whether a batch that is submitted now would probably come too late for the deadline."""
        return self._left_s(lane) < lane.expected_s()

    def move(self, wanted: Iterable[Wanted]) -> None:
        """Have requests asked at once."""
        for one in wanted:
            if not one.future.done():
                self._report.moved += 1
                one.future.set_result(None)

    async def loaded(self, record: BatchRecord) -> Out:
        """Return a batch as the database knows it."""
        calls: dict[int, list[BatchCall]] = {}
        for call in await asyncio.to_thread(self._store.calls, record.mark):
            calls.setdefault(call.line, []).append(call)
        age = datetime.now(UTC) - (record.sent_at or record.created_at)
        pulled = record.status == "pulled"
        return Out(record=record, calls=calls, pulled=pulled, since=time.monotonic() - age.total_seconds())

    async def carry(self, lane: Lane, out: Out, tokens: int) -> None:
        """Submit a batch that was claimed and see it through; `tokens` are what it may use."""
        if await self._submitted(lane, out):
            self._report.batches += 1
            self._report.rows += len(out.calls)
            await self._watch(lane, out, tokens)

    async def resume(self, lane: Lane, out: Out) -> None:
        """See a batch through that another process submitted, or was about to."""
        if await self._recovered(lane, out):
            await self._watch(lane, out, 0)

    async def end(self, lane: Lane, out: Out) -> None:
        """Cancel a batch for which nobody waits, and keep what it has brought."""
        if await self._recovered(lane, out):
            if out.record.status != "ended":
                await self._pull(lane, out)
            await self._watch(lane, out, 0)

    async def _submitted(self, lane: Lane, out: Out) -> bool:
        lines = [lane.api.line(custom_id(out.mark, line), out.waiters[line][0].wanted.wire) for line in out.calls]
        try:
            prepared = await self._again(lane, lambda: lane.api.prepare(out.mark, lines))
            if not await self._moved(out, "sent", was=("made",), lines=len(lines)):
                # Another process took it for abandoned: its requests stand in another batch now.
                self._lost(lane, out)
                return False
            found = await self._created(lane, out, prepared, lines)
        except ColonnadeError as error:
            if not _maybe_created(error) or out.record.status == "made":
                await self._moved(out, "lost", was=("made", "sent"))
                self._forget(lane, out)
            raise
        if found is None:
            await self._moved(out, "lost", was=("sent",))
            self._lost(lane, out)
            return False
        if not await self._moved(out, "open", was=("sent",), provider_id=found):
            await self._again(lane, lambda: lane.api.cancel(found))
            self._lost(lane, out)
            return False
        return True

    async def _created(self, lane: Lane, out: Out, prepared: str, lines: Sequence[Line]) -> str | None:
        """Create the batch, once; after a call that broke off it is looked for until it cannot come any more."""

        async def create() -> str:
            try:
                async with asyncio.timeout(lane.settings.create_s):
                    return await lane.api.create(out.mark, prepared, lines)
            except TimeoutError:
                raise CallTimeout(f"No batch was created within {lane.settings.create_s:g} s.") from None

        try:
            return await self._again(lane, create, unless=_maybe_created)
        except ProviderError as error:
            if not _maybe_created(error):
                raise
        return await self._found(lane, out)

    async def _found(self, lane: Lane, out: Out) -> str | None:
        """Look for a batch that may have been created, until it could not come any more."""
        since = out.record.sent_at or out.record.created_at
        until = since + timedelta(seconds=lane.settings.create_s * _GRACE)
        while True:
            late = datetime.now(UTC) > until
            known = await asyncio.to_thread(self._store.known, lane.place) | out.excluded
            found = await self._again(
                lane,
                lambda: lane.api.find(out.mark, lines=out.record.lines, since=since, known=known),  # noqa: B023
            )
            if found is not None or late:
                return found
            await asyncio.sleep(min(lane.settings.poll_s, lane.settings.create_s / 4))

    async def _recovered(self, lane: Lane, out: Out) -> bool:
        """Bring a batch of another process to where it can be looked at; False where it never came to be."""
        while True:
            record = await asyncio.to_thread(self._store.get, out.mark)
            if record is None or record.status in ("closed", "lost"):
                self._lost(lane, out)
                return False
            out.record, out.pulled = record, record.status == "pulled"
            if record.status == "made":
                await self._moved(out, "lost", was=("made",))
            elif record.status != "sent":
                return True
            elif (found := await self._found(lane, out)) is not None:
                await self._moved(out, "open", was=("sent",), provider_id=found)
            else:
                await self._moved(out, "lost", was=("sent",))

    async def _watch(self, lane: Lane, out: Out, tokens: int) -> None:
        """Look at a batch until it has ended, then hand out what it brought."""
        settings, pulled_at = lane.settings, 0.0
        while (state := await self._state(lane, out)).stage == "running":
            if self._left_s(lane) <= 0:
                if not out.pulled:
                    pulled_at = out.age_s
                    self._report.pulled += 1
                    await self._pull_late(lane, out)
                    continue
                if out.age_s - pulled_at > settings.margin_s / 2:
                    self.move(out.waiting())
            await asyncio.sleep(_pause_s(lane, out))
        if state.stage == "ended":
            if out.record.status != "ended":
                lane.took(out.age_s)
            await self._again(lane, lambda: self._finish(lane, out))
            return
        await self._moved(out, "lost", was=("open", "pulled"))
        if state.stage == "refused":
            self._forget(lane, out)
            raise BadRequest(f"The provider refused a batch of '{lane.endpoint.spec.name}': {state.said.rstrip('.')}.")
        lane.full(tokens)
        if lane.queued <= tokens:
            # Nothing of ours fills the queue, so that only time can make room.
            _LOG.warning("The batch queue of '%s' is full: %s", lane.endpoint.spec.name, state.said)
            await asyncio.sleep(_pause_s(lane, out))
        self._lost(lane, out)

    async def _state(self, lane: Lane, out: Out) -> BatchState:
        """Look at a batch; a provider that does not answer is asked again for as long as the batch may last."""
        while True:
            try:
                return await lane.api.state(out.record.provider_id or out.mark)
            except ProviderError as error:
                if not error.retryable:
                    raise
            if self._left_s(lane) <= -lane.settings.margin_s / 2:
                self.move(out.waiting())
            await asyncio.sleep(_pause_s(lane, out))

    async def _pull(self, lane: Lane, out: Out) -> None:
        """Ask for the end of a batch; what it has done by then still comes."""
        await self._moved(out, "pulled", was=("open",))
        out.pulled = True
        await self._again(lane, lambda: lane.api.cancel(out.record.provider_id or out.mark))

    async def _pull_late(self, lane: Lane, out: Out) -> None:
        """Ask for the end of a batch for the deadline, which holds where the provider does not cancel it as well."""
        try:
            await self._pull(lane, out)
        except ProviderError as error:
            _LOG.warning("Batch %s could not be cancelled: %s", out.record.provider_id, error)

    async def _finish(self, lane: Lane, out: Out) -> None:
        """Hand out the results of an ended batch; what is missing is asked for anew.

        When it is repeated, since the results broke off, it goes on with what was not handed out.
        """
        orphans: list[tuple[BatchCall, Answered]] = []
        if not out.pulled:
            await self._moved(out, "ended", was=("open",))
        try:
            async for result in lane.api.results(out.record.provider_id or out.mark):
                line = line_of(result.id, out.mark)
                if line is None:
                    await self._look_further(lane, out)
                    return
                if out.calls.get(line) and not isinstance(result.outcome, Missing):
                    orphans += self._hand_out(lane, out, line, result)
        except BadRequest as error:
            # The provider keeps results for some weeks only.
            _LOG.warning("The results of batch %s are gone: %s", out.record.provider_id, error)
        await self._orphans.keep(lane, orphans)
        # Only now: what a batch that was pulled back answered a second time is booked by the next process else.
        await self._moved(out, "ended", was=("open", "pulled"))
        drop = [call.key for calls in out.calls.values() for call in calls if call.key not in out.taken]
        await asyncio.to_thread(self._store.drop, drop)
        lane.forget(drop)
        self._missed(lane, out.waiting())
        lane.outs.pop(out.mark, None)

    def _hand_out(self, lane: Lane, out: Out, line: int, result: Result) -> list[tuple[BatchCall, Answered]]:
        """Give a result to those who wait for it; returns the samples for which nobody waits."""
        waiters = [waiter for waiter in out.waiters.pop(line, ()) if not waiter.wanted.future.done()]
        try:
            if isinstance(result.outcome, ProviderError):
                raise result.outcome
            reply = lane.api.read(result.outcome, out.request_of(line))
        except ProviderError as error:
            for wanted, _ in waiters:
                error.attempts = wanted.attempts + 1
                if error.retryable:
                    out.again.append(wanted)
                else:
                    out.taken.update(wanted.keys)
                    wanted.future.set_exception(error)
            return []
        rent = _rent(lane, out)
        for wanted, place in waiters:
            part = reply_part(reply, place, len(wanted.keys))
            if part is None:
                out.again.append(wanted)
            else:
                out.taken.update(wanted.keys[: len(part.completions)])
                answered = Answered(part, out.age_s, None if rent is None else rent * len(part.completions))
                wanted.future.set_result(Gathered(answered, len(wanted.keys)))
        return [
            (call, Answered(part, out.age_s, rent))
            for call in out.calls[line]
            if call.key not in out.taken and (part := reply_part(reply, call.place, 1)) is not None
        ]

    async def _look_further(self, lane: Lane, out: Out) -> None:
        """Look for our batch once more: the one that was found turned out to be somebody else's."""
        out.excluded.add(out.record.provider_id or "")
        found = await self._found(lane, out)
        if found is None:
            await self._moved(out, "lost", was=("ended", "pulled"))
            self._lost(lane, out)
            return
        await self._moved(out, "open", was=("ended", "pulled"), provider_id=found)
        await self._watch(lane, out, 0)

    def _missed(self, lane: Lane, missed: Iterable[Wanted]) -> None:
        """Ask anew for what a batch did not bring."""
        late = self.too_late(lane)
        for wanted in missed:
            if late:
                self.move([wanted])
                continue
            wanted.attempts += 1
            if wanted.attempts < _MOST_BATCHES:
                self._report.again += 1
                self._place(lane, wanted)
            else:
                error = CallTimeout(f"{wanted.attempts} batches ended without an answer to the request.")
                error.attempts = wanted.attempts
                wanted.future.set_exception(error)

    def _lost(self, lane: Lane, out: Out) -> None:
        """Let the requests of a batch that never came to be wait for another one."""
        waiting = out.waiting()
        self._forget(lane, out)
        for wanted in waiting:
            self._place(lane, wanted)

    def _forget(self, lane: Lane, out: Out) -> None:
        lane.outs.pop(out.mark, None)
        lane.forget([call.key for calls in out.calls.values() for call in calls])

    async def _moved(
        self,
        out: Out,
        status: BatchStatus,
        *,
        was: Sequence[BatchStatus],
        provider_id: str | None = None,
        lines: int | None = None,
    ) -> bool:
        moved = await asyncio.to_thread(
            self._store.move, out.mark, status, was=was, provider_id=provider_id, lines=lines
        )
        if moved:
            sent_at = datetime.now(UTC) if status == "sent" else out.record.sent_at
            known = provider_id or out.record.provider_id
            out.record = replace(out.record, status=status, provider_id=known, sent_at=sent_at)
        return moved

    async def _again(
        self,
        lane: Lane,
        ask: Callable[[], Coroutine[Any, Any, _T]],
        *,
        unless: Callable[[ColonnadeError], bool] | None = None,
    ) -> _T:
        """Ask the provider, and again by the rules of the model's retries."""
        waited_s, attempt = 0.0, 0
        while True:
            attempt += 1
            try:
                return await ask()
            except ProviderError as error:
                given_up = unless is not None and unless(error)
                wait = None if given_up else lane.endpoint.retry.wait(error, attempt=attempt, waited_s=waited_s)
                if wait is None:
                    error.attempts = attempt
                    raise
            waited_s += wait
            await asyncio.sleep(wait)

    def _left_s(self, lane: Lane) -> float:
        """Return the seconds until what is still in batches has to go the immediate way."""
        if self._deadline is None:
            return math.inf
        return (self._deadline - datetime.now(UTC)).total_seconds() - lane.settings.margin_s


def _maybe_created(error: ColonnadeError) -> bool:
    """Tell whether the provider may have done what it was asked for all the same."""
    return isinstance(error, CallTimeout | ConnectionFailed | MalformedReply | Overloaded)


def _pause_s(lane: Lane, out: Out) -> float:
    return min(max(lane.settings.poll_s, out.age_s / _AGE_PER_POLL), max(lane.settings.poll_s, _LONGEST_POLL_S))


def _rent(lane: Lane, out: Out) -> Decimal | None:
    """Return one sample's share of a machine that is paid by the hour and worked on the batch alone."""
    usd = lane.endpoint.spec.usd_per_hour
    samples = sum(len(calls) for calls in out.calls.values())
    return None if usd is None else usd * Decimal(out.age_s) / 3600 / max(1, samples)
