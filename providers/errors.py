"""The errors of one call to a model, the same for every transport.

ProviderError                 one call failed; `retryable` says whether asking again can help
├── AuthError                 the key was refused (401, 403); never retried, ends the run
├── RateLimited               429; retried after `retry_after` seconds where the server says so
├── Overloaded                5xx; retried, never shrinks the limit of calls in flight
├── CallTimeout               no answer within the time allowed; retried
├── ConnectionFailed          refused, reset or broken off; retried
├── MalformedReply            an answer that is no chat completion (truncated JSON, no choices); retried
├── ContextLengthExceeded     the prompt does not fit the model; never retried
├── ContentFiltered           the provider withheld the answer; never retried, never cached
└── BadRequest                any other 4xx; never retried
"""

from __future__ import annotations

from typing import ClassVar

from db.errors import ColonnadeError

__all__ = [
    "AuthError",
    "BadRequest",
    "CallTimeout",
    "ConnectionFailed",
    "ContentFiltered",
    "ContextLengthExceeded",
    "MalformedReply",
    "Overloaded",
    "ProviderError",
    "RateLimited",
]


class ProviderError(ColonnadeError):
    """One call to a model failed; `kind` is its class in logs and rows, `retryable` whether asking again can help."""

    kind: ClassVar[str] = "provider"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.attempts = 0
        """Requests that were sent for it, all told; 0 where they were not counted."""

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), str(self), self.retry_after)


def _rebuild(cls: type[ProviderError], message: str, retry_after: float | None) -> ProviderError:
    return cls(message, retry_after=retry_after)


class AuthError(ProviderError):
    """The key was refused."""

    kind = "auth"


class RateLimited(ProviderError):
    """The server asks for fewer requests; `retry_after` is in seconds where the server said it."""

    kind = "rate_limit"
    retryable = True


class Overloaded(ProviderError):
    """The server failed (5xx)."""

    kind = "overloaded"
    retryable = True


class CallTimeout(ProviderError):
    """No answer came within the time allowed."""

    kind = "timeout"
    retryable = True


class ConnectionFailed(ProviderError):
    """The connection was refused, reset or broken off."""

    kind = "connection"
    retryable = True


class MalformedReply(ProviderError):
    """The answer is no chat completion: truncated JSON, no choices, a missing text."""

    kind = "malformed"
    retryable = True


class ContextLengthExceeded(ProviderError):
    """The prompt and the tokens asked for do not fit the model's context."""

    kind = "context_length"


class ContentFiltered(ProviderError):
    """The provider withheld the answer."""

    kind = "content_filter"


class BadRequest(ProviderError):
    """The server refused the request as it stands."""

    kind = "bad_request"
