"""OpenAI and every compatible server (vLLM, SGLang, llama.cpp, Ollama, TGI), over the openai SDK on aiohttp.

The SDK carries addresses, headers and connections; bodies are written and read with orjson instead of the SDK's
pydantic models, which cost more than all that the gateway adds. Its own retries are off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import orjson

from providers.base import Message, Reply, WireRequest
from providers.errors import CallTimeout, ConnectionFailed, MalformedReply, ProviderError
from providers.scrub import scrub
from providers.wire import error_for_status, read_reply, request_body, retry_after_seconds

if TYPE_CHECKING:
    import httpx
    from openai import APIConnectionError, APIStatusError

__all__ = ["OpenAITransport"]

_CONNECT_S = 15.0


class OpenAITransport:
    """One endpoint and its pool of connections."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        connections: int = 1024,
        extra_body: Mapping[str, object] | None = None,
    ) -> None:
        import httpx
        import openai

        self._key = api_key
        self._extra = dict(extra_body or {})
        # OpenAI's newer models refuse max_tokens, older compatible servers know nothing else.
        self._limit_field = "max_completion_tokens" if base_url is None else "max_tokens"
        self._timeouts: dict[float, httpx.Timeout] = {}
        self._response = httpx.Response
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",
            max_retries=0,
            http_client=openai.DefaultAioHttpClient(
                limits=httpx.Limits(max_connections=connections, keepalive_expiry=30.0)
            ),
        )

    async def complete(self, request: WireRequest) -> Reply:
        """Answer one request; see `providers.wire` for what is sent and how errors are told apart."""
        import openai

        body = request_body(request, limit_field=self._limit_field)
        if self._extra:
            body.update(self._extra)
        try:
            response = await self._client.post(
                "/chat/completions",
                content=orjson.dumps(body),
                cast_to=self._response,
                options={"timeout": self._timeout(request.timeout_s)},
            )
        except openai.APIStatusError as error:
            raise self._status_error(error) from None
        except openai.APIConnectionError as error:
            raise self._connection_error(error, request.timeout_s) from None
        try:
            data = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            raise MalformedReply(f"The answer of {self._client.base_url} is no JSON or breaks off.") from None
        return read_reply(data, request)

    async def list_models(self) -> tuple[str, ...]:
        """Name the models that the endpoint serves."""
        import openai

        try:
            response = await self._client.get(
                "/models", cast_to=self._response, options={"timeout": self._timeout(_CONNECT_S)}
            )
            entries = orjson.loads(response.content)["data"]
            return tuple(str(entry["id"]) for entry in entries)
        except openai.APIStatusError as error:
            raise self._status_error(error) from None
        except openai.APIConnectionError as error:
            raise self._connection_error(error, _CONNECT_S) from None
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise MalformedReply(f"{self._client.base_url}models is no list of models.") from None

    def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Return None: only the server knows."""
        return None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _timeout(self, seconds: float) -> httpx.Timeout:
        timeout = self._timeouts.get(seconds)
        if timeout is None:
            import httpx

            timeout = httpx.Timeout(seconds, connect=min(seconds, _CONNECT_S), pool=None)
            self._timeouts[seconds] = timeout
        return timeout

    def _status_error(self, error: APIStatusError) -> ProviderError:
        code = error.code if isinstance(error.code, str) else None
        said = error.body.get("message") if isinstance(error.body, dict) else None
        text = said if isinstance(said, str) and said else error.response.text or error.message
        message = f"{self._client.base_url} answered {error.status_code}: {scrub(text, self._key)}"
        wait = retry_after_seconds(error.response.headers)
        return error_for_status(error.status_code, message, code=code, retry_after=wait)

    def _connection_error(self, error: APIConnectionError, timeout_s: float) -> ProviderError:
        import aiohttp

        # The SDK's aiohttp adapter reports a reset as a timeout, so the first cause decides.
        root: BaseException = error
        while (cause := root.__cause__ or root.__context__) is not None:
            root = cause
            if isinstance(root, aiohttp.ClientError):
                break
        if isinstance(root, TimeoutError):
            return CallTimeout(f"{self._client.base_url} did not answer within {timeout_s:g} s.")
        reason = scrub(str(root) or type(root).__name__, self._key)
        return ConnectionFailed(f"The connection to {self._client.base_url} failed: {reason}")
