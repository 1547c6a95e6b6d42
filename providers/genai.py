"""The words of OpenTelemetry's GenAI conventions for a call: what it was asked of, and what came back.

Names as in v1.41.0, the last release of the conventions; `providers.meters` knows what has been renamed since.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from providers.base import Completion, Message, Usage, WireRequest
from providers.models import ModelSpec
from providers.scrub import redact

__all__ = [
    "CAPTURE_VARIABLE",
    "Attributes",
    "captures_content",
    "input_messages",
    "operation",
    "output_messages",
    "provider_name",
    "request_attributes",
    "server",
    "usage_of",
]

Attributes: TypeAlias = Mapping[str, str | bool | int | float | Sequence[str]]

CAPTURE_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

_ON_SPANS = frozenset({"1", "true", "span_only", "span_and_event"})

_PROVIDERS: Mapping[str, str] = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""What litellm calls a provider, and the conventions otherwise."""


def operation(spec: ModelSpec) -> str:
    """Return `gen_ai.operation.name` of a request for answers."""
    return "text_completion" if spec.api == "completions" else "chat"


def provider_name(spec: ModelSpec) -> str:
    """Return `gen_ai.provider.name`; compatible servers count as `openai`, whose protocol they speak."""
    if spec.transport != "litellm":
        return spec.transport
    prefix, slash, _ = spec.model.partition("/")
    return _PROVIDERS.get(prefix, prefix) if slash else spec.transport


def server(spec: ModelSpec, address: str | None = None) -> Attributes:
    """Return `server.address` and `server.port` where they are known: the host alone, nothing else of the address."""
    address = address or spec.base_url or ("https://api.openai.com" if spec.transport == "openai" else "")
    if not address.startswith("http"):
        return {}
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"server.address": parts.hostname or "", "server.port": port}


def request_attributes(request: WireRequest) -> Attributes:
    """Return `gen_ai.request.*` of what a request says; what it leaves to the server is left out."""
    sampling = request.sampling
    said = {
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.seed": sampling.seed,
        "gen_ai.request.stop_sequences": sampling.stop or None,
        "gen_ai.request.choice.count": len(request.indices) if len(request.indices) != 1 else None,
        "colonnade.continue_final": request.continue_final or None,
    }
    return {name: value for name, value in said.items() if value is not None}


def usage_of(completions: Sequence[Completion]) -> Usage:
    """Add the usage of the completions of one request; estimated where any of them is."""
    usages = [completion.usage for completion in completions]
    return Usage(
        sum(usage.prompt_tokens for usage in usages),
        sum(usage.completion_tokens for usage in usages),
        sum(usage.cached_prompt_tokens for usage in usages),
        any(usage.estimated for usage in usages),
    )


def captures_content() -> bool:
    """Say whether prompts and answers are wanted on spans; they are not unless the user says so."""
    return os.environ.get(CAPTURE_VARIABLE, "").strip().lower() in _ON_SPANS


def input_messages(messages: Sequence[Message]) -> str:
    """Return `gen_ai.input.messages` as JSON, without keys."""
    return _json([{"role": message.role, "parts": _parts(message.content)} for message in messages])


def output_messages(completions: Sequence[Completion]) -> str:
    """Return `gen_ai.output.messages` as JSON, without keys."""
    return _json(
        [
            {"role": "assistant", "parts": _parts(completion.text), "finish_reason": completion.finish_reason}
            for completion in completions
        ]
    )


def _parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "content": redact(text)}]


def _json(value: object) -> str:
    # In ASCII, since a text that is no Unicode (a lone surrogate) would be refused by exporters.
    return json.dumps(value)
