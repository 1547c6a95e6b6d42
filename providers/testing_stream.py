"""The server of `providers.testing_server` with answers that come token by token, and with embeddings.

    async with StreamingServer(token_s=0.01) as server:
        ...  # server.url, server.ledger

A request with `stream` is answered by server-sent events, one token each. A caller that hangs up is billed for its
prompt and for what was written until then, as vLLM counts: its tokens are in the ledger, its sample is not.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import orjson

from providers.testing_server import ModelServer, count_tokens, json_reply, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

__all__ = ["StreamingServer", "word_counts"]

_PLACES = 8


class StreamingServer(ModelServer):
    """A model server that can stream; `usage` says how often it tells what it has counted.

    `continuous` tells it with every token where it is asked to, `final` refuses that option and tells it at the end,
    `refused` refuses `stream_options` altogether and never tells. `breaks_after` breaks each of the first
    `breaks` streams off after that many tokens.
    """

    def __init__(
        self,
        *,
        token_s: float = 0.0,
        usage: Literal["continuous", "final", "refused"] = "continuous",
        breaks: int = 0,
        breaks_after: int = 2,
        **settings: Any,  # those of ModelServer
    ) -> None:
        super().__init__(**settings)
        self.token_s = token_s
        self.usage = usage
        self.breaks = breaks
        self.breaks_after = breaks_after
        self.hung_up = 0
        """Streams whose caller went away before their end."""
        self.embedded: list[int] = []
        """Texts of each request for embeddings."""

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/embeddings"):
            return self._embeddings(orjson.loads(await request.read()))
        return await super()._serve(request)

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        body: dict[str, Any] = orjson.loads(await request.read())
        if not body.pop("stream", False):
            return await super()._chat(request)
        options = body.pop("stream_options", None) or {}
        if body.get("model") not in self.models:
            return refusal(404, f"The model `{body.get('model')}` does not exist.", code="model_not_found")
        unknown = self.usage == "refused" and bool(options)
        if unknown or (self.usage == "final" and "continuous_usage_stats" in options):
            return refusal(400, "Unrecognized request argument supplied: stream_options.", code="invalid_value")
        fault = self._fault()
        if fault is not None:
            self.ledger.faults[fault] += 1
            early = self._refusal(fault)
            if early is not None:
                return early
        return await self._written(request, body, options)

    async def _written(
        self, request: web.BaseRequest, body: dict[str, Any], options: dict[str, Any]
    ) -> web.StreamResponse:
        from aiohttp import web

        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        answer, bill = self._answer(body, None)
        reply = orjson.loads(answer)
        prompt = reply["usage"]["prompt_tokens"]
        breaks, self.breaks = self.breaks > 0, max(0, self.breaks - 1)
        written = 0
        for chunk in _chunks(reply):
            if self.token_s:
                await asyncio.sleep(self.token_s)
            if request.transport is None or request.transport.is_closing():
                self._cut(prompt, written)
                return response
            if breaks and written == self.breaks_after:
                request.transport.close()
                self._cut(prompt, written)
                return response
            written += bool(chunk["choices"][0]["delta"])
            if options.get("continuous_usage_stats"):
                chunk["usage"] = _usage(prompt, written)
            await response.write(b"data: " + orjson.dumps(chunk) + b"\n\n")
        if options.get("include_usage"):
            last = {"model": reply["model"], "choices": [], "usage": _usage(prompt, written)}
            await response.write(b"data: " + orjson.dumps(last) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        self._book(bill._replace(completion_tokens=written))
        return response

    def _cut(self, prompt: int, written: int) -> None:
        self.hung_up += 1
        self.ledger.prompt_tokens += prompt
        self.ledger.completion_tokens += written

    def _embeddings(self, body: dict[str, Any]) -> web.Response:
        fault = self._fault()
        early = None if fault is None else self._refusal(fault)
        if early is not None:
            return early
        texts = body["input"]
        self.embedded.append(len(texts))
        tokens = sum(count_tokens(text) for text in texts)
        self.ledger.prompt_tokens += tokens
        entries = [{"index": place, "embedding": word_counts(text)} for place, text in enumerate(texts)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        # Not in order: the index is what counts.
        return json_reply(orjson.dumps({"model": body["model"], "data": entries[::-1], "usage": usage}))


def word_counts(text: str) -> list[float]:
    """Return a vector of 8 places that counts the words of a text by their lengths."""
    counts = [0.0] * _PLACES
    for word in text.split():
        counts[len(word) % _PLACES] += 1
    return counts


def _usage(prompt: int, written: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def _chunks(reply: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Write an answer of one choice as chunks of four bytes, as `count_tokens` counts; the last tells why it ends."""
    choice = reply["choices"][0]
    data = choice["message"]["content"].encode()
    base = {"id": reply["id"], "object": "chat.completion.chunk", "model": reply["model"]}
    for start in range(0, max(1, len(data)), 4):
        piece = data[start : start + 4].decode(errors="replace")
        yield {**base, "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
    yield {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}
