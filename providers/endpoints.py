"""Endpoints: a resolved model with its replicas and retries, made once and kept while the gateway lives."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from db.errors import ConfigError
from providers.base import Sampling, Transport
from providers.book import ModelBook
from providers.caps import key_label
from providers.limiters import limiter_for, rates_of
from providers.models import Feature, ModelSpec
from providers.registry import make_transport
from providers.rent import Rent
from providers.replicas import Replica, ReplicaPool, ReplicaStatus
from providers.retry import RetryPolicy

if TYPE_CHECKING:
    from providers.redis_link import RedisLink

__all__ = ["Endpoint", "Endpoints"]

_SHARED = frozenset({"litellm", "openai", "replay"})
"""Transports that serve any model of their address; the others are made one per model."""


@dataclass(slots=True, kw_only=True)
class Endpoint:
    """Where the calls of one alias go."""

    spec: ModelSpec
    pool: ReplicaPool
    retry: RetryPolicy
    identity: str
    extra: bytes
    """Canonical JSON of `extra_body`, which enters the key."""
    many: bool
    """Whether one request may ask for several samples; taken back where the server gives one whatever is asked."""
    many_proven: bool = False
    key_label: str = ""
    """What stands for the API key, in the names of accounts; empty where there is none."""

    @property
    def transport(self) -> Transport:
        """The transport of the first replica, for what all of them do alike."""
        return self.pool.replicas[0].transport

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
    """All endpoints of a gateway, by alias; aliases of one address share its replica, those of one model its limits."""

    def __init__(self, book: ModelBook, link: RedisLink | None = None) -> None:
        self._book = book
        self._link = link
        self._by_alias: dict[str, Endpoint] = {}
        self._replicas: dict[Hashable, Replica] = {}

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
        return sum(limiter.in_flight for replica in self._replicas.values() for limiter in replica.limiters.values())

    def status(self) -> tuple[ReplicaStatus, ...]:
        """Return a snapshot of every replica that was used."""
        return tuple(replica.status() for replica in self._replicas.values())

    async def aclose(self) -> None:
        """Close all transports, each of them even if another fails to."""
        replicas, self._replicas = self._replicas, {}
        self._by_alias = {}
        errors: list[Exception] = []
        for replica in replicas.values():
            try:
                await replica.aclose()
            except Exception as error:  # noqa: BLE001 - raised below, once all are closed
                errors.append(error)
        if errors:
            raise ExceptionGroup("transports failed to close", errors)

    def _make(self, spec: ModelSpec) -> Endpoint:
        limits = spec.limits
        extra = orjson.dumps(spec.extra_body, option=orjson.OPT_SORT_KEYS) if spec.extra_body else b""
        replicas = [self._replica(one, extra) for one in spec.replicas()]
        return Endpoint(
            spec=spec,
            pool=ReplicaPool(replicas, routing=spec.routing),
            retry=RetryPolicy(retries=limits.retries, patience_s=limits.patience_s),
            identity=spec.identity or _weights(spec),
            extra=extra,
            many=spec.capabilities.n,
            key_label=self._label(spec),
        )

    def _replica(self, spec: ModelSpec, extra: bytes) -> Replica:
        place = (
            spec.transport,
            spec.base_url,
            spec.api_key_env,
            extra,
            spec.replay,
            None if spec.transport in _SHARED else spec.model,
        )
        known = self._replicas.get(place)
        limiter = known.limiters.get(spec.model) if known is not None else None
        if limiter is not None:
            limiter.confine(spec.limits.in_flight, rates_of(spec))
        else:
            limiter = limiter_for(spec, self._link, self._label(spec))
        if known is None:
            known = self._replicas[place] = Replica(
                spec.base_url or spec.name,
                make_transport(spec, self._book.api_key(spec)),
                limiter,
                rent=Rent(spec.usd_per_hour) if spec.usd_per_hour else None,
            )
        known.limiters[spec.model] = limiter
        return known

    def _label(self, spec: ModelSpec) -> str:
        return key_label(spec.api_key_env, self._book.api_key(spec) or "") if spec.api_key_env else ""


def _weights(spec: ModelSpec) -> str:
    if spec.transport == "embedded":
        from providers.embedded import identity

        return identity(spec.model)
    return f"{spec.transport}/{spec.model}"
