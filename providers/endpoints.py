"""Endpoints: a resolved model with its transport, limiter and retries, made once and kept while the gateway lives."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import orjson

from db.errors import ConfigError
from providers.base import Sampling, Transport
from providers.book import ModelBook
from providers.limits import Limiter
from providers.models import Feature, ModelSpec
from providers.registry import make_transport
from providers.retry import RetryPolicy

__all__ = ["Endpoint", "Endpoints"]

_SHARED = frozenset({"litellm", "openai", "replay"})
"""Transports that serve any model of their address; the others are made one per model."""


@dataclass(slots=True, kw_only=True)
class Endpoint:
    """Where the calls of one alias go."""

    spec: ModelSpec
    transport: Transport
    limiter: Limiter
    retry: RetryPolicy
    identity: str
    extra: bytes
    """Canonical JSON of `extra_body`, which enters the key."""
    many: bool
    """Whether one request may ask for several samples; taken back where the server gives one whatever is asked."""
    many_proven: bool = False

    def sampling(self, asked: Sampling) -> Sampling:
        """Fill in the model's defaults; raises `ConfigError` for what the endpoint cannot do."""
        defaults = self.spec.defaults
        drawn = Sampling(
            temperature=defaults.temperature if asked.temperature is None else asked.temperature,
            top_p=defaults.top_p if asked.top_p is None else asked.top_p,
            max_tokens=defaults.max_tokens if asked.max_tokens is None else asked.max_tokens,
            stop=asked.stop or defaults.stop,
            seed=defaults.seed if asked.seed is None else asked.seed,
            top_logprobs=asked.top_logprobs,
        )
        if drawn.top_logprobs is not None:
            self.require("logprobs")
            if drawn.top_logprobs:
                self.require("top_logprobs")
        if drawn.stop:
            self.require("stop")
        return drawn

    def require(self, feature: Feature) -> None:
        """Raise `ConfigError` where the endpoint lacks a feature."""
        if not self.spec.capabilities.has(feature):
            raise ConfigError(
                f"The model '{self.spec.name}' cannot do '{feature}', which this request needs; choose another model, "
                f"or set capabilities.{feature}: true in models.yaml if the endpoint can."
            )


class Endpoints:
    """All endpoints of a gateway, by alias; aliases of one address share connections and the limit in flight."""

    def __init__(self, book: ModelBook) -> None:
        self._book = book
        self._by_alias: dict[str, Endpoint] = {}
        self._transports: dict[Hashable, tuple[Transport, Limiter]] = {}

    def of(self, alias: str) -> Endpoint:
        """Return the endpoint of a model; raises `ConfigError` for an unknown model or a missing key."""
        endpoint = self._by_alias.get(alias)
        if endpoint is None:
            endpoint = self._make(self._book.resolve(alias))
            self._by_alias[alias] = endpoint
        return endpoint

    def spec(self, alias: str) -> ModelSpec:
        """Return what is known of a model, without a transport or a key."""
        return self._book.resolve(alias)

    @property
    def in_flight(self) -> int:
        """Requests that are out now."""
        return sum(limiter.in_flight for _, limiter in self._transports.values())

    async def aclose(self) -> None:
        """Close all transports, each of them even if another fails to."""
        transports, self._transports = self._transports, {}
        self._by_alias = {}
        errors: list[Exception] = []
        for transport, _ in transports.values():
            try:
                await transport.aclose()
            except Exception as error:  # noqa: BLE001 - raised below, once all are closed
                errors.append(error)
        if errors:
            raise ExceptionGroup("transports failed to close", errors)

    def _make(self, spec: ModelSpec) -> Endpoint:
        extra = orjson.dumps(spec.extra_body, option=orjson.OPT_SORT_KEYS) if spec.extra_body else b""
        place = (
            spec.transport,
            spec.base_url,
            spec.api_key_env,
            extra,
            spec.replay,
            None if spec.transport in _SHARED else spec.model,
        )
        known = self._transports.get(place)
        if known is None:
            known = (make_transport(spec, self._book.api_key(spec)), Limiter(spec.limits.in_flight))
            self._transports[place] = known
        limits = spec.limits
        return Endpoint(
            spec=spec,
            transport=known[0],
            limiter=known[1],
            retry=RetryPolicy(retries=limits.retries, patience_s=limits.patience_s),
            identity=spec.identity or _weights(spec),
            extra=extra,
            many=spec.capabilities.n,
        )


def _weights(spec: ModelSpec) -> str:
    if spec.transport == "embedded":
        from providers.embedded import identity

        return identity(spec.model)
    return f"{spec.transport}/{spec.model}"
