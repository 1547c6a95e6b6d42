"""The chat-completions format: writing requests, reading replies, telling errors apart; shared by HTTP transports."""

from __future__ import annotations

import email.utils
import itertools
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from providers.base import Completion, FinishReason, Message, Reply, TokenLogprob, Usage, WireRequest
from providers.errors import (
    AuthError,
    BadRequest,
    CallTimeout,
    ContentFiltered,
    ContextLengthExceeded,
    MalformedReply,
    Overloaded,
    ProviderError,
    RateLimited,
)

__all__ = [
    "error_for_status",
    "estimate_tokens",
    "read_count",
    "read_reply",
    "read_usage",
    "request_body",
    "retry_after_seconds",
    "shared",
]

_FINISH: Mapping[str, FinishReason] = {"length": "length", "max_tokens": "length", "content_filter": "content_filter"}
_TOO_LONG = re.compile(
    r"(?i)context.?(length|window|size)|maximum context|prompt is too long|too many tokens|input is too long"
)
_FILTERED = re.compile(r"(?i)content.?(filter|policy|management)|safety")


def request_body(request: WireRequest, *, limit_field: str = "max_tokens") -> dict[str, object]:
    """Write a request as the fields of a chat completion; parameters left open are left out."""
    sampling = request.sampling
    body: dict[str, object] = {
        "model": request.model,
        "messages": [{"role": role, "content": content} for role, content in request.messages],
    }
    if len(request.indices) > 1:
        body["n"] = len(request.indices)
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    if sampling.top_p is not None:
        body["top_p"] = sampling.top_p
    if sampling.max_tokens is not None:
        body[limit_field] = sampling.max_tokens
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        body["seed"] = sampling.seed + request.indices[0]
    if sampling.top_logprobs is not None:
        body["logprobs"] = True
        if sampling.top_logprobs:
            body["top_logprobs"] = sampling.top_logprobs
    if request.continue_final:
        body["continue_final_message"] = True
        body["add_generation_prompt"] = False
    return body


def read_reply(data: object, request: WireRequest) -> Reply:
    """Read a chat completion; raises `MalformedReply` for what is none and `ContentFiltered` where all is withheld."""
    if not isinstance(data, dict) or not isinstance(data.get("choices"), list):
        raise MalformedReply("The server's answer is no chat completion.")
    choices = data["choices"][: len(request.indices)]
    if not choices:
        raise MalformedReply("The server's answer holds no choices.")
    texts = [_text(choice) for choice in choices]
    logprobs = [_logprobs(choice) if request.sampling.top_logprobs is not None else None for choice in choices]
    usages = _usages(data.get("usage"), request.messages, texts, logprobs)
    completions = tuple(
        Completion(text=text, finish_reason=_finish(choice), usage=usage, logprobs=tokens)
        for choice, text, usage, tokens in zip(choices, texts, usages, logprobs, strict=True)
    )
    served = data.get("model")
    return Reply(completions=completions, served_model=served if isinstance(served, str) else None)


def read_usage(usage: object) -> Usage | None:
    """Read what a server counted for one sample; None where it gives no counts."""
    prompt, completion = read_count(usage, "prompt_tokens"), read_count(usage, "completion_tokens")
    if prompt is None or completion is None:
        return None
    return Usage(prompt, completion, _cached(usage, prompt))


def estimate_tokens(text: str) -> int:
    """Estimate tokens where nobody counted them: four bytes of UTF-8 to a token, rounded up."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 4)


def error_for_status(
    status: int, message: str, *, code: str | None = None, retry_after: float | None = None
) -> ProviderError:
    """Return the error that an HTTP status and the server's words stand for."""
    if status in (401, 403) or code == "insufficient_quota":
        return AuthError(message)
    if status == 429:
        return RateLimited(message, retry_after=retry_after)
    if status in (408, 504):
        return CallTimeout(message, retry_after=retry_after)
    if status >= 500 or status == 409:
        return Overloaded(message, retry_after=retry_after)
    if code == "context_length_exceeded" or status == 413 or _TOO_LONG.search(message):
        return ContextLengthExceeded(message)
    if code == "content_filter" or (status == 400 and _FILTERED.search(message)):
        return ContentFiltered(message)
    return BadRequest(message)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Read `retry-after-ms` or `Retry-After` (seconds or a date) as seconds from now; None where it says nothing."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(0.0, float(value) * unit)
        except ValueError:
            moment = email.utils.parsedate_tz(value)
            if moment is not None:
                return max(0.0, email.utils.mktime_tz(moment) - time.time())
    return None


def _text(choice: object) -> str:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise MalformedReply("A choice of the server's answer holds no message.")
    content = message.get("content")
    if isinstance(content, str):
        return content
    reason = choice.get("finish_reason") if isinstance(choice, dict) else None
    if reason in ("content_filter", "length") or message.get("refusal"):
        return ""
    raise MalformedReply("A choice of the server's answer holds no text.")


def _finish(choice: Mapping[str, Any]) -> FinishReason:
    if not isinstance(choice["message"].get("content"), str) and choice["message"].get("refusal"):
        return "content_filter"
    return _FINISH.get(str(choice.get("finish_reason")), "stop")


def _logprobs(choice: Mapping[str, Any]) -> tuple[TokenLogprob, ...]:
    try:
        return tuple(
            TokenLogprob(
                entry["token"],
                float(entry["logprob"]),
                tuple((top["token"], float(top["logprob"])) for top in entry.get("top_logprobs") or ()),
            )
            for entry in choice["logprobs"]["content"]
        )
    except (KeyError, TypeError, ValueError):
        raise MalformedReply("The server's answer lacks the log probabilities that were asked for.") from None


def _usages(
    usage: object,
    messages: Sequence[Message],
    texts: Sequence[str],
    logprobs: Sequence[tuple[TokenLogprob, ...] | None],
) -> list[Usage]:
    weights = [
        len(tokens) if tokens is not None else estimate_tokens(text)
        for tokens, text in zip(logprobs, texts, strict=True)
    ]
    prompt = read_count(usage, "prompt_tokens")
    total = read_count(usage, "completion_tokens")
    estimated = prompt is None or total is None
    if prompt is None:
        prompt = sum(estimate_tokens(message.content) for message in messages)
    shares = weights if total is None else shared(total, weights)
    first = Usage(prompt, shares[0], _cached(usage, prompt), estimated)
    return [first, *(Usage(0, share, 0, estimated) for share in shares[1:])]


def _cached(usage: object, prompt: int) -> int:
    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    return min(read_count(details, "cached_tokens") or 0, prompt)


def read_count(usage: object, name: str) -> int | None:
    """Read a count of tokens; None where the server gives none."""
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def shared(total: int, weights: Sequence[int]) -> list[int]:
    """Divide what the provider counted for all choices among them, in proportion, to the token."""
    whole = sum(weights)
    if whole == total:
        return list(weights)
    bounds, seen = [0], 0
    for weight in weights:
        seen += weight or (1 if not whole else 0)
        bounds.append(round(total * seen / (whole or len(weights))))
    return [after - before for before, after in itertools.pairwise(bounds)]
