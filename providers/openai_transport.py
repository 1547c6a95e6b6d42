"""OpenAI and every compatible server (vLLM, SGLang, llama.cpp, Ollama, TGI).

Completions, of which there are many, go over aiohttp directly; the openai SDK, whose own work on a call costs more
than all that the gateway adds, knows addresses and headers and does what is rare
(docs/decisions/0004-openai-transport.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import orjson

from providers.base import Message, Reply, WireRequest
from providers.embedding import no_embeddings
from providers.errors import BadRequest, CallTimeout, ConnectionFailed, MalformedReply, ProviderError
from providers.models import Api
from providers.plain import plain_body, read_plain
from providers.poster import CONNECT_S, Answer, Poster
from providers.scrub import scrub
from providers.streaming import USAGE_OPTIONS, Assembly
from providers.wire import error_for_status, read_reply, request_body, retry_after_seconds

if TYPE_CHECKING:
    from openai import APIConnectionError, APIStatusError, AsyncOpenAI

__all__ = ["OpenAITransport"]

_NO_SUCH_PATH = frozenset({404, 405, 501})
_NO_SUCH_MODEL = re.compile(r"(?i)model_not_found|model .{0,200}(does not exist|not found)")
_OPTIONS = re.compile(r"(?i)stream.?options|include_usage|continuous_usage")


class OpenAITransport:
    """One endpoint and its pool of connections."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        connections: int = 1024,
        extra_body: Mapping[str, object] | None = None,
        api: Api = "chat",
    ) -> None:
        import httpx
        import openai

        self._key = api_key
        self._api = api
        self._extra = dict(extra_body or {})
        # OpenAI's newer models refuse max_tokens, older compatible servers know nothing else.
        self._limit_field = "max_completion_tokens" if base_url is None else "max_tokens"
        self._options = USAGE_OPTIONS[base_url is None :]
        self._response = httpx.Response
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",
            max_retries=0,
            http_client=openai.DefaultAioHttpClient(
                limits=httpx.Limits(max_connections=connections, keepalive_expiry=30.0)
            ),
        )
        self._poster = Poster(
            str(self._client.base_url), _headers(self._client), connections=connections, secret=api_key
        )

    async def complete(self, request: WireRequest) -> Reply:
        """Answer one request; see `providers.wire` for what is sent and how errors are told apart.

        One with a `progress` is streamed.
        """
        if self._api == "completions":
            path, body, read = "/completions", plain_body(request), read_plain
        else:
            path, body, read = "/chat/completions", request_body(request, limit_field=self._limit_field), read_reply
        if request.progress is None:
            return read(await self.post(path, body, timeout_s=request.timeout_s), request)
        return read(await self._streamed(path, body, request), request)

    async def _streamed(self, path: str, body: dict[str, object], request: WireRequest) -> object:
        """Ask for a stream and put it together; a server that refuses an option of streams is asked without it."""
        while True:
            options = self._options[0]
            asked = {**body, "stream": True, **({"stream_options": options} if options else {}), **self._extra}
            assembly = Assembly(request)
            answer = await self._poster.stream(
                path, orjson.dumps(asked), timeout_s=request.timeout_s, feed=assembly.feed
            )
            if 200 <= answer.status < 300:
                return self._parsed(answer) if answer.body else assembly.answer()
            refusal = self._refusal(answer)
            if not isinstance(refusal, BadRequest) or options is None or not _OPTIONS.search(str(refusal)):
                raise refusal
            if options is self._options[0]:
                self._options = self._options[1:]

    async def embed(self, request: WireRequest) -> object:
        """Ask for the vectors of texts; see `providers.embedding`."""
        texts = [message.content for message in request.messages]
        body = {"model": request.model, "input": texts, **self._extra}
        answer = await self._poster.post("/embeddings", orjson.dumps(body), timeout_s=request.timeout_s)
        if answer.status in _NO_SUCH_PATH and not _NO_SUCH_MODEL.search(answer.body.decode("utf-8", "replace")):
            raise no_embeddings(request.model, str(self._refusal(answer)).rstrip("."))
        return self._read(answer)

    async def post(self, path: str, body: dict[str, object], *, timeout_s: float) -> object:
        """Send a body, the endpoint's further fields added, to a path under the base URL and return what is answered.

        `/../score` is a path beside the base URL's last part, as vLLM has some. Raises `ProviderError`s.
        """
        if self._extra:
            body.update(self._extra)
        return self._read(await self._poster.post(path, orjson.dumps(body), timeout_s=timeout_s))

    def _read(self, answer: Answer) -> object:
        if not 200 <= answer.status < 300:
            raise self._refusal(answer)
        return self._parsed(answer)

    def _parsed(self, answer: Answer) -> object:
        try:
            return orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            raise MalformedReply(f"The answer of {self._client.base_url} is no JSON or breaks off.") from None

    async def list_models(self) -> tuple[str, ...]:
        """Name the models that the endpoint serves."""
        import openai

        try:
            response = await self._client.get("/models", cast_to=self._response, options={"timeout": CONNECT_S})
            entries = orjson.loads(response.content)["data"]
            return tuple(str(entry["id"]) for entry in entries)
        except openai.APIStatusError as error:
            raise self._status_error(error) from None
        except openai.APIConnectionError as error:
            raise self._connection_error(error, CONNECT_S) from None
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise MalformedReply(f"{self._client.base_url}models is no list of models.") from None

    def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Return None: only the server knows."""
        return None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._poster.aclose()
        await self._client.close()

    def _refusal(self, answer: Answer) -> ProviderError:
        code, said = _said(answer.body)
        message = f"{self._client.base_url} answered {answer.status}: {scrub(said, self._key)}"
        return error_for_status(answer.status, message, code=code, retry_after=retry_after_seconds(answer.headers))

    def _status_error(self, error: APIStatusError) -> ProviderError:
        return self._refusal(Answer(error.status_code, error.response.headers, error.response.content))

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


def _headers(client: AsyncOpenAI) -> dict[str, str]:
    """Return what the SDK would send (key, organisation, project, the user's own), without its platform statistics."""
    headers = {**client.default_headers, **client.auth_headers}
    return {
        name: value
        for name, value in headers.items()
        if isinstance(value, str) and not name.lower().startswith("x-stainless-")
    }


def _said(body: bytes) -> tuple[str | None, str]:
    """Return the code and the words of a refusal, which most servers wrap in `error`."""
    text = body.decode("utf-8", "replace")
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None, text
    error = data.get("error", data) if isinstance(data, dict) else None
    if not isinstance(error, dict):
        return None, error if isinstance(error, str) and error else text
    code, said = error.get("code"), error.get("message")
    return code if isinstance(code, str) else None, said if isinstance(said, str) and said else text
