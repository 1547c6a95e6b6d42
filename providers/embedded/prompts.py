"""Prompts that were read lately, kept so that an equal one costs nothing and a common beginning is read once."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from providers.embedded.weights import F32

__all__ = ["PromptCache", "PromptState"]

I64 = npt.NDArray[np.int64]


class PromptState(NamedTuple):
    """A prompt that a model has read."""

    tokens: I64
    kv: F32
    """(layer, 2, head, length, head_dim)"""
    logits: F32
    """(vocab,), of the token that follows the prompt."""


class PromptCache:
    """The least recently used prompts go once their keys and values take more than `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._states: OrderedDict[bytes, PromptState] = OrderedDict()

    def exact(self, tokens: I64) -> PromptState | None:
        """Return the state of this very prompt."""
        key = tokens.tobytes()
        state = self._states.get(key)
        if state is not None:
            self._states.move_to_end(key)
        return state

    def longest(self, tokens: I64) -> tuple[F32 | None, int]:
        """Return the keys and values that share the longest beginning with a prompt, and how many tokens they share.

        At least the prompt's last token is left to be read, since its logits are wanted.
        """
        best, length = None, 0
        for state in self._states.values():
            shared = _common(state.tokens, tokens[:-1])
            if shared > length:
                best, length = state.kv, shared
        return best, length

    def add(self, state: PromptState) -> None:
        """Keep a prompt, unless it alone is larger than the cache."""
        key = state.tokens.tobytes()
        if state.kv.nbytes > self._max_bytes or key in self._states:
            return
        self._states[key] = state
        self._bytes += state.kv.nbytes
        while self._bytes > self._max_bytes:
            self._bytes -= self._states.popitem(last=False)[1].kv.nbytes


def _common(left: I64, right: I64) -> int:
    size = min(len(left), len(right))
    differs = left[:size] != right[:size]
    return int(differs.argmax()) if differs.any() else size
