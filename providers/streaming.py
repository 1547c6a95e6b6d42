"""Answers that come token by token: server-sent events, put together to what an unstreamed answer would have been.

Only requests with a `Progress` are streamed, since only they may be cancelled; the rest come in one piece, which is
cheaper for both sides. What had been billed at any moment is known exactly where the server gives usage with every
chunk (vLLM and SGLang: `continuous_usage_stats`), else it is what was counted: a chunk with text is a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson

from providers.base import Usage, WireRequest
from providers.errors import MalformedReply, Overloaded, ProviderError
from providers.wire import error_for_status, estimate_tokens, read_usage

__all__ = ["USAGE_OPTIONS", "Assembly", "EventReader"]

USAGE_OPTIONS: Final[tuple[Mapping[str, bool] | None, ...]] = (
    {"include_usage": True, "continuous_usage_stats": True},
    {"include_usage": True},
    None,
)
"""`stream_options`, the best first; OpenAI itself refuses names that it does not know."""

_TEXT = ("content", "reasoning_content", "reasoning", "refusal")
"""Fields of a delta that hold generated text."""


class EventReader:
    """Divides the bytes of an event stream into the data of its events, wherever the network has cut them."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that are complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        found: list[bytes] = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._lines.append(line[5:].removeprefix(b" "))
            elif not line and self._lines:
                found.append(b"\n".join(self._lines))
                self._lines = []
        return found


class Assembly:
    """The chunks of one sample, chat or text completion; says in the request's `progress` how far it has come."""

    def __init__(self, request: WireRequest) -> None:
        self._request = request
        self._events = EventReader()
        self._text: dict[str, list[str]] = {}
        self._logprobs: dict[str, list[object]] = {}
        self._finish: object = None
        self._model: object = None
        self._usage: object = None
        prompt = sum(estimate_tokens(message.content) for message in request.messages)
        self._last = Usage(prompt, 0, 0, True)
        """What the server last counted; until then an estimate."""
        self._since = 0
        """Chunks with text since then."""

    def feed(self, data: bytes) -> None:
        """Take what has come; raises `ProviderError`s for errors that the server sends in the stream."""
        for event in self._events.feed(data):
            if event.strip() != b"[DONE]":
                self._take(_chunk(event))

    def answer(self) -> dict[str, object]:
        """Return the whole answer in the form of an unstreamed one; raises `MalformedReply` where it breaks off."""
        if self._finish is None:
            raise MalformedReply("The stream of the server's answer ended before the answer did.")
        texts = {name: "".join(pieces) for name, pieces in self._text.items()}
        choice: dict[str, object] = {"finish_reason": self._finish, "logprobs": self._logprobs or None}
        if "text" in texts:
            choice["text"] = texts["text"]
        refused = None if texts.get("refusal") else ""
        choice["message"] = {"content": texts.get("content") or refused, "refusal": texts.get("refusal")}
        return {"model": self._model, "choices": [choice], "usage": None if self._since else self._usage}

    def _take(self, chunk: Mapping[str, object]) -> None:
        if chunk.get("error"):
            raise _error(chunk["error"])
        self._model = chunk.get("model") or self._model
        choices = chunk.get("choices")
        if isinstance(choices, list) and choices:
            self._since += self._extend(choices[0])
        usage = read_usage(chunk.get("usage"))
        if usage is not None:
            self._usage, self._last, self._since = chunk["usage"], usage, 0
        self._tell()

    def _tell(self) -> None:
        progress, last = self._request.progress, self._last
        if progress is not None:
            counted = last.completion_tokens + self._since
            progress.usage = last._replace(completion_tokens=counted, estimated=last.estimated or self._since > 0)

    def _extend(self, choice: object) -> bool:
        """Add a chunk of the choice; return whether it holds text."""
        if not isinstance(choice, Mapping):
            raise MalformedReply("A chunk of the server's stream holds no choice.")
        self._finish = choice.get("finish_reason") or self._finish
        delta = choice.get("delta")
        pieces = dict(delta) if isinstance(delta, Mapping) else {}
        found = False
        for name, piece in ({name: pieces.get(name) for name in _TEXT} | {"text": choice.get("text")}).items():
            if isinstance(piece, str):
                self._text.setdefault(name, []).append(piece)
                found = found or bool(piece)
        logprobs = choice.get("logprobs")
        for name, entries in logprobs.items() if isinstance(logprobs, Mapping) else ():
            if isinstance(entries, list):
                self._logprobs.setdefault(str(name), []).extend(entries)
        return found


def _chunk(event: bytes) -> Mapping[str, object]:
    try:
        chunk = orjson.loads(event)
    except orjson.JSONDecodeError:
        raise MalformedReply("A chunk of the server's stream is no JSON.") from None
    if not isinstance(chunk, dict):
        raise MalformedReply("A chunk of the server's stream is no object.")
    return chunk


def _error(error: object) -> ProviderError:
    said = error.get("message") if isinstance(error, Mapping) else error
    code = error.get("code") if isinstance(error, Mapping) else None
    message = f"The server broke off its answer: {said}"
    if isinstance(code, int) and not isinstance(code, bool):
        return error_for_status(code, message)
    return Overloaded(message)
