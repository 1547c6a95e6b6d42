"""Turns of models, for a machine that holds one at a time: all calls to one go out before those to the next.

A call to the model whose turn it is goes out at once. Calls to others wait until none of its calls is out and none has
come for a moment; then the turn goes to the model for which most wait. So many questions in flight at once go through
an architecture level by level, and the machine loads each model once for a level and not once for a question.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["ModelTurns"]


class ModelTurns:
    """The turns of one process; belongs to one event loop. `linger_s` is the moment without a new call."""

    def __init__(self, linger_s: float = 0.05) -> None:
        self.changes = 0
        """How often a model had to be loaded: the first one, and each that took the turn from another."""
        self.changes_else = 0
        """How often a model would have been asked after another, in the order in which calls came."""
        self._linger_s = linger_s
        self._turn: str | None = None
        self._last: str | None = None
        self._out = 0
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def of(self, model: str) -> AsyncIterator[None]:
        """Hold the turn of a model while one call of it is out."""
        self.changes_else += model != self._last
        self._last = model
        if self._turn is None:
            self._turn, self.changes = model, self.changes + 1
        if model == self._turn:
            self._out += 1
        else:
            await self._wait(model)
        try:
            yield
        finally:
            self._left()

    async def _wait(self, model: str) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(model, deque()).append(waiter)
        if not self._out:
            self._look_soon()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                # It had been let through in the same moment.
                self._left()
            raise

    def _left(self) -> None:
        self._out -= 1
        if not self._out:
            self._look_soon()

    def _look_soon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._linger_s, self._change)

    def _change(self) -> None:
        """Give the turn to the model for which most calls wait, unless a call of the present one is out again."""
        self._timer = None
        lines = {model: [w for w in line if not w.done()] for model, line in self._waiting.items()}
        self._waiting = {model: deque(line) for model, line in lines.items() if line}
        if self._out or not self._waiting:
            return
        self._turn = max(self._waiting, key=lambda model: len(self._waiting[model]))
        self.changes += 1
        for waiter in self._waiting.pop(self._turn):
            self._out += 1
            waiter.set_result(None)
