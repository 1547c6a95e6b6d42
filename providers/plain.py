"""The text-completions format (`/v1/completions`): a prompt that is continued as it stands, without a chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from providers.base import Message, Reply, WireRequest
from providers.errors import MalformedReply
from providers.wire import read_reply, request_body

__all__ = ["plain_body", "plain_prompt", "read_plain", "read_tokens"]


def plain_prompt(messages: Sequence[Message]) -> str:
    """Return what is to be continued: the contents of all messages, one after the other."""
    return "".join(message.content for message in messages)


def plain_body(request: WireRequest) -> dict[str, object]:
    """Write a request as the fields of a text completion; the end of the prompt is always what is continued."""
    body = request_body(request)
    for name in ("messages", "logprobs", "top_logprobs", "continue_final_message", "add_generation_prompt"):
        body.pop(name, None)
    body["prompt"] = plain_prompt(request.messages)
    if request.sampling.top_logprobs is not None:
        body["logprobs"] = request.sampling.top_logprobs
    return body


def read_plain(data: object, request: WireRequest) -> Reply:
    """Read a text completion; raises `MalformedReply` for what is none."""
    if not isinstance(data, dict) or not isinstance(data.get("choices"), list):
        raise MalformedReply("The server's answer is no text completion.")
    return read_reply({**data, "choices": [_as_chat(choice) for choice in data["choices"]]}, request)


def read_tokens(logprobs: object) -> list[dict[str, object]]:
    """Return a completion's tokens with their log probabilities in the form of the chat format."""
    if not isinstance(logprobs, dict):
        raise MalformedReply("The server's answer lacks the log probabilities that were asked for.")
    try:
        tokens, values = list(logprobs["tokens"]), list(logprobs["token_logprobs"])
        tops = list(logprobs.get("top_logprobs") or [None] * len(tokens))
        return [
            {"token": token, "logprob": value, "top_logprobs": _likeliest(top)}
            for token, value, top in zip(tokens, values, tops, strict=True)
        ]
    except (KeyError, TypeError, ValueError):
        raise MalformedReply("The server's log probabilities cannot be read.") from None


def _as_chat(choice: object) -> dict[str, object]:
    if not isinstance(choice, Mapping):
        raise MalformedReply("A choice of the server's answer is no object.")
    logprobs = choice.get("logprobs")
    return {
        "message": {"content": choice.get("text")},
        "finish_reason": choice.get("finish_reason"),
        "logprobs": {"content": read_tokens(logprobs)} if logprobs is not None else None,
    }


def _likeliest(top: object) -> list[dict[str, object]]:
    if not isinstance(top, Mapping):
        return []
    return [{"token": token, "logprob": value} for token, value in sorted(top.items(), key=lambda pair: -pair[1])]
