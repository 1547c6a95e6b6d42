"""Calls of one node: made together, turned into candidates, their failures noted."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from db.errors import BudgetExceeded, ColonnadeError, InsufficientCandidates, UserError
from nodes.base import Candidate, Note, State
from providers.base import Asked, Sample
from providers.errors import ProviderError

__all__ = ["candidate_of", "failure_notes", "latest_score", "made", "needed", "nothing_left", "together"]

_T = TypeVar("_T")


class _Raised(NamedTuple):
    error: ColonnadeError


async def together(work: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Run coroutines concurrently, started in their order, and return their results in that order.

    Where one raises an error of ours (a spent budget, a refused key), the others are finished first, because a call
    under way will be paid for and should be kept; then a usage mistake comes out first and a spent budget last. Any
    other error is a bug: it cancels the others. Errors come out bare, never in a group, so that callers catch by class.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_outcome(coroutine)) for coroutine in work]
    except ExceptionGroup as bugs:
        raise bugs.exceptions[0] from bugs
    outcomes = [task.result() for task in tasks]
    errors = [outcome.error for outcome in outcomes if isinstance(outcome, _Raised)]
    if errors:
        raise min(errors, key=_urgency)
    return [outcome for outcome in outcomes if not isinstance(outcome, _Raised)]


async def _outcome(coroutine: Coroutine[Any, Any, _T]) -> _T | _Raised:
    try:
        return await coroutine
    except ColonnadeError as error:
        return _Raised(error)


def _urgency(error: ColonnadeError) -> int:
    return 0 if isinstance(error, UserError) else 2 if isinstance(error, BudgetExceeded) else 1


def needed(state: State, node: str) -> tuple[Candidate, ...]:
    """Return the candidates of a state; raises `InsufficientCandidates` where there are none."""
    if not state.candidates:
        raise InsufficientCandidates(f"Node {node!r} has no candidates to work on.")
    return state.candidates


def failure_notes(node: str, failures: Sequence[ProviderError], what: str) -> list[Note]:
    """Note each failed call with the kind of its error and what it was to do."""
    return [Note(node, "call_failed", f"{what}: {error.kind}: {error}") for error in failures]


def nothing_left(node: str, failures: Sequence[ProviderError]) -> InsufficientCandidates:
    """Return the error of a node all of whose calls failed."""
    last = f", the last with {failures[-1].kind}: {str(failures[-1]).rstrip('.')}" if failures else ""
    return InsufficientCandidates(f"Node {node!r} has nothing left to hand on: {len(failures)} calls failed{last}.")


def made(node: str, batches: Iterable[tuple[Asked, tuple[str, ...]]]) -> tuple[Candidate, ...]:
    """Make candidates of the samples of several requests, each with the ids of the candidates it was made from.

    Raises `InsufficientCandidates` where no request brought a sample.
    """
    batches = list(batches)
    samples = [(sample, parents) for asked, parents in batches for sample in asked.samples]
    if not samples:
        raise nothing_left(node, [failure for asked, _ in batches for failure in asked.failures])
    return tuple(candidate_of(sample, node, number, parents) for number, (sample, parents) in enumerate(samples, 1))


def candidate_of(sample: Sample, node: str, number: int, parents: tuple[str, ...] = ()) -> Candidate:
    """Make a candidate of a sample; its id is `node:number`, with number counted from 1 over the node's whole run."""
    completion = sample.completion
    logprobs = completion.logprobs
    return Candidate(
        id=f"{node}:{number}",
        text=completion.text,
        node=node,
        model=sample.model,
        index=sample.index,
        parents=parents,
        mean_logprob=sum(token.logprob for token in logprobs) / len(logprobs) if logprobs else None,
        completion_tokens=completion.usage.completion_tokens,
        finish_reason=completion.finish_reason,
        logprobs=logprobs,
    )


def latest_score(candidate: Candidate) -> float | None:
    """Return the score that was given last, or None for a candidate without one."""
    return tuple(candidate.scores.values())[-1] if candidate.scores else None
