"""Retries: exponential backoff with full jitter, the server's own `Retry-After` first, bounded in number and time.

Only the gateway retries; the SDKs' own retries are off. What a broken-off attempt was billed cannot be known from
here: such attempts are counted (`uncertain`), and the books hold only what a provider reported.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from providers.errors import CallTimeout, ConnectionFailed, MalformedReply, ProviderError

__all__ = ["RetryPolicy", "is_uncertain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When to ask again; times in seconds."""

    retries: int = 5
    base_s: float = 0.5
    cap_s: float = 30.0
    patience_s: float = 300.0
    """All waits of one request together."""

    def wait(self, error: ProviderError, *, attempt: int, waited_s: float) -> float | None:
        """Return the seconds to wait before attempt number `attempt` + 1 (from 1), or None to give up."""
        if not error.retryable or attempt > self.retries:
            return None
        ceiling = min(self.cap_s, self.base_s * 2 ** (attempt - 1))
        wait = random.uniform(0, ceiling)
        if error.retry_after is not None:
            # Spread over a little more than was asked, so that those who were refused together do not return together.
            wait = error.retry_after + wait * min(1.0, 0.1 * error.retry_after)
        return wait if waited_s + wait <= self.patience_s else None


def is_uncertain(error: ProviderError) -> bool:
    """Tell whether the provider may have billed an attempt that ended with this error."""
    return isinstance(error, CallTimeout | ConnectionFailed | MalformedReply)
