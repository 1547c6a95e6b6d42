"""The collector: calls to models with a batch API wait until no more come, and go out together.

An architecture that runs over many rows at once comes to rest when all its calls wait: those of one level, over all
rows. They are cut by what the provider takes in one batch, submitted, and answered as the batches end; then the next
level gathers. A call whose key stands in a batch already, of this process, of another one, or of one that was killed,
waits for that batch and is never submitted again.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from db.batches import BatchCall, BatchRecord, BatchStore
from providers.base import Reply
from providers.batching.apis import folder_of, make_api, place_of
from providers.batching.carrier import Carrier
from providers.batching.lane import Gathered, Lane, Out, Wanted, cut
from providers.batching.report import BatchReport
from providers.codec import from_record
from providers.endpoints import Endpoints
from providers.limiters import tokens_asked
from providers.replicas import Answered

if TYPE_CHECKING:
    from db.calls import CallRecord, CallStore
    from providers.base import Usage, WireRequest
    from providers.book import ModelBook
    from providers.endpoints import Endpoint
    from providers.payer import Paid, Unpaid
    from providers.question import Question

__all__ = ["Batching", "Collector", "cancel_batches"]

_LINE_BYTES = 400
"""Of a line, beside its messages."""
_KEYS = 500
"""That are looked up in one query."""
_DROP_S = 0.25
"""Seconds after which samples that are stored are dropped from their batch's rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How calls are gathered."""

    deadline: datetime | None = None
    """When all answers are to be there (aware)."""
    linger_s: float = 2.0
    """Seconds without a new call after which what waits goes out."""


async def cancel_batches(book: ModelBook, store: CallStore, run_id: str) -> int:
    """Cancel the batches that a run has left at providers and return how many there were.

    Waits until they have ended. What they had answered by then is billed, and stored as the run's calls.
    """
    endpoints = Endpoints(book)
    collector = Collector(Batching(), book, endpoints, store)
    try:
        return await collector.cancel(run_id)
    finally:
        await collector.aclose()
        await endpoints.aclose()


class Collector:
    """Gathers calls; belongs to one event loop, and to a gateway that closes it.

    `keep` says that samples which nobody waits for any more are stored as calls; else they are only booked. `look` says
    that a sample which another process stored in the meantime is as good as one of a batch.
    """

    def __init__(
        self,
        batching: Batching,
        book: ModelBook,
        endpoints: Endpoints,
        store: CallStore,
        *,
        keep: bool = True,
        look: bool = True,
    ) -> None:
        self._batching = batching
        self._book = book
        self._endpoints = endpoints
        self._store = BatchStore(store.database)
        self._calls = store
        self._look = look
        self._folder = folder_of(store.database)
        self.report = BatchReport()
        self._carrier = Carrier(self._store, store, self.report, self._place, deadline=batching.deadline, keep=keep)
        self._lanes: dict[tuple[str, bytes], asyncio.Future[Lane]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0
        self._kept: list[str] = []
        self._dropper: asyncio.TimerHandle | None = None
        self._drops: asyncio.Task[None] | None = None
        self._dropping = asyncio.Lock()

    def takes(self, question: Question) -> bool:
        """Tell whether a question's model has a batch API that such calls can go through.

        Samples that may be cancelled do not: a batch is billed whole, and a race is about who comes first.
        """
        spec = question.endpoint.spec
        plain = question.operation is None and question.race is None
        return spec.batch is not None and plain and spec.api == "chat"

    async def ask(self, question: Question, wire: WireRequest, keys: tuple[str, ...]) -> Gathered | None:
        """Wait for a batch that answers a request, of whose samples the first ones come, at least one.

        None says that the request is to be asked at once: its API cannot take it, or a batch would be too late. Raises
        what the request, or its batch as a whole, failed with.
        """
        lane = await self._lane(question.endpoint)
        if not lane.api.takes(wire):
            return None
        wanted = Wanted(
            question=question,
            wire=wire,
            keys=keys,
            tokens=_tokens(question, len(keys)),
            size=_LINE_BYTES + sum(len(message.content.encode()) + 40 for message in wire.messages),
            future=asyncio.get_running_loop().create_future(),
        )
        self._place(lane, wanted)
        return await wanted.future

    async def kept(self, question: Question, keys: Iterable[str]) -> None:
        """Hear that samples are stored, or have failed for good: they stand in no batch any more."""
        lane = await self._lane(question.endpoint)
        mine = [key for key in keys if (spot := lane.standing.get(key)) is not None and key in spot.out.taken]
        lane.forget(mine)
        self._kept += mine
        if mine and self._dropper is None:
            self._dropper = asyncio.get_running_loop().call_later(_DROP_S, self._drop_soon)

    async def cancel(self, run_id: str) -> int:
        """Cancel the batches of a run, keep what they have brought, and return how many there were."""
        records = await asyncio.to_thread(self._store.live, run_id=run_id)
        for record in records:
            lane = await self._lane(self._endpoints.of(record.alias))
            out = lane.outs.get(record.mark) or await self._carrier.loaded(record)
            if not out.carried:
                out.carried = True
                self._start(self._seen_through(out, self._carrier.end(lane, out)), out.waiting)
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            task.result()
        return len(records)

    def discounted(self, question: Question, usage: Usage, dollars: Decimal | None) -> Decimal | None:
        """Return what a sample of a batch costs that would cost these dollars at once, and count what that saves."""
        less = question.endpoint.spec.batch_cost(usage)
        if less is None or dollars is None:
            return dollars
        self.report.saved += dollars - less
        return less

    def moved(self, question: Question, outcomes: Sequence[Paid | Unpaid]) -> None:
        """Count what samples that were moved out of batches cost more than there."""
        for one in outcomes:
            less = None if one.billed is None else question.endpoint.spec.batch_cost(one.billed)
            if less is not None and one.cost is not None:
                self.report.extra += one.cost - less

    async def aclose(self) -> None:
        """Let go of batches that are out, which stay at the provider, and close connections."""
        for timer in (self._timer, self._dropper):
            if timer is not None:
                timer.cancel()
        while at_work := self._at_work():
            for future in at_work:
                future.cancel()
            await asyncio.wait(at_work)
        try:
            if self._drops is not None:
                await self._drops
            await self._drop()
        finally:
            for lane in self._open_lanes():
                await lane.api.aclose()

    def _at_work(self) -> list[asyncio.Future[Any]]:
        lanes = [lane for lane in self._lanes.values() if not lane.done()]
        return [*self._tasks, *lanes]

    async def _lane(self, endpoint: Endpoint) -> Lane:
        settings = endpoint.spec.batch
        if settings is None:
            raise ValueError(f"the model '{endpoint.spec.name}' has no batch API")
        place = place_of(endpoint.spec, settings, endpoint.key_label)
        found = self._lanes.get((place, endpoint.extra))
        if found is None:
            found = self._lanes[place, endpoint.extra] = asyncio.ensure_future(self._opened(endpoint, place))
        return await asyncio.shield(found)

    async def _opened(self, endpoint: Endpoint, place: str) -> Lane:
        """Make a lane, with the batches that earlier processes left."""
        spec, settings = endpoint.spec, endpoint.spec.batch
        if settings is None:
            raise ValueError(f"the model '{spec.name}' has no batch API")
        api = make_api(spec, settings, self._book.api_key(spec.replicas()[0]), self._folder)
        lane = Lane(endpoint=endpoint, settings=settings, api=api, place=place, limit=settings.tokens)
        await asyncio.to_thread(self._store.sweep, place)
        for record in await asyncio.to_thread(self._store.live, place=place):
            out = await self._carrier.loaded(record)
            lane.add(out)
            if out.pulled:
                # What it answered after its rows were asked for elsewhere is billed, and to be booked.
                self._resume(lane, out)
        return lane

    def _place(self, lane: Lane, wanted: Wanted) -> None:
        """Let a request wait, for the batch in which it stands or for the next one."""
        out = lane.attach(wanted)
        if out is None:
            lane.waiting.append(wanted)
            self._last = asyncio.get_running_loop().time()
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._batching.linger_s, self._flush_when_quiet)
        elif not out.carried:
            self.report.resumed += 1
            self._resume(lane, out)

    def _flush_when_quiet(self) -> None:
        loop = asyncio.get_running_loop()
        quiet_at = self._last + self._batching.linger_s
        if loop.time() < quiet_at:
            self._timer = loop.call_at(quiet_at, self._flush_when_quiet)
            return
        self._timer = None
        groups: list[tuple[Lane, list[Wanted]]] = []
        for lane in self._open_lanes():
            wanted, lane.waiting = [one for one in lane.waiting if not one.future.done()], []
            if wanted and self._carrier.too_late(lane):
                self._carrier.move(wanted)
            else:
                groups += [(lane, group) for group in cut(wanted, lane.settings, lane.limit)]
        self.report.rounds += bool(groups)
        for lane, group in groups:
            self._start(self._send(lane, group), group.copy)

    def _open_lanes(self) -> list[Lane]:
        done = [one for one in self._lanes.values() if one.done() and not one.cancelled()]
        return [one.result() for one in done if one.exception() is None]

    def _start(self, work: Coroutine[Any, Any, None], waiting: Callable[[], list[Wanted]]) -> None:
        """Do work in a task; what it fails with reaches those who wait for it."""
        self._hold(asyncio.create_task(work), waiting)

    def _hold(self, task: asyncio.Task[None], waiting: Callable[[], list[Wanted]]) -> None:
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            error = None if task.cancelled() else task.exception()
            if error is None:
                return
            for wanted in waiting():
                if not wanted.future.done():
                    wanted.future.set_exception(error)

        task.add_done_callback(ended)

    def _resume(self, lane: Lane, out: Out) -> None:
        out.carried = True
        self._start(self._seen_through(out, self._carrier.resume(lane, out)), out.waiting)

    async def _seen_through(self, out: Out, work: Coroutine[Any, Any, None]) -> None:
        """Do the work on a batch; should it fail, whoever wants one of its samples next takes it up again."""
        try:
            await work
        finally:
            out.carried = False

    async def _send(self, lane: Lane, group: list[Wanted]) -> None:
        """Claim a group's samples, submit the batch and see it through."""
        tokens = sum(wanted.tokens for wanted in group)
        await lane.enter(tokens)
        try:
            if self._carrier.too_late(lane):
                self._carrier.move(group)
                return
            await self._drop()
            out = await self._claimed(lane, group)
            # From here on they wait for this batch or for others, and not for what this task comes to.
            group.clear()
            if out is not None:
                work = asyncio.create_task(self._seen_through(out, self._carrier.carry(lane, out, tokens)))
                self._hold(work, out.waiting)
                await asyncio.wait({work})
        finally:
            await lane.leave(tokens)

    async def _claimed(self, lane: Lane, group: Sequence[Wanted]) -> Out | None:
        """Write down a batch of those samples that stand in no other; the others wait for theirs."""
        group = [wanted for wanted in group if not wanted.future.done()]
        if not group:
            return None
        record = _record(lane, group)
        calls = {line: _calls(record.mark, line, wanted) for line, wanted in enumerate(group)}
        elsewhere = await asyncio.to_thread(self._store.claim, record, [one for line in calls.values() for one in line])
        mine = {line: own for line, own in calls.items() if not any(call.key in elsewhere for call in own)}
        for line, wanted in enumerate(group):
            if line not in mine:
                await self._know(lane, calls[line], elsewhere)
                self._place(lane, wanted)
        await self._take_stored(group, mine)
        if not mine:
            await asyncio.to_thread(self._store.move, record.mark, "lost", was=("made",))
            return None
        out = Out(record=replace(record, lines=len(mine)), calls=mine, carried=True)
        lane.add(out)
        for line in mine:
            self._place(lane, group[line])
        return out

    async def _take_stored(self, group: Sequence[Wanted], mine: dict[int, list[BatchCall]]) -> None:
        """Answer lines with what another process stored before they were claimed, and take them out of `mine`."""
        if not self._look:
            return
        keys = [own[0].key for own in mine.values()]
        found: dict[str, CallRecord] = {}
        for start in range(0, len(keys), _KEYS):
            found.update(await self._calls.find(keys[start : start + _KEYS]))
        for line in [line for line, own in mine.items() if own[0].key in found]:
            stored = from_record(found[mine[line][0].key])
            await asyncio.to_thread(self._store.drop, [call.key for call in mine.pop(line)])
            if not group[line].future.done():
                answered = Answered(Reply(completions=(stored.completion,)), stored.latency_s, None)
                group[line].future.set_result(Gathered(answered, asked=1))

    async def _know(self, lane: Lane, calls: Sequence[BatchCall], elsewhere: Mapping[str, str]) -> None:
        """Learn of the batches of another process in which samples stand."""
        for mark in {elsewhere[call.key] for call in calls if call.key in elsewhere} - lane.outs.keys():
            record = await asyncio.to_thread(self._store.get, mark)
            if record is not None and record.status not in ("closed", "lost"):
                lane.add(await self._carrier.loaded(record))

    def _drop_soon(self) -> None:
        self._dropper = None
        self._drops = asyncio.create_task(self._drop())

    async def _drop(self) -> None:
        async with self._dropping:
            kept, self._kept = self._kept, []
            if kept:
                await asyncio.to_thread(self._store.drop, kept)


def _record(lane: Lane, group: Sequence[Wanted]) -> BatchRecord:
    return BatchRecord(
        mark=uuid.uuid4().hex,
        place=lane.place,
        alias=lane.endpoint.spec.name,
        run_id=group[0].question.charge.run_id,
        status="made",
        provider_id=None,
        lines=len(group),
        created_at=datetime.now(UTC),
        sent_at=None,
        ended_at=None,
    )


def _calls(mark: str, line: int, wanted: Wanted) -> list[BatchCall]:
    question = wanted.question
    return [
        BatchCall(
            key=key,
            mark=mark,
            line=line,
            place=place,
            run_id=question.charge.run_id,
            item_id=question.affinity,
            node=question.node,
            sample_index=index,
            request=question.digest.payload.decode(),
        )
        for place, (key, index) in enumerate(zip(wanted.keys, wanted.wire.indices, strict=True))
    ]


def _tokens(question: Question, n: int) -> int:
    return tokens_asked(question.endpoint.spec, question.messages, question.sampling.max_tokens, n)
