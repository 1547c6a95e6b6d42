"""Engines shared by every transport of the process: one per model and setting, closed with its last user."""

from __future__ import annotations

import atexit
import os
import threading
from typing import NamedTuple

from providers.embedded.blas import hold_single_thread, release_single_thread
from providers.embedded.engine import Engine
from providers.embedded.model import EmbeddedModel

__all__ = ["EngineLease", "lease_engine"]


class _Key(NamedTuple):
    sha256: str
    max_batch: int
    threads: int


class _Shared:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.users = 1


_shared: dict[_Key, _Shared] = {}
_lock = threading.Lock()


class EngineLease:
    """The use of a shared engine; give it back once."""

    def __init__(self, key: _Key, engine: Engine) -> None:
        self.engine = engine
        self._key = key
        self._given_back = False

    def give_back(self) -> None:
        """End this use; the last one closes the engine and joins its threads."""
        with _lock:
            if self._given_back:
                return
            self._given_back = True
            shared = _shared.get(self._key)
            if shared is None or shared.engine is not self.engine:
                return  # inherited by a fork, where the engine's threads do not exist
            shared.users -= 1
            if shared.users:
                return
            del _shared[self._key]
        shared.engine.close()
        release_single_thread()


def lease_engine(model: EmbeddedModel, *, max_batch: int, threads: int) -> EngineLease:
    """Return the use of a model's engine, started where the process has none with these settings."""
    key = _Key(f"{model.name}@{model.sha256}", max_batch, threads)
    with _lock:
        shared = _shared.get(key)
        if shared is None:
            hold_single_thread()
            shared = _shared[key] = _Shared(Engine(model, max_batch=max_batch, threads=threads))
        else:
            shared.users += 1
        return EngineLease(key, shared.engine)


os.register_at_fork(after_in_child=_shared.clear)


@atexit.register
def _close_all() -> None:
    """Stop threads inside NumPy before the interpreter is taken down under them."""
    for shared in list(_shared.values()):
        shared.engine.close()
