"""From a model to its batch API."""

from __future__ import annotations

from pathlib import Path

from db.database import Database
from providers.batching.base import BatchApi
from providers.models import BatchSettings, ModelSpec

__all__ = ["folder_of", "make_api", "place_of"]


def make_api(spec: ModelSpec, settings: BatchSettings, api_key: str | None, folder: Path) -> BatchApi:
    """Make the client of a model's batch API; `folder` is where files lie that stay on this machine."""
    url, extra = _url(spec, settings), spec.extra_body
    if settings.api == "anthropic":
        from providers.batching.anthropic_api import AnthropicBatches

        return AnthropicBatches(url, api_key, extra_body=extra, create_s=settings.create_s)
    if settings.api == "vllm":
        from providers.batching.vllm_api import VLLMBatches

        return VLLMBatches(settings.command, spec.model, folder, extra_body=extra)
    from providers.batching.openai_api import OpenAIBatches

    return OpenAIBatches(url, api_key, extra_body=extra, window_h=settings.window_h, create_s=settings.create_s)


def place_of(spec: ModelSpec, settings: BatchSettings, key_label: str) -> str:
    """Name the batch API, the account and the model, which is what a batch belongs to."""
    at = " ".join(settings.command) if settings.api == "vllm" else _url(spec, settings) or ""
    return f"{settings.api} {at} {key_label} {spec.model}"


def folder_of(database: Database) -> Path:
    """Return the folder for files of batches: beside an SQLite file, else in the working directory."""
    if database.dialect == "sqlite":
        return Path(str(database.engine.url.database)).absolute().parent / "batches"
    return Path(".colonnade/batches").absolute()


def _url(spec: ModelSpec, settings: BatchSettings) -> str | None:
    return settings.base_url or spec.replicas()[0].base_url
