"""The link to Redis: one connection per process and event loop, opened at first use, with commands sent in batches.

Commands that are given while others are on their way go out together in the next batch, so that hundreds of calls in
flight cost a fraction of a round trip each. A Redis that does not answer raises `RedisAway` at once and is tried again
every half second; whoever uses the link decides what that means (the caches go on without, a shared budget waits).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from db.errors import ConfigError

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["PREFIX_VARIABLE", "URL_VARIABLE", "Field", "RedisAway", "RedisLink", "Reply", "Script", "redis_link"]

URL_VARIABLE = "COLONNADE_REDIS_URL"
PREFIX_VARIABLE = "COLONNADE_REDIS_PREFIX"

Field: TypeAlias = "bytes | str | int"
Reply: TypeAlias = "bytes | int | bool | list[Reply] | None"

_BATCH = 256
_LOG = logging.getLogger("colonnade")


class RedisAway(Exception):
    """Redis does not answer; what was asked may or may not have been done."""


class Script:
    """A Lua script with its hash."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class _Job(NamedTuple):
    command: tuple[Field, ...]
    done: asyncio.Future[Reply] | None


class RedisLink:
    """A connection to one Redis for one event loop; get it with `redis_link`, or close it yourself.

    Raises `ConfigError` for a URL that is none.

    `prefix` begins every key; its braces keep all keys on one node of a cluster, which scripts need.
    """

    def __init__(self, url: str, *, prefix: str = "{colonnade}:", timeout_s: float = 3.0, retry_s: float = 0.5) -> None:
        self.prefix = prefix
        self.away = False
        self.address = url.rpartition("@")[2].rpartition("//")[2]
        """Where Redis is, without user name and password."""
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._try_at = 0.0
        self._queue: deque[_Job] = deque()
        self._client = _client(url, timeout_s)
        self._sending: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """See that Redis answers; raises `ConfigError` where it does not."""
        try:
            await self.call("PING")
        except RedisAway as away:
            raise ConfigError(
                f"Redis at {self.address} does not answer ({away}); start it, or correct or unset {URL_VARIABLE}."
            ) from None

    async def call(self, *command: Field) -> Reply:
        """Send a command and return the reply; raises `RedisAway`, and redis' `ResponseError` for a wrong command."""
        done: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._enqueue(_Job(command, done))
        return await done

    async def run(self, script: Script, keys: Sequence[Field], arguments: Sequence[Field]) -> Reply:
        """Run a script, loading it where Redis does not know it; raises as `call`."""
        from redis.exceptions import NoScriptError

        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await self.call("EVAL", script.text, len(keys), *keys, *arguments)

    def post(self, *command: Field) -> None:
        """Send a command whose reply nobody needs and whose loss does no harm; `aclose` waits until it is sent."""
        self._enqueue(_Job(command, None))

    async def aclose(self) -> None:
        """Send what is queued, then close the connection; harmless when repeated."""
        while self._sending is not None:
            await asyncio.wait({self._sending})
        await self._client.aclose()

    def _enqueue(self, job: _Job) -> None:
        self._queue.append(job)
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send(), name="colonnade-redis")

    async def _send(self) -> None:
        try:
            while self._queue:
                jobs = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
                try:
                    replies = await self._exchange([job.command for job in jobs])
                except asyncio.CancelledError:
                    _fail(jobs, RedisAway("the link was closed"))
                    raise
                except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
                    _fail(jobs, error)
                else:
                    _resolve(jobs, replies)
        finally:
            self._sending = None

    async def _exchange(self, commands: list[tuple[Field, ...]]) -> list[object]:
        from redis.exceptions import ConnectionError as Disconnected
        from redis.exceptions import ReadOnlyError
        from redis.exceptions import TimeoutError as Silent

        if self.away and time.monotonic() < self._try_at:
            raise RedisAway("it did not answer just now")
        try:
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            replies = await pipeline.execute(raise_on_error=False)
        except (Disconnected, Silent, ReadOnlyError, OSError) as error:
            raise self._gone(error) from None
        lost = next((reply for reply in replies if isinstance(reply, Disconnected | ReadOnlyError)), None)
        if lost is not None:
            raise self._gone(lost)
        if self.away:
            self.away = False
            _LOG.warning("Redis at %s answers again.", self.address)
        return replies

    def _gone(self, error: Exception) -> RedisAway:
        reason = str(error).rstrip(".") or type(error).__name__
        if not self.away:
            self.away = True
            _LOG.warning(
                "Redis at %s went away (%s): limits, hot cache and single flight are this process' own until it "
                "answers again; a shared budget waits for it.",
                self.address,
                reason,
            )
        self._try_at = time.monotonic() + self._retry_s
        return RedisAway(reason)


def _client(url: str, timeout_s: float) -> Redis:
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    try:
        return Redis.from_url(
            url,
            protocol=2,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        raise ConfigError(f"{URL_VARIABLE} is no Redis URL; write redis://host:6379/0.") from None


def _resolve(jobs: list[_Job], replies: list[object]) -> None:
    from redis.exceptions import OutOfMemoryError

    for job, reply in zip(jobs, replies, strict=True):
        if job.done is None or job.done.done():
            continue
        if isinstance(reply, OutOfMemoryError):
            job.done.set_exception(RedisAway("its memory is full"))
        elif isinstance(reply, Exception):
            job.done.set_exception(reply)
        else:
            job.done.set_result(reply)  # type: ignore[arg-type]  # what RESP2 can hold


def _fail(jobs: list[_Job], error: Exception) -> None:
    for job in jobs:
        if job.done is not None and not job.done.done():
            job.done.set_exception(error)
        elif job.done is None and not isinstance(error, RedisAway):
            _LOG.error("A command to Redis failed: %s", error)


class _Shared:
    """A link with the number of those who use it."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link
        self.users = 0


_LINKS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], _Shared]] = WeakKeyDictionary()


@asynccontextmanager
async def redis_link(url: str | None = None, prefix: str | None = None) -> AsyncIterator[RedisLink | None]:
    """Hold the process' link to Redis, by URL or `COLONNADE_REDIS_URL`; None where neither is given.

    All holders in one event loop share a connection; the last one closes it. Raises `ConfigError` where Redis does
    not answer at the start, which is a mistake in a setting more often than an outage.
    """
    address = url or os.environ.get(URL_VARIABLE, "").strip()
    if not address:
        yield None
        return
    named = prefix or os.environ.get(PREFIX_VARIABLE, "").strip() or "{colonnade}:"
    links = _LINKS.setdefault(asyncio.get_running_loop(), {})
    shared = links.setdefault((address, named), _Shared(RedisLink(address, prefix=named)))
    shared.users += 1
    try:
        await shared.link.check()
        yield shared.link
    finally:
        shared.users -= 1
        if not shared.users:
            links.pop((address, named), None)
            await shared.link.aclose()
