"""How many requests an endpoint is given at once."""

from __future__ import annotations

import asyncio
from types import TracebackType

__all__ = ["Limiter"]


class Limiter:
    """Permits for requests in flight to one endpoint; `async with limiter:` holds one for the length of an attempt.

    The limit is fixed here; an adaptive one has the same face and reads the error that an attempt left with.
    """

    __slots__ = ("_permits", "in_flight", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0
        self._permits = asyncio.Semaphore(limit)

    async def __aenter__(self) -> None:
        await self._permits.acquire()
        self.in_flight += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.in_flight -= 1
        self._permits.release()
