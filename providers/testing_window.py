"""The rate limit of the testing server: requests and tokens in a window, sliding or fixed, counted as chosen."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["Counting", "Entry", "RateWindow"]

Counting = Literal["asked", "held", "used"]
"""Tokens that count. asked: prompt and `max_tokens`, whatever is used. held: the same until the answer is there, then
what was used. used: what was used, once the answer is there."""


@dataclass(slots=True)
class Entry:
    """A request that was let pass."""

    at: float
    tokens: int


class RateWindow:
    """What a server allows in a window; `enter` answers with an entry, or with the seconds to wait."""

    def __init__(
        self,
        requests: int | None = None,
        tokens: int | None = None,
        *,
        window_s: float = 60.0,
        fixed: bool = False,
        counting: Counting = "used",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.requests = requests
        self.tokens = tokens
        self.window_s = window_s
        self.fixed = fixed
        self.counting: Counting = counting
        self._clock = clock
        self._entries: deque[Entry] = deque()
        self._sum = 0

    def enter(self, worst: int) -> Entry | float:
        """Let a request of at most `worst` tokens pass, or return the seconds until it may."""
        now = self._clock()
        self._forget(now)
        need = 0 if self.counting == "used" else worst
        full = self.requests is not None and len(self._entries) >= self.requests
        dear = self.tokens is not None and self._sum + need > self.tokens - (self.counting == "used")
        if self._entries and (full or dear):
            return max(0.001, self._free_at(now, need) - now)
        entry = Entry(now, need)
        self._entries.append(entry)
        self._sum += need
        return entry

    def settle(self, entry: Entry, used: int) -> None:
        """Hear what a request used."""
        if self.counting != "asked" and entry.at >= self._start(self._clock()):
            self._sum += used - entry.tokens
            entry.tokens = used

    def _start(self, now: float) -> float:
        return math.floor(now / self.window_s) * self.window_s if self.fixed else now - self.window_s

    def _forget(self, now: float) -> None:
        start = self._start(now)
        while self._entries and self._entries[0].at < start:
            self._sum -= self._entries.popleft().tokens

    def _free_at(self, now: float, need: int) -> float:
        if self.fixed:
            return self._start(now) + self.window_s
        left, count = self._sum, len(self._entries)
        for entry in self._entries:
            left, count = left - entry.tokens, count - 1
            enough = self.tokens is None or left + need <= self.tokens - (self.counting == "used")
            if enough and (self.requests is None or count < self.requests):
                return entry.at + self.window_s
        return now + self.window_s
