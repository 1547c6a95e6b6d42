"""For how long a process stood still: a busy machine may stop one for seconds, which no limit of time allows for."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

__all__ = ["Standstill"]

_TICK_S: Final = 0.01


class Standstill:
    """Measures for how long the event loop did not turn; an async context manager."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.total_s = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        # One turn more, for a standstill that has just ended.
        await asyncio.sleep(2 * _TICK_S)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            await asyncio.sleep(_TICK_S)
            late = clock() - began - _TICK_S
            self.total_s += late
            self.longest_s = max(self.longest_s, late)
