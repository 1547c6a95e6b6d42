"""The key of a sample: SHA-256 over everything that determines it, its index included."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import orjson

from db.errors import DataError
from providers.base import Message, Sampling

__all__ = ["RequestDigest", "digest_request", "sample_key", "sample_seed"]


class RequestDigest(NamedTuple):
    """A request's hash and the canonical JSON that was hashed, which is also what is stored of the request."""

    hash: bytes
    payload: bytes


def digest_request(
    *,
    identity: str,
    messages: tuple[Message, ...],
    sampling: Sampling,
    continue_final: bool = False,
    fresh: str = "",
    extra: bytes = b"",
    score: str = "",
) -> RequestDigest:
    """Hash a request, once for all its samples; `extra` is canonical JSON of the endpoint's further fields.

    `score` names the kind of score that is asked for in place of an answer.

    What is left to defaults is left out, so that a new optional parameter does not change old keys. Raises
    `DataError` for text that is not Unicode (a lone surrogate).
    """
    body: dict[str, object] = {"identity": identity, "messages": [[role, content] for role, content in messages]}
    drawn = _drawn(sampling)
    if drawn:
        body["sampling"] = drawn
    if continue_final:
        body["continue_final"] = True
    if fresh:
        body["fresh"] = fresh
    if score:
        body["score"] = score
    if extra:
        body["extra"] = orjson.Fragment(extra)
    try:
        payload = orjson.dumps(body)
    except orjson.JSONEncodeError:
        raise DataError(f"A prompt for {identity} holds text that is no Unicode (a lone surrogate).") from None
    return RequestDigest(hashlib.sha256(payload).digest(), payload)


def sample_key(digest: RequestDigest, index: int) -> str:
    """Return the key of sample `index` of a request, in hex."""
    return hashlib.sha256(digest.hash + b":%d" % index).hexdigest()


def sample_seed(key: str) -> int:
    """Return the 63-bit seed that belongs to a key."""
    return int(key[:16], 16) >> 1


def _drawn(sampling: Sampling) -> dict[str, object]:
    drawn: dict[str, object] = {}
    if sampling.temperature is not None:
        drawn["temperature"] = float(sampling.temperature)
    if sampling.top_p is not None:
        drawn["top_p"] = float(sampling.top_p)
    if sampling.max_tokens is not None:
        drawn["max_tokens"] = sampling.max_tokens
    if sampling.stop:
        drawn["stop"] = sampling.stop
    if sampling.seed is not None:
        drawn["seed"] = sampling.seed
    if sampling.top_logprobs is not None:
        drawn["top_logprobs"] = sampling.top_logprobs
    return drawn
