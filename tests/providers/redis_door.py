"""A door in front of the real Redis that can be shut: what a Redis looks like that goes away and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Self
from urllib.parse import urlsplit

import pytest

__all__ = ["REDIS_URL", "Door", "needs_redis"]

REDIS_URL = os.environ.get("COLONNADE_TEST_REDIS", "redis://127.0.0.1:6379/0")
_PLACE = urlsplit(REDIS_URL)
_HOST, _PORT = _PLACE.hostname or "127.0.0.1", _PLACE.port or 6379


def _answers() -> bool:
    try:
        with socket.create_connection((_HOST, _PORT), timeout=1):
            return True
    except OSError:
        return False


needs_redis = pytest.mark.skipif(not _answers(), reason=f"no Redis at {REDIS_URL}; set COLONNADE_TEST_REDIS")


class Door:
    """A port that leads to Redis while it is open."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._port = 0
        self._through: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The address to give to a link."""
        return f"redis://127.0.0.1:{self._port}/0"

    async def open(self) -> None:
        """Let connections through, always at the same port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Break off every connection and take no new one."""
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = list(self._through)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._through.add(task)
        inner, outer = await asyncio.open_connection(_HOST, _PORT)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pump(reader, outer))
                    group.create_task(_pump(inner, writer))
        finally:
            self._through.discard(task)
            for end in (writer, outer):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
