"""Races: work that runs side by side until enough of it is done; the rest is cancelled and waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from db.errors import ColonnadeError, UserError

__all__ = ["race"]

_T = TypeVar("_T")


async def race(work: Iterable[Coroutine[Any, Any, _T]], enough: Callable[[Sequence[_T]], bool]) -> list[_T]:
    """Run coroutines side by side until those that are done are enough; return their results in order of finishing.

    Those that finish in the same moment stand in the order in which they were started, and all of them count. The
    others are cancelled and waited for, so that what they have cost is settled when this returns. Where one raises an
    error of ours, that comes out, a usage mistake first, after the race has gone on to its end. Any other error is a
    bug: it cancels all and comes out at once.
    """
    done: list[_T] = []
    errors: list[ColonnadeError] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_outcome(coroutine)) for coroutine in work]
            running = set(tasks)
            while running and not enough(done):
                finished, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                outcomes = [task.result() for task in tasks if task in finished]
                done += [outcome for outcome in outcomes if not isinstance(outcome, ColonnadeError)]
                errors += [outcome for outcome in outcomes if isinstance(outcome, ColonnadeError)]
            for task in running:
                task.cancel()
    except ExceptionGroup as bugs:
        raise bugs.exceptions[0] from bugs
    if errors:
        raise next((error for error in errors if isinstance(error, UserError)), errors[0])
    return done


async def _outcome(coroutine: Coroutine[Any, Any, _T]) -> _T | ColonnadeError:
    try:
        return await coroutine
    except ColonnadeError as error:
        return error
