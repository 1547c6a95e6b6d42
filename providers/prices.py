"""Prices: litellm's offline table, read as a file without importing litellm; an unknown price is None, never zero."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from providers.base import Usage

__all__ = ["BatchPrice", "Listing", "Price", "cost", "known_providers", "listed"]

_TABLE = "model_prices_and_context_window_backup.json"
_MILLION = Decimal(1_000_000)
_MODES = frozenset({"chat", "completion", "embedding", "responses"})


class BatchPrice(BaseModel):
    """Dollars per million tokens of a provider's batch interface."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    prompt: Decimal = Field(ge=0)
    completion: Decimal = Field(ge=0)


class Price(BaseModel):
    """Dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    prompt: Decimal = Field(ge=0)
    completion: Decimal = Field(ge=0)
    cached_prompt: Decimal | None = Field(default=None, ge=0)
    """Prompt tokens that the provider had in its cache; None: they cost what the others cost."""
    batch: BatchPrice | None = None
    """What the provider's batch interface costs; None: it has none, or its price is unknown."""
    nominal: bool = False
    """A price in name only (the embedded models cost nothing): good for comparisons, paid to nobody."""


class Listing(NamedTuple):
    """What the table says of a model."""

    price: Price | None
    context: int | None
    """Tokens of prompt that fit."""
    max_output: int | None


def cost(usage: Usage, price: Price | None) -> Decimal | None:
    """Return the dollars of a usage, exactly; None where the price is unknown."""
    if price is None:
        return None
    cached = min(usage.cached_prompt_tokens, usage.prompt_tokens)
    cached_price = price.prompt if price.cached_prompt is None else price.cached_prompt
    total = (usage.prompt_tokens - cached) * price.prompt + cached * cached_price
    return (total + usage.completion_tokens * price.completion) / _MILLION


def listed(provider: str, model: str) -> Listing | None:
    """Look a model up under its provider; None where the table does not have it (or litellm is not installed)."""
    table = _table()
    entry = table.get(f"{provider}/{model}")
    if entry is None:
        entry = table.get(model)
        if entry is not None and not str(entry.get("litellm_provider", "")).startswith(provider):
            entry = None
    if entry is None or entry.get("mode") not in _MODES:
        return None
    return Listing(_price(entry), _whole(entry.get("max_input_tokens")), _whole(entry.get("max_output_tokens")))


@lru_cache(maxsize=1)
def known_providers() -> frozenset[str]:
    """Name the providers of the table."""
    names = {str(entry.get("litellm_provider", "")) for entry in _table().values()}
    return frozenset(
        name for name in names if name and " " not in name and not name.startswith(("vertex_ai-", "text-"))
    )


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Mapping[str, object]]:
    import orjson

    found = importlib.util.find_spec("litellm")
    if found is None or found.origin is None:
        return {}
    path = Path(found.origin).with_name(_TABLE)
    if not path.is_file():
        return {}
    table: dict[str, dict[str, object]] = orjson.loads(path.read_bytes())
    table.pop("sample_spec", None)
    return table


def _price(entry: Mapping[str, object]) -> Price | None:
    prompt, completion = _per_million(entry, "input_cost_per_token"), _per_million(entry, "output_cost_per_token")
    if prompt is None or completion is None:
        return None
    cached = _per_million(entry, "cache_read_input_token_cost")
    return Price(prompt=prompt, completion=completion, cached_prompt=cached, batch=_batch_price(entry))


def _batch_price(entry: Mapping[str, object]) -> BatchPrice | None:
    prompt = _per_million(entry, "input_cost_per_token_batches")
    completion = _per_million(entry, "output_cost_per_token_batches")
    return None if prompt is None or completion is None else BatchPrice(prompt=prompt, completion=completion)


def _per_million(entry: Mapping[str, object], name: str) -> Decimal | None:
    value = entry.get(name)
    if not isinstance(value, int | float):
        return None
    # The shortest text of the float is what the table's author wrote.
    return (Decimal(repr(value)) * _MILLION).normalize() + 0


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) else None
