"""What a call to a model is made of: the types between nodes, gateway and transports, and the transport contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from providers.errors import ProviderError

__all__ = [
    "Asked",
    "Completion",
    "FinishReason",
    "Message",
    "Progress",
    "Reply",
    "Request",
    "Role",
    "Sample",
    "Sampling",
    "StepScorer",
    "TokenLogprob",
    "Transport",
    "Usage",
    "WireRequest",
]

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "content_filter", "cancelled"]


class Message(NamedTuple):
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn; None leaves a choice to the model's defaults in `models.yaml`, then to the provider."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    """Base seed; sample i of a request is drawn with seed + i."""
    top_logprobs: int | None = None
    """None: no log probabilities. 0: those of the chosen tokens. k: also the k likeliest per position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A question to one model, before a sample index is chosen; equal requests draw from one sequence of samples."""

    model: str
    """An alias of `models.yaml` or `provider/name`."""
    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    continue_final: bool = False
    """The last message is the assistant's and is to be continued (prefix continuation)."""


class Usage(NamedTuple):
    """Tokens that a provider counted, or that were estimated where it did not say (`estimated`)."""

    prompt_tokens: int
    completion_tokens: int
    cached_prompt_tokens: int = 0
    estimated: bool = False


class TokenLogprob(NamedTuple):
    """A generated token with its natural-log probability and, if asked for, the likeliest at its position."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer of a model. Of an n-fold request the first completion carries the prompt's tokens, the others 0."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    logprobs: tuple[TokenLogprob, ...] | None = None


class Progress:
    """How far a request for one sample has come: the transport writes it, whoever gives the request up reads it."""

    __slots__ = ("rent", "usage")

    def __init__(self) -> None:
        self.usage: Usage | None = None
        """What has been billed so far, as far as the transport knows; None: it knows nothing."""
        self.rent: Decimal | None = None
        """Dollars of the machine's time, where it is paid by the hour."""

    def forget(self) -> None:
        """Begin anew, for another attempt."""
        self.usage = self.rent = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRequest:
    """What a transport is asked: the resolved model, parameters with defaults applied, the samples wanted."""

    model: str
    """The name that the server knows."""
    messages: tuple[Message, ...]
    sampling: Sampling
    indices: tuple[int, ...]
    """Sample indices wanted; `len(indices)` is n. More than one only where the endpoint can do n > 1."""
    seeds: tuple[int, ...]
    """A 63-bit seed for each index, derived from the call's key; for transports that are deterministic (embedded)."""
    continue_final: bool = False
    timeout_s: float = 600.0
    progress: Progress | None = field(default=None, compare=False, repr=False)
    """Where a transport that can says how far it has come, so that a sample that is cancelled can be paid for; for one
    index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The completions of a wire request, in the order of its indices, possibly fewer than asked, never none."""

    completions: tuple[Completion, ...]
    served_model: str | None = None


@runtime_checkable
class Transport(Protocol):
    """A way to reach models; one instance per endpoint, alive as long as the gateway.

    `complete` raises a `ProviderError` subclass and nothing else, and stops the work on cancellation. Retries,
    cache, limits, budget and prices are the gateway's affair. One that is cancelled leaves the request's `progress`, if
    it has one and the transport knows, at what the server will bill.
    """

    async def complete(self, request: WireRequest) -> Reply:
        """Answer one request."""
        ...

    async def list_models(self) -> tuple[str, ...]:
        """Name the models that the endpoint serves; raises `ConnectionFailed` where it cannot be reached."""
        ...

    def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Count prompt tokens exactly, or None where only the server can."""
        ...

    async def aclose(self) -> None:
        """Give back connections and threads."""
        ...


@runtime_checkable
class StepScorer(Protocol):
    """A transport that can score partial solutions (a process reward)."""

    async def score(self, request: WireRequest) -> float:
        """Return the probability in 0..1 that the partial solution in the request is still right."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One sample as the gateway hands it out: durable, priced, and known as paid now or taken from the cache."""

    key: str
    """SHA-256 of model identity, messages, sampling and sample index, in hex."""
    model: str
    """The alias that was asked."""
    index: int
    completion: Completion
    cached: bool
    """True where nothing was paid for it in this run."""
    cost: Decimal | None
    """Dollars that it cost when it was paid; None where the price is unknown."""
    latency_s: float


class Asked(NamedTuple):
    """What came back for one request: the samples that succeeded, in index order, and the errors of the others."""

    samples: tuple[Sample, ...]
    failures: tuple[ProviderError, ...]
