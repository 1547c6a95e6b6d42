"""Anthropic's message batches, over plain HTTP.

The API keeps no marks, so that a batch whose creation was interrupted is found by its number of requests among those
that nobody here knows; the ids in its results tell whether it was the one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from providers.base import Completion, FinishReason, Reply, Usage, WireRequest
from providers.batching.base import BatchState, Line, Missing, Result
from providers.errors import CallTimeout, ConnectionFailed, MalformedReply, ProviderError
from providers.scrub import scrub
from providers.wire import error_for_status, retry_after_seconds

if TYPE_CHECKING:
    import httpx

__all__ = ["ANTHROPIC_URL", "AnthropicBatches"]

ANTHROPIC_URL = "https://api.anthropic.com/v1"
_VERSION = "2023-06-01"
_MAX_TOKENS = 4096
"""An answer's bound where none is asked for, since the API demands one; the same that litellm takes."""
_LOOK_S = 60.0
_SKEW = timedelta(minutes=10)
_STATUS: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_FINISH: Mapping[str, FinishReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}


class AnthropicBatches:
    """One address and key."""

    def __init__(
        self,
        base_url: str | None,
        api_key: str | None,
        *,
        extra_body: Mapping[str, object] | None = None,
        create_s: float = 600,
    ) -> None:
        import httpx

        self._url = (base_url or ANTHROPIC_URL).rstrip("/")
        self._key = api_key
        self._extra = dict(extra_body or {})
        self._create_s = create_s
        self._client = httpx.AsyncClient(headers={"x-api-key": api_key or "none", "anthropic-version": _VERSION})

    def takes(self, request: WireRequest) -> bool:
        """Take what the API knows: single samples of a conversation, without log probabilities."""
        return len(request.indices) == 1 and request.sampling.top_logprobs is None and not request.continue_final

    def line(self, id: str, request: WireRequest) -> Line:
        """Write a message request."""
        return Line(id, orjson.dumps({"custom_id": id, "params": {**message_body(request), **self._extra}}))

    async def prepare(self, mark: str, lines: Sequence[Line]) -> str:
        """Do nothing: the requests go with the call that creates the batch."""
        return ""

    async def create(self, mark: str, prepared: str, lines: Sequence[Line]) -> str:
        """Create the batch with all its requests."""
        body = b'{"requests":[' + b",".join(line.data for line in lines) + b"]}"
        headers = {"content-type": "application/json"}
        return str(await self._json("POST", "", "id", content=body, headers=headers, timeout=self._create_s))

    async def find(self, mark: str, *, lines: int, since: datetime, known: Collection[str]) -> str | None:
        """Return the oldest batch with as many requests that nobody here knows."""
        oldest, found = since - _SKEW, None
        after: dict[str, str] = {}
        while True:
            page = await self._json("GET", "", params={"limit": "100", **after})
            for batch in page["data"]:
                if datetime.fromisoformat(batch["created_at"]) < oldest:
                    return found
                if batch["id"] not in known and sum(batch["request_counts"].values()) == lines:
                    found = str(batch["id"])
            if not page.get("has_more"):
                return found
            after = {"after_id": page["last_id"]}

    async def state(self, id: str) -> BatchState:
        """Retrieve the batch."""
        batch = await self._json("GET", f"/{id}")
        counts = batch["request_counts"]
        total = sum(counts.values())
        ended = batch["processing_status"] == "ended"
        return BatchState(stage="ended" if ended else "running", done=total - counts["processing"], total=total)

    async def results(self, id: str) -> AsyncIterator[Result]:
        """Read the results, line by line."""
        import httpx

        batch = await self._json("GET", f"/{id}")
        try:
            async with self._client.stream("GET", batch["results_url"], timeout=_LOOK_S) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise self._refusal(response)
                async for line in response.aiter_lines():
                    if line.strip():
                        yield _result(line, self._key)
        except httpx.HTTPError as error:
            raise self._broken(error) from None

    async def cancel(self, id: str) -> None:
        """Cancel; a batch that has ended stays as it is."""
        if (await self.state(id)).stage == "running":
            await self._json("POST", f"/{id}/cancel")

    def read(self, answer: object, request: WireRequest) -> Reply:
        """Read a message."""
        return read_message(answer)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _json(self, method: str, path: str, field: str | None = None, **how: Any) -> Any:
        import httpx

        how.setdefault("timeout", _LOOK_S)
        try:
            response = await self._client.request(method, f"{self._url}/messages/batches{path}", **how)
        except httpx.HTTPError as error:
            raise self._broken(error) from None
        if response.status_code != 200:
            raise self._refusal(response)
        try:
            data = orjson.loads(response.content)
            return data if field is None else data[field]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise MalformedReply(f"The answer of {self._url} is no message batch.") from None

    def _refusal(self, response: httpx.Response) -> ProviderError:
        said = scrub(response.text, self._key)
        return error_for_status(
            response.status_code,
            f"{self._url} answered {response.status_code}: {said}",
            retry_after=retry_after_seconds(response.headers),
        )

    def _broken(self, error: httpx.HTTPError) -> ProviderError:
        import httpx

        if isinstance(error, httpx.TimeoutException):
            return CallTimeout(f"{self._url} did not answer within the time allowed.")
        return ConnectionFailed(f"The connection to {self._url} failed: {scrub(str(error), self._key)}")


def message_body(request: WireRequest) -> dict[str, object]:
    """Write a request as the fields of a message; seeds, which the API does not know, are left out."""
    sampling = request.sampling
    body: dict[str, object] = {
        "model": request.model.removeprefix("anthropic/"),
        "max_tokens": sampling.max_tokens or _MAX_TOKENS,
        "messages": [{"role": role, "content": content} for role, content in request.messages if role != "system"],
    }
    system = "\n\n".join(content for role, content in request.messages if role == "system")
    if system:
        body["system"] = system
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    if sampling.top_p is not None:
        body["top_p"] = sampling.top_p
    if sampling.stop:
        body["stop_sequences"] = list(sampling.stop)
    return body


def read_message(data: object) -> Reply:
    """Read a message; raises `MalformedReply` for what is none."""
    try:
        if not isinstance(data, dict):
            raise TypeError("no object")
        text = "".join(block["text"] for block in data["content"] if block["type"] == "text")
        usage = data["usage"]
        cached = usage.get("cache_read_input_tokens") or 0
        prompt = usage["input_tokens"] + cached + (usage.get("cache_creation_input_tokens") or 0)
        counted = Usage(prompt, usage["output_tokens"], cached)
    except (KeyError, TypeError, AttributeError):
        raise MalformedReply("The server's answer is no message.") from None
    finish = _FINISH.get(str(data.get("stop_reason")), "stop")
    served = data.get("model")
    return Reply(
        completions=(Completion(text=text, finish_reason=finish, usage=counted),),
        served_model=served if isinstance(served, str) else None,
    )


def _result(line: str, key: str | None) -> Result:
    try:
        entry = orjson.loads(line)
        id, result = str(entry["custom_id"]), entry["result"]
        kind = result["type"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise MalformedReply("A line of a batch's results is no result.") from None
    if kind == "succeeded":
        return Result(id, result.get("message"))
    if kind in ("canceled", "expired"):
        return Result(id, Missing(f"the batch was {kind}" if kind == "canceled" else "the batch expired"))
    error = result.get("error") or {}
    # The error itself stands in an envelope of its own.
    error = error.get("error", error) if isinstance(error, dict) else {}
    said = scrub(str(error.get("message", "no reason was given")), key)
    return Result(id, error_for_status(_STATUS.get(str(error.get("type")), 500), said))
