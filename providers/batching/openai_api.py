"""OpenAI's Files and Batches endpoints, and those of compatible servers, through the openai SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from providers.base import Reply, WireRequest
from providers.batching.base import BatchState, Line, Missing, Result
from providers.errors import CallTimeout, ConnectionFailed, MalformedReply, ProviderError
from providers.scrub import scrub
from providers.wire import error_for_status, read_reply, request_body, retry_after_seconds

if TYPE_CHECKING:
    from openai.types import Batch

__all__ = ["OpenAIBatches", "completion_line", "read_line"]

_T = TypeVar("_T")
_PATH = "/v1/chat/completions"
_MARK = "colonnade_mark"
_NOT_REACHED = frozenset({"batch_cancelled", "batch_expired"})
_FULL = frozenset({"token_limit_exceeded"})
_SKEW = timedelta(minutes=10)
"""By how much the provider's clock may be behind ours."""


class OpenAIBatches:
    """One address and key."""

    def __init__(
        self,
        base_url: str | None,
        api_key: str | None,
        *,
        extra_body: Mapping[str, object] | None = None,
        window_h: float = 24,
        create_s: float = 60,
    ) -> None:
        import openai

        self._key = api_key
        self._extra = dict(extra_body or {})
        self._limit_field = "max_completion_tokens" if base_url is None else "max_tokens"
        self._window: Any = f"{window_h:g}h"
        self._create_s = create_s
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",
            max_retries=0,
            http_client=openai.DefaultAioHttpClient(),
        )

    def takes(self, request: WireRequest) -> bool:
        """Take all chat completions."""
        return True

    def line(self, id: str, request: WireRequest) -> Line:
        """Write a chat completion."""
        return completion_line(id, {**request_body(request, limit_field=self._limit_field), **self._extra})

    async def prepare(self, mark: str, lines: Sequence[Line]) -> str:
        """Upload the file and return its id."""
        data = b"\n".join(line.data for line in lines) + b"\n"
        file = await self._try(
            lambda: self._client.files.create(file=(f"colonnade-{mark}.jsonl", data), purpose="batch")
        )
        return file.id

    async def create(self, mark: str, prepared: str, lines: Sequence[Line]) -> str:
        """Create the batch, its mark among the metadata."""
        batch = await self._try(
            lambda: self._client.batches.create(
                input_file_id=prepared,
                endpoint="/v1/chat/completions",
                completion_window=self._window,
                metadata={_MARK: mark},
                timeout=self._create_s,
            )
        )
        return batch.id

    async def find(self, mark: str, *, lines: int, since: datetime, known: Collection[str]) -> str | None:
        """Look through the list, which begins with the newest."""
        oldest = (since - _SKEW).timestamp()

        async def search() -> str | None:
            async for batch in self._client.batches.list(limit=100):
                if (batch.metadata or {}).get(_MARK) == mark:
                    return batch.id
                if batch.created_at < oldest:
                    return None
            return None

        return await self._try(search)

    async def state(self, id: str) -> BatchState:
        """Retrieve the batch."""
        return _state(await self._retrieve(id))

    async def results(self, id: str) -> AsyncIterator[Result]:
        """Read the output file, then the error file."""
        batch = await self._retrieve(id)
        for file in (batch.output_file_id, batch.error_file_id):
            if file is not None:
                async for line in self._lines(file):
                    yield read_line(line, self._key)

    async def cancel(self, id: str) -> None:
        """Cancel; the provider's refusal to cancel what has ended is no error."""
        if (await self.state(id)).stage == "running":
            try:
                await self._try(lambda: self._client.batches.cancel(id))
            except ProviderError:
                if (await self.state(id)).stage == "running":
                    raise

    def read(self, answer: object, request: WireRequest) -> Reply:
        """Read a chat completion."""
        return read_reply(answer, request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _retrieve(self, id: str) -> Batch:
        return await self._try(lambda: self._client.batches.retrieve(id))

    async def _lines(self, file: str) -> AsyncIterator[str]:
        import httpx
        import openai

        try:
            async with self._client.files.with_streaming_response.content(file) as response:
                async for line in response.iter_lines():
                    if line.strip():
                        yield line
        except openai.OpenAIError as error:
            raise self._mapped(error) from None
        except httpx.HTTPError as error:
            # The SDK wraps what a request fails with, not what reading its answer does.
            said = scrub(str(error) or type(error).__name__, self._key)
            raise ConnectionFailed(f"The results of {self._client.base_url} broke off: {said}") from None

    async def _try(self, ask: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        import openai

        try:
            return await ask()
        except openai.OpenAIError as error:
            raise self._mapped(error) from None
        except ValueError:
            raise MalformedReply(f"The answer of {self._client.base_url} is no JSON or breaks off.") from None

    def _mapped(self, error: Exception) -> ProviderError:
        import openai

        said = scrub(str(error), self._key)
        if isinstance(error, openai.APITimeoutError) and not _broke_off(error):
            return CallTimeout(f"{self._client.base_url} did not answer within the time allowed.")
        if isinstance(error, openai.APIStatusError):
            return error_for_status(
                error.status_code,
                f"{self._client.base_url} answered {error.status_code}: {said}",
                code=error.code,
                retry_after=retry_after_seconds(error.response.headers),
            )
        if isinstance(error, openai.APIConnectionError):
            return ConnectionFailed(f"The connection to {self._client.base_url} failed: {said}")
        return MalformedReply(f"The answer of {self._client.base_url} cannot be read: {said}")


def _broke_off(error: BaseException) -> bool:
    """Tell whether a connection failed under an error; the SDK's aiohttp adapter calls that a timeout as well."""
    import aiohttp

    root: BaseException | None = error
    while root is not None:
        if isinstance(root, aiohttp.ClientError) and not isinstance(root, TimeoutError):
            return True
        root = root.__cause__ or root.__context__
    return False


def completion_line(id: str, body: dict[str, object]) -> Line:
    """Return a line of OpenAI's input file."""
    return Line(id, orjson.dumps({"custom_id": id, "method": "POST", "url": _PATH, "body": body}))


def read_line(line: str, key: str | None) -> Result:
    """Read a line of an output or error file; raises `MalformedReply` for what is none."""
    try:
        entry = orjson.loads(line)
        id, response, error = str(entry["custom_id"]), entry.get("response"), entry.get("error")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise MalformedReply("A line of a batch's results is no result.") from None
    if not isinstance(response, dict):
        code, said = _said(error)
        if code in _NOT_REACHED:
            return Result(id, Missing(said))
        return Result(id, error_for_status(500, scrub(said, key), code=code))
    status = response.get("status_code")
    body = response.get("body")
    if status == 200:
        return Result(id, body)
    code, said = _said(body.get("error") if isinstance(body, dict) else error)
    known = status if isinstance(status, int) and status >= 400 else 500
    return Result(id, error_for_status(known, scrub(said, key), code=code))


def _said(error: object) -> tuple[str | None, str]:
    if not isinstance(error, dict):
        return None, "The provider gave neither an answer nor a reason."
    code, said = error.get("code"), error.get("message")
    return code if isinstance(code, str) else None, said if isinstance(said, str) else str(code)


def _state(batch: Batch) -> BatchState:
    counts = batch.request_counts
    done, total = (counts.completed + counts.failed, counts.total) if counts else (0, 0)
    if batch.status == "failed":
        errors = (batch.errors.data if batch.errors else None) or []
        said = errors[0].message if errors and errors[0].message else "no reason was given"
        full = any(error.code in _FULL for error in errors)
        return BatchState(stage="full" if full else "refused", done=done, total=total, said=said)
    ended = batch.status in ("completed", "expired", "cancelled")
    return BatchState(stage="ended" if ended else "running", done=done, total=total)
