"""Hanging up on a server that is still writing, so that both sides agree on what was sent.

A connection that is closed at once loses what is on its way, and with it the count of what will be billed. So a caller
that is cancelled closes only its own direction (a TCP half-close). Servers on asyncio (uvicorn, and with it vLLM) take
that for a disconnect: they stop, send out what they had written, and close; what was written is then what was read.
TLS has no half-close: there what has already arrived is read, and what is on its way is not known. A server that
overlooks the half-close is closed on after `LINGER_S`; what it sent until then has been counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    import aiohttp

__all__ = ["LINGER_S", "Exchange"]

LINGER_S: Final = 1.0
"""Seconds that a cancelled request waits for the server to close."""
_HEADERS_S: Final = 0.1
"""Seconds that it waits for the head of the answer, if that is not there yet."""

_Answer = TypeVar("_Answer")


class Exchange:
    """One request and its answer, in a task of its own, which outlives the cancelling of its caller by a moment."""

    def __init__(self) -> None:
        self._response: aiohttp.ClientResponse | None = None
        self._begun = asyncio.Event()

    def begins(self, response: aiohttp.ClientResponse) -> None:
        """Hear that the head of the answer is there."""
        self._response = response
        self._begun.set()

    async def run(self, exchange: Coroutine[Any, Any, _Answer]) -> _Answer:
        """Return what the exchange comes to; a cancelled caller hangs up first."""
        task = asyncio.create_task(exchange)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            try:
                await self._hang_up(task)
            finally:
                await _ended(task)
            raise

    async def _hang_up(self, task: asyncio.Task[_Answer]) -> None:
        if self._response is None:
            waiting = asyncio.create_task(self._begun.wait())
            try:
                await asyncio.wait({task, waiting}, timeout=_HEADERS_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await _ended(waiting)
        if self._response is None or task.done():
            return
        connection = self._response.connection
        transport = connection.transport if connection is not None else None
        if transport is not None and transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()
            await asyncio.wait({task}, timeout=LINGER_S)
            return
        # What is in the buffers of this machine takes a turn of the loop to be read, and another one to be taken up.
        for _ in range(3):
            await asyncio.sleep(0)


async def _ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task and see it end; what it failed with matters to nobody any more."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
