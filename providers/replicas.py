"""Several endpoints of one model: which one a call goes to, and which of them answer.

Calls on one question stay on one replica, whose prefix cache holds what they share, as long as it is not busy: below
its limit, not paused by its server, and not much more crowded than the least busy one, which takes them otherwise. A
replica whose connection fails is passed over until it answers; one that is found gone also gives up the calls that
still wait for it, which are asked again elsewhere. A model with one endpoint has a pool of one, which costs nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple

from providers.adaptive import LimitChange
from providers.base import Progress, Reply, Transport
from providers.errors import CallTimeout, ConnectionFailed, MalformedReply, Overloaded, ProviderError
from providers.limits import Limiter
from providers.models import Routing
from providers.rent import Rent

__all__ = ["Answered", "LimiterStatus", "Replica", "ReplicaPool", "ReplicaState", "ReplicaStatus", "Route"]

ReplicaState = Literal["down", "suspect", "up"]
"""suspect: it failed, is still used, and is being looked at. down: no call goes there while another replica is up."""

_CROWD_RATIO, _CROWD_EXTRA = 1.5, 16
"""A replica is crowded with more calls than 1.5 times those of the least busy one and 16."""
_HOMES = 65_536
"""Questions whose replica is remembered."""
_CHECK_S = 5.0
_HEARTBEAT_S = 10.0
_SLOW_CHECKS = 3
"""Checks in a row without an answer, and no call answered meanwhile, after which a silent replica counts as gone."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 15.0
_MOMENT_S = 0.05
_STRIKES = 3
"""Failures in a row from which on a replica that answers checks, but no calls, is rested between them."""


class Answered(NamedTuple):
    """A reply with what it took."""

    reply: Reply
    latency_s: float
    rent: Decimal | None
    """Dollars of the machine's time, where it is paid by the hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterStatus:
    """The limit of calls to one model at one endpoint."""

    model: str
    in_flight: int
    waiting: int
    limit: int
    """Calls that may be out at once, of all processes together."""
    paused_s: float
    """Seconds until calls are sent again, where the server asked for a pause."""
    history: tuple[LimitChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStatus:
    """One endpoint of a model at this moment."""

    name: str
    state: ReplicaState
    load: int
    """Calls that are out or wait in line."""
    limit: int
    """Calls that may be out at once."""
    limiters: tuple[LimiterStatus, ...]
    """The limits of each model that is asked there."""
    requests: int
    """Attempts that were sent there."""
    failures: int
    """Attempts that failed there."""
    busy_s: float | None
    """Seconds with calls in flight; None where the machine is not paid by the hour."""
    rent: Decimal | None
    """Dollars of those seconds."""


class Replica:
    """One endpoint: its transport, its permits, and whether it answers."""

    def __init__(self, name: str, transport: Transport, limiter: Limiter, *, rent: Rent | None = None) -> None:
        self.name = name
        self.transport = transport
        self.limiter = limiter
        """That of the model for which it was made."""
        self.limiters: dict[str, Limiter] = {}
        """By the name that the endpoint knows a model by: providers limit each model on its own."""
        self.rent = rent
        self.state: ReplicaState = "up"
        self.watched = False
        """Whether it has siblings, so that its health matters before a call finds out."""
        self.load = 0
        """Calls that are out or wait in line; kept by whoever calls."""
        self.requests = 0
        self.failures = 0
        self._strikes = 0
        self._silent_checks = 0
        self._answered_at = 0.0
        self._deadlines: set[asyncio.Timeout] = set()
        self._trouble: asyncio.Event | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a further call would have to wait."""
        return self.load >= self.limiter.limit or self.limiter.paused_s > 0

    def status(self) -> ReplicaStatus:
        """Return a snapshot."""
        return ReplicaStatus(
            name=self.name,
            state=self.state,
            load=self.load,
            limit=self.limiter.limit,
            limiters=tuple(
                LimiterStatus(
                    model=model,
                    in_flight=limiter.in_flight,
                    waiting=limiter.waiting,
                    limit=limiter.limit,
                    paused_s=limiter.paused_s,
                    history=limiter.history,
                )
                for model, limiter in self.limiters.items()
            ),
            requests=self.requests,
            failures=self.failures,
            busy_s=self.rent.busy_s if self.rent else None,
            rent=self.rent.dollars if self.rent else None,
        )

    async def call(
        self,
        ask: Callable[[Transport], Awaitable[Reply]],
        *,
        samples: int,
        timeout_s: float,
        progress: Progress | None = None,
    ) -> Answered:
        """Ask once, within the time allowed, and learn from how it ends; raises `ProviderError`s.

        `progress` is told the machine's rent, also where the call is cancelled.

        The transports' own timeouts are between two reads; a server that trickles passes those for ever.
        """
        self.requests += 1
        rent, since = self.rent, 0.0
        if rent is not None:
            since = rent.begin(samples)
        dollars: Decimal | None = None
        started = time.perf_counter()
        try:
            if self.watched:
                self._watch()
            async with asyncio.timeout(timeout_s) as deadline:
                self._deadlines.add(deadline)
                try:
                    reply = await ask(self.transport)
                finally:
                    self._deadlines.discard(deadline)
        except TimeoutError:
            raise self._failed(self._late(timeout_s)) from None
        except ProviderError as error:
            raise self._failed(error) from None
        finally:
            if rent is not None:
                dollars = rent.end(samples, since)
                if progress is not None:
                    progress.rent = dollars
        self.state = "up"
        self._strikes = self._silent_checks = 0
        self._answered_at = time.monotonic()
        return Answered(reply, time.perf_counter() - started, dollars)

    def limiter_of(self, model: str) -> Limiter:
        """Return the limiter of a model."""
        return self.limiters.get(model, self.limiter)

    def found_gone(self) -> None:
        """Pass it over from now on; the calls that still wait for it fail, to be asked elsewhere."""
        self.state = "down"
        if self.watched:
            self._watch()
        for deadline in tuple(self._deadlines):
            deadline.reschedule(asyncio.get_running_loop().time())

    async def aclose(self) -> None:
        """Stop looking after it and close its transport; raises what the watcher failed with."""
        watcher, self._watcher = self._watcher, None
        try:
            if watcher is not None:
                watcher.cancel()
                await asyncio.wait({watcher})
                if not watcher.cancelled():
                    watcher.result()
        finally:
            try:
                for limiter in {self.limiter, *self.limiters.values()}:
                    await limiter.aclose()
            finally:
                await self.transport.aclose()

    def _late(self, timeout_s: float) -> ProviderError:
        if self.state == "down":
            return ConnectionFailed(f"The endpoint {self.name} went away while a call waited for it.")
        return CallTimeout(f"The endpoint {self.name} did not answer within {timeout_s:g} s.")

    def _failed(self, error: ProviderError) -> ProviderError:
        self.failures += 1
        if not isinstance(error, CallTimeout | ConnectionFailed | MalformedReply | Overloaded):
            self._answered_at = time.monotonic()
            return error
        self._strikes += 1
        if self.watched:
            if isinstance(error, ConnectionFailed):
                self.state = "down"
            elif self.state == "up":
                self.state = "suspect"
            self._watch()
            if self._trouble is not None:
                self._trouble.set()
        return error

    def _watch(self) -> None:
        if self._watcher is not None and not self._watcher.done():
            return
        self._trouble = asyncio.Event()
        self._watcher = asyncio.create_task(self._look_after(self._trouble), name=f"health of {self.name}")

    async def _look_after(self, trouble: asyncio.Event) -> None:
        """Look at the replica while calls are out or something is wrong with it."""
        wait_s = _FIRST_WAIT_S
        while True:
            if self.state == "up":
                wait_s = _FIRST_WAIT_S
                await _either(trouble, _HEARTBEAT_S)
                if not trouble.is_set():
                    if not self._deadlines:
                        return
                    if time.monotonic() - self._answered_at < _HEARTBEAT_S:
                        continue
            trouble.clear()
            if await self._answers():
                if self._strikes > _STRIKES:
                    await asyncio.sleep(min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(self._strikes - _STRIKES, 10)))
                self.state = "up"
            else:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)

    async def _answers(self) -> bool:
        """Ask for the list of models, which every server has and which costs nothing."""
        try:
            async with asyncio.timeout(_CHECK_S):
                await self.transport.list_models()
        except ConnectionFailed:
            self.found_gone()
            return False
        except (CallTimeout, Overloaded, TimeoutError):
            # A server under load is slow to answer anything; only lasting silence is a reason to give up on its calls.
            self._silent_checks += 1
            self.state = "suspect" if self.state == "up" else self.state
            if self._silent_checks >= _SLOW_CHECKS:
                self.found_gone()
            return False
        except ProviderError:
            pass  # A refusal is an answer.
        self._silent_checks = 0
        return True


class ReplicaPool:
    """The replicas of one model; aliases of one address share a replica."""

    def __init__(self, replicas: Sequence[Replica], *, routing: Routing = "affinity") -> None:
        self.replicas = tuple(replicas)
        self._only = self.replicas[0] if len(self.replicas) == 1 else None
        self._routing = routing
        self._homes: OrderedDict[str, Replica] = OrderedDict()
        self._turn = 0
        if self._only is None:
            for replica in self.replicas:
                replica.watched = True

    def choose(self, affinity: str, *, avoid: Replica | None = None) -> Replica:
        """Return the replica for a call on a question; not the one to `avoid`, which failed it, if another is up."""
        if self._only is not None:
            return self._only
        usable = self._usable(avoid)
        if self._routing == "round-robin":
            self._turn += 1
            return usable[self._turn % len(usable)]
        least = min(usable, key=lambda replica: (replica.busy, replica.load, replica.requests))
        home = self._homes.get(affinity)
        if home is None or home.state == "down":
            self._homes[affinity] = least
            if len(self._homes) > _HOMES:
                self._homes.popitem(last=False)
            return least
        self._homes.move_to_end(affinity)
        return home if home in usable and not _crowded(home, least) else least

    def has_room(self, but: Replica) -> bool:
        """Tell whether a replica besides one could take a call at once."""
        return any(one is not but and one.state == "up" and not one.busy for one in self.replicas)

    def left(self, replica: Replica) -> bool:
        """Tell whether a call that stood in line at a replica should choose again, because that went down meanwhile."""
        return replica.state == "down" and any(other.state != "down" for other in self.replicas)

    def _usable(self, avoid: Replica | None) -> Sequence[Replica]:
        up = [replica for replica in self.replicas if replica.state != "down"]
        return [replica for replica in up if replica is not avoid] or up or self.replicas


class Route:
    """The way of one request through its attempts: each goes to another replica than the one that failed before it."""

    __slots__ = ("_affinity", "_pool", "_replica")

    def __init__(self, pool: ReplicaPool, affinity: str) -> None:
        self._pool = pool
        self._affinity = affinity
        self._replica: Replica | None = None

    def next(self) -> Replica:
        """Return where the next attempt goes."""
        self._replica = self._pool.choose(self._affinity, avoid=self._replica)
        return self._replica

    def pause(self, wait_s: float) -> float:
        """Return how long to wait before the next attempt: a moment where another replica has room, else `wait_s`."""
        return wait_s if self._replica is None or not self._pool.has_room(self._replica) else min(wait_s, _MOMENT_S)

    def lost(self) -> bool:
        """Tell whether the replica went down while the call stood in line there, and another one is up."""
        return self._replica is not None and self._pool.left(self._replica)


def _crowded(home: Replica, least: Replica) -> bool:
    if home.busy and not least.busy:
        return True
    return home.load > _CROWD_RATIO * least.load + _CROWD_EXTRA


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not longer."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
