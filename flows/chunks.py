"""The plumbing that flows share: open sessions by run, chunks of items, and a Prefect that keeps quiet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

__all__ = ["chunked", "quiet_prefect", "tell_watchers", "watching"]

T = TypeVar("T")

_WATCHERS: list[Callable[[str], None]] = []


def chunked(items: Sequence[T], size: int) -> Iterator[tuple[T, ...]]:
    """Cut a sequence into tuples of `size`, the last one shorter."""
    iterator = iter(items)
    while chunk := tuple(islice(iterator, size)):
        yield chunk


def quiet_prefect() -> None:
    """Set Prefect's environment before its first import, where the user has not: no telemetry, quiet, and patient.

    Our errors reach the caller as exceptions, so Prefect need not print them again with their tracebacks. Its
    built-in server takes 6 to 15 s to start, and longer than its own limit of 20 s on a machine that is busy.
    """
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")


@contextmanager
def watching(on_item: Callable[[str], None] | None) -> Iterator[None]:
    """Have `on_item` called with the run's id whenever an item is done in this process."""
    if on_item is None:
        yield
        return
    _WATCHERS.append(on_item)
    try:
        yield
    finally:
        _WATCHERS.remove(on_item)


def tell_watchers(run_id: str) -> None:
    """Tell the watchers of this process that an item of a run is done."""
    for watcher in _WATCHERS:
        watcher(run_id)
