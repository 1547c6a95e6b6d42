"""What a batch API is to the collector: the contract of the clients, and what goes in and comes out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from providers.base import Reply, WireRequest
from providers.errors import ProviderError

__all__ = ["BatchApi", "BatchState", "Line", "Missing", "Result", "Stage", "custom_id", "line_of"]

Stage = Literal["running", "ended", "full", "refused"]
"""full: the provider has too much queued and took nothing of it. refused: it took nothing and never will."""


class Line(NamedTuple):
    """One request of a batch, as it is sent."""

    id: str
    """See `custom_id`."""
    data: bytes
    """The JSON of the line, without its line feed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchState:
    """How far a batch is."""

    stage: Stage
    done: int
    """Requests that are through."""
    total: int
    said: str = ""
    """The provider's words where it refused the batch."""


class Missing(NamedTuple):
    """The provider did not come to a request: the batch expired or was cancelled first."""

    why: str


class Result(NamedTuple):
    """What became of one request."""

    id: str
    """The line's id."""
    outcome: object | ProviderError | Missing
    """The JSON of the answer, which `BatchApi.read` reads; the error it failed with; or nothing."""


@runtime_checkable
class BatchApi(Protocol):
    """A way to a batch API; raises `ProviderError`s and nothing else, and stops on cancellation."""

    def takes(self, request: WireRequest) -> bool:
        """Tell whether a request can go into a batch."""
        ...

    def line(self, id: str, request: WireRequest) -> Line:
        """Write a request as a line."""
        ...

    async def prepare(self, mark: str, lines: Sequence[Line]) -> str:
        """Bring the lines to where the batch is created from; creates nothing that costs. Returns what names them."""
        ...

    async def create(self, mark: str, prepared: str, lines: Sequence[Line]) -> str:
        """Create the batch and return its id; after a broken-off call it may be there all the same (`find`)."""
        ...

    async def find(self, mark: str, *, lines: int, since: datetime, known: Collection[str]) -> str | None:
        """Return the id of the batch that was created with a mark at or after a moment, where there is one.

        Where the provider keeps no marks it is one with as many lines that is not among the `known` ids; the ids in
        its results then tell whether it is the one.
        """
        ...

    async def state(self, id: str) -> BatchState:
        """Look at a batch."""
        ...

    def results(self, id: str) -> AsyncIterator[Result]:
        """Yield what became of the requests of an ended batch, in any order; those without a result are missing."""
        ...

    async def cancel(self, id: str) -> None:
        """Ask for the end of a batch; it ends some time later, with the results that it has. Harmless at its end."""
        ...

    def read(self, answer: object, request: WireRequest) -> Reply:
        """Read the answer of a result; raises `MalformedReply` for what is none."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


def custom_id(mark: str, line: int) -> str:
    """Return the id of a line: the batch's mark and the line's number."""
    return f"{mark}-{line}"


def line_of(id: str, mark: str) -> int | None:
    """Return the number of a line of the batch with this mark; None for another batch's."""
    own, dash, number = id.partition("-")
    return int(number) if own == mark and dash and number.isdecimal() else None
