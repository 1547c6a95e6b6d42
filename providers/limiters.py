"""The limiter of a model at an endpoint, made from what `models.yaml` says of its limits."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from providers.adaptive import LocalGovernor
from providers.base import Message
from providers.limits import Limiter
from providers.models import ModelSpec
from providers.rates import RateLimits
from providers.wire import estimate_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from providers.redis_link import RedisLink

__all__ = ["limiter_for", "rates_of", "tokens_asked"]

_SLOW_START = 16
"""Requests at once that a provider is given first."""
_TOKENS_PER_MESSAGE = 4
_UNKNOWN_ANSWER = 1024
"""Tokens that an answer is taken to have at most where nothing bounds it, until real ones are known."""


def limiter_for(spec: ModelSpec, link: RedisLink | None, key_label: str) -> Limiter:
    """Return a limiter; shared by all processes of a Redis where a link is given and calls leave the process.

    An endpoint that asks for a key belongs to somebody who may refuse, so it is approached slowly; an own server is
    given all that it may have at once.
    """
    limits = spec.limits
    metered = spec.api_key_env is not None or spec.transport == "litellm"
    start = min(limits.in_flight, _SLOW_START) if metered else limits.in_flight
    local = LocalGovernor(limits.in_flight, start=start, rates=rates_of(spec))
    if link is None or not spec.hosted:
        return Limiter(local, patience_s=limits.patience_s)
    from providers.shared_limits import SharedGovernor

    place = f"{spec.transport} {spec.base_url} {spec.model} {key_label}"
    name = hashlib.sha256(place.encode()).hexdigest()[:16]
    shared = SharedGovernor(link, name, limits.in_flight, local=local, start=start)
    return Limiter(shared, patience_s=limits.patience_s)


def rates_of(spec: ModelSpec) -> RateLimits:
    """Return the rates that a model may be asked at."""
    return RateLimits(requests=spec.limits.requests_per_minute, tokens=spec.limits.tokens_per_minute)


def tokens_asked(spec: ModelSpec, messages: Sequence[Message], max_tokens: int | None, n: int) -> int:
    """Return the tokens that a request may use, as providers estimate it: prompt and n answers at full length."""
    prompt = sum(estimate_tokens(message.content) + _TOKENS_PER_MESSAGE for message in messages)
    most = max_tokens if max_tokens is not None else spec.max_output or _UNKNOWN_ANSWER
    return prompt + n * most
