"""Transports by name: those that ship, and those that installed packages register.

A package registers one under the entry-point group `colonnade.transports`: a callable that takes a `ModelSpec` and the
key (or None) and returns a `Transport`. `providers.testing` holds the contract that it has to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from db.errors import ConfigError, did_you_mean
from providers.base import Transport
from providers.models import ModelSpec

__all__ = ["GROUP", "TransportFactory", "make_transport", "require_transport", "transport_names"]

GROUP = "colonnade.transports"

TransportFactory = Callable[[ModelSpec, str | None], Transport]


def _openai(spec: ModelSpec, api_key: str | None) -> Transport:
    from providers.openai_transport import OpenAITransport

    return OpenAITransport(
        spec.base_url,
        api_key,
        connections=2 * spec.limits.in_flight + 8,
        extra_body=spec.extra_body,
        api=spec.api,
    )


def _litellm(spec: ModelSpec, api_key: str | None) -> Transport:
    from providers.litellm_transport import LiteLLMTransport

    return LiteLLMTransport(spec.base_url, api_key, extra_body=spec.extra_body)


def _embedded(spec: ModelSpec, api_key: str | None) -> Transport:
    from providers.embedded import EmbeddedTransport

    return EmbeddedTransport(spec.model)


def _replay(spec: ModelSpec, api_key: str | None) -> Transport:
    from providers.replay import ReplayTransport

    if spec.replay is None:
        raise ConfigError(f"The model '{spec.name}' replays nothing; give it a 'replay' section.")
    return ReplayTransport(spec.replay)


_BUILT_IN: Mapping[str, TransportFactory] = {
    "embedded": _embedded,
    "litellm": _litellm,
    "openai": _openai,
    "replay": _replay,
}


def transport_names() -> tuple[str, ...]:
    """Name all transports."""
    return tuple(sorted({*_BUILT_IN, *_installed()}))


def make_transport(spec: ModelSpec, api_key: str | None) -> Transport:
    """Make the transport of a model; raises `ConfigError` for a name that nobody registered."""
    require_transport(spec)
    factory = _BUILT_IN.get(spec.transport) or cast("TransportFactory", _installed()[spec.transport].load())
    return factory(spec, api_key)


def require_transport(spec: ModelSpec) -> None:
    """Raise `ConfigError` where a model names a transport that nobody registered."""
    if spec.transport not in _BUILT_IN and spec.transport not in _installed():
        near = did_you_mean(spec.transport, transport_names())
        raise ConfigError(f"The model '{spec.name}' names an unknown transport '{spec.transport}'.{near}")


@lru_cache(maxsize=1)
def _installed() -> Mapping[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
