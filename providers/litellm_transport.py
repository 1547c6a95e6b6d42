"""All other hosted providers, through litellm: imported at first use, silent, without its callbacks and retries."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from providers.base import Message, Reply, WireRequest
from providers.errors import (
    CallTimeout,
    ConnectionFailed,
    ContentFiltered,
    ContextLengthExceeded,
    MalformedReply,
    ProviderError,
)
from providers.scrub import scrub
from providers.wire import error_for_status, read_reply, request_body, retry_after_seconds

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["LiteLLMTransport"]


class LiteLLMTransport:
    """One key and address; the model's name carries litellm's provider (`anthropic/…`)."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        extra_body: Mapping[str, object] | None = None,
    ) -> None:
        self._url = base_url
        self._key = api_key
        self._extra = dict(extra_body or {})
        self._litellm: ModuleType | None = None

    async def complete(self, request: WireRequest) -> Reply:
        """Answer one request; a parameter that the provider does not know is a `BadRequest`, never dropped."""
        litellm = self._litellm or await self._load()
        body = request_body(request)
        extra = {**self._extra, **_taken(body, "continue_final_message", "add_generation_prompt")}
        if extra:
            body["extra_body"] = extra
        response = await self._called(litellm, litellm.acompletion, body, request)
        return read_reply(response.model_dump(), request)

    async def embed(self, request: WireRequest) -> object:
        """Ask for the vectors of texts; see `providers.embedding`."""
        litellm = self._litellm or await self._load()
        body: dict[str, object] = {"model": request.model, "input": [one.content for one in request.messages]}
        if self._extra:
            body["extra_body"] = self._extra
        response = await self._called(litellm, litellm.aembedding, body, request)
        return response.model_dump()

    async def _called(
        self,
        litellm: ModuleType,
        function: Callable[..., Awaitable[BaseModel]],
        body: dict[str, object],
        request: WireRequest,
    ) -> BaseModel:
        try:
            return await function(
                **body,
                api_base=self._url,
                api_key=self._key,
                timeout=request.timeout_s,
                num_retries=0,
                max_retries=0,
            )
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - litellm's errors share no base class; all are mapped or raised
            raise self._mapped(litellm, error, request) from None

    async def list_models(self) -> tuple[str, ...]:
        """Name nothing: most of these providers keep no list that litellm could ask for."""
        return ()

    def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Return None: litellm's counts are estimates."""
        return None

    async def aclose(self) -> None:
        """Close litellm's connections, which it keeps for the process."""
        if self._litellm is not None:
            await self._litellm.close_litellm_async_clients()

    async def _load(self) -> ModuleType:
        self._litellm = await asyncio.to_thread(_import)
        return self._litellm

    def _mapped(self, litellm: ModuleType, error: Exception, request: WireRequest) -> ProviderError:
        import openai

        message = f"{request.model}: {scrub(str(error), self._key)}"
        errors = litellm.exceptions
        if isinstance(error, errors.ContextWindowExceededError):
            return ContextLengthExceeded(message)
        if isinstance(error, errors.ContentPolicyViolationError):
            return ContentFiltered(message)
        if isinstance(error, errors.Timeout | openai.APITimeoutError | TimeoutError):
            return CallTimeout(message)
        status = getattr(error, "status_code", None)
        if isinstance(error, errors.APIConnectionError | openai.APIConnectionError) or status is None:
            return ConnectionFailed(message)
        if int(status) < 400:
            return MalformedReply(message)
        response = getattr(error, "response", None)
        wait = retry_after_seconds(response.headers) if response is not None else None
        return error_for_status(int(status), message, retry_after=wait)


def _taken(body: dict[str, object], *names: str) -> dict[str, object]:
    return {name: body.pop(name) for name in names if name in body}


def _import() -> ModuleType:
    # Without this litellm fetches its price table from the network while it is imported.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = importlib.import_module("litellm")
    settings = {"telemetry": False, "suppress_debug_info": True, "drop_params": False}
    for name, value in settings.items():
        setattr(litellm, name, value)
    for name in ("callbacks", "success_callback", "failure_callback", "input_callback", "_async_success_callback"):
        setattr(litellm, name, [])
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    return litellm
