"""What a demonstration needs around it: databases of its own in PostgreSQL and Redis, and processes that end with it.

All of it is gone afterwards, also after Ctrl-C and SIGTERM. What a demonstration that was killed (SIGKILL) left in the
databases is found by the next one: whoever uses a database holds a lock in PostgreSQL under the mark in its name, and
the processes are ended by the system when the one that started them dies.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from redis import Redis
    from sqlalchemy import Connection, Engine

POSTGRES = os.environ.get("COLONNADE_DATABASE_URL") or "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
REDIS = os.environ.get("COLONNADE_REDIS_URL") or "redis://127.0.0.1:6379/0"
OWNER = "scale_demo"
"""A key of Redis that holds the mark of whoever uses the database."""
DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux."""


class Ending:
    """Ctrl-C, SIGTERM and SIGHUP: noted when they come, and heeded where that is safe.

    An exception out of a handler is lost where it falls into a fork or a finalizer, and keeps a lock that was just
    being given back, that of `logging` for one: then the demonstration stands still for ever.
    """

    def __init__(self) -> None:
        self._number = 0
        self._cancel: Callable[[], object] | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def heed(self) -> None:
        """Leave by way of all that cleans up, if a signal came."""
        if self._number:
            raise SystemExit(128 + self._number)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine, which a signal cancels."""
        try:
            asyncio.run(self._cancelled(work))
        finally:
            self.heed()

    def wait_for(self, what: str, ready: Callable[[], bool], seconds: float = 180.0) -> None:
        """Wait until something is so; raises `SystemExit` where it takes too long."""
        until = time.monotonic() + seconds
        while True:
            self.heed()
            try:
                if ready():
                    return
            except OSError:
                pass
            if time.monotonic() > until:
                raise SystemExit(f"{what} took longer than {seconds:.0f} s.")
            time.sleep(0.25)

    async def _cancelled(self, work: Coroutine[Any, Any, None]) -> None:
        loop, running = asyncio.get_running_loop(), asyncio.ensure_future(work)
        self._cancel = lambda: loop.call_soon_threadsafe(running.cancel)
        try:
            if self._number:
                running.cancel()
            await running
        except asyncio.CancelledError:
            # While a flow runs Prefect takes SIGTERM for itself, and raises out of the loop.
            self._number = self._number or signal.SIGTERM
            raise
        finally:
            self._cancel = None

    def _note(self, number: int, _: object) -> None:
        self._number = self._number or number
        if self._cancel:
            self._cancel()


class Stores(NamedTuple):
    """The databases, Colonnade's and Prefect's."""

    postgres: str
    postgres_prefect: str
    redis: str
    redis_prefect: str


@contextmanager
def own_stores() -> Iterator[Stores]:
    """Make two databases of PostgreSQL and take two empty ones of Redis for the time being; return their URLs."""
    from sqlalchemy import create_engine, make_url, text

    url, mark = make_url(POSTGRES), uuid.uuid4().hex[:8]
    names = [f"scale_demo_{mark}", f"scale_demo_prefect_{mark}"]
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        connection = stack.enter_context(engine.connect())
        remove_left(connection, engine)
        connection.execute(text("SELECT pg_advisory_lock(:mark)"), {"mark": int(mark, 16)})
        for name in names:
            stack.callback(drop, engine, name)
            connection.execute(text(f"CREATE DATABASE {name}"))
        # Another driver, which takes other options.
        own, prefect = url.set(database=names[0]), url.set(database=names[1], drivername="postgresql+asyncpg", query={})
        yield Stores(
            own.render_as_string(hide_password=False),
            prefect.render_as_string(hide_password=False),
            *stack.enter_context(own_redis(connection, mark)),
        )


def remove_left(connection: Connection, engine: Engine) -> None:
    """Drop the databases of demonstrations that are no more."""
    from sqlalchemy import text

    pattern = "^scale_demo_(prefect_)?[0-9a-f]{8}$"
    names = connection.execute(text("SELECT datname FROM pg_database WHERE datname ~ :pattern"), {"pattern": pattern})
    for name in [str(row[0]) for row in names]:
        if is_over(connection, name[-8:]):
            drop(engine, name)


def is_over(connection: Connection, mark: str) -> bool:
    """Say whether the demonstration with a mark is no more: nobody holds its lock, in whichever database."""
    from sqlalchemy import text

    held = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 0 AND objid = :mark AND objsubid = 1"
    return not connection.execute(text(f"SELECT EXISTS ({held})"), {"mark": int(mark, 16)}).scalar()


def drop(engine: Engine, name: str) -> None:
    """Drop a database, whoever is still connected; on a new connection, since Ctrl-C breaks one that is at work."""
    from sqlalchemy import text

    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@contextmanager
def own_redis(connection: Connection, mark: str) -> Iterator[tuple[str, str]]:
    """Find two databases of Redis that are empty, or were left by a demonstration that is no more."""
    from redis import Redis

    scheme, _, rest = REDIS.partition("://")
    host, _, given = rest.partition("/")
    with ExitStack() as stack:
        urls: list[str] = []
        # The one that was named is in use by others, even where it is empty just now.
        for number in (number for number in range(15, 0, -1) if str(number) != given):
            url = f"{scheme}://{host}/{number}"
            client = stack.enter_context(Redis.from_url(url, decode_responses=True))
            if len(urls) < 2 and taken(client, connection, mark):
                stack.callback(client.flushdb)
                urls.append(url)
        if len(urls) < 2:
            raise SystemExit(f"Of the databases 1 to 15 of {REDIS} no two are empty.")
        yield urls[0], urls[1]


def taken(client: Redis, connection: Connection, mark: str) -> bool:
    """Take a database of Redis where nobody else has it, and say whether that went well."""
    owner = client.get(OWNER)
    if isinstance(owner, str) and is_over(connection, owner):
        client.flushdb()
    if client.dbsize():
        return False
    return bool(client.set(OWNER, mark, nx=True))


@contextmanager
def process(*command: object, environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a process group of its own, whose output goes to a file; end it and all that it started."""
    with log.open("ab") as output:
        started = subprocess.Popen(
            [str(part) for part in command],
            env=dict(environment),
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
    try:
        yield started
    finally:
        kill(started, signal.SIGTERM)
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            kill(started, signal.SIGKILL)
            started.wait()


def die_with_parent() -> Callable[[], None] | None:
    """Return what has a new process ended when its parent dies; nothing on systems other than Linux."""
    if sys.platform != "linux":
        return None
    # Loaded here: between fork and exec nothing may be.
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(DIE_WITH_PARENT, signal.SIGTERM)


def kill(started: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a process and to what it started."""
    try:
        os.killpg(started.pid, number)
    except ProcessLookupError:
        return


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(url: str, body: object = None) -> Any:
    """Ask a local server for JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)
