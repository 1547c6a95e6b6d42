"""A look at every endpoint before a run: is it there, is the key taken, is the model served."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from db.errors import ConfigError, did_you_mean
from providers.base import Transport
from providers.endpoints import Endpoint
from providers.errors import AuthError, CallTimeout, ConnectionFailed, ProviderError
from providers.models import ModelSpec

__all__ = ["Wrong", "look", "preflight"]

_PATIENCE_S = 10.0


class Wrong(NamedTuple):
    """What keeps an endpoint from being used."""

    sentence: str
    gone: bool
    """It cannot be reached, which siblings can make up for; what is wrong otherwise, they cannot."""


async def preflight(endpoints: Sequence[Endpoint]) -> None:
    """Ask each endpoint for its models; raises `ConfigError` for the first that cannot be used.

    An endpoint that keeps no list of models is taken at its word. Of several endpoints of a model one must be there;
    the others are taken in when they answer.
    """
    for sentence in [s for s in await _all(endpoints) if s is not None]:
        raise ConfigError(sentence)


async def _all(endpoints: Sequence[Endpoint]) -> list[str | None]:
    async with asyncio.TaskGroup() as tasks:
        looks = [tasks.create_task(_look_at_all(endpoint)) for endpoint in endpoints]
    return [look.result() for look in looks]


async def _look_at_all(endpoint: Endpoint) -> str | None:
    if not endpoint.spec.hosted:
        return None
    replicas = endpoint.pool.replicas
    async with asyncio.TaskGroup() as tasks:
        looks = [
            tasks.create_task(look(spec, replica.transport))
            for spec, replica in zip(endpoint.spec.replicas(), replicas, strict=True)
        ]
    findings = [finding for done in looks if (finding := done.result()) is not None]
    wrong = [finding for finding in findings if not finding.gone]
    if wrong or len(findings) == len(replicas):
        return (wrong or findings)[0].sentence
    for done, replica in zip(looks, replicas, strict=True):
        if done.result() is not None:
            replica.found_gone()
    return None


async def look(spec: ModelSpec, transport: Transport) -> Wrong | None:
    """Ask one endpoint of a model for its models; None where nothing is wrong."""
    where = spec.base_url or "the provider's address"
    endpoint = f"endpoint of the model '{spec.name}' ({where})"
    try:
        async with asyncio.timeout(_PATIENCE_S):
            served = await transport.list_models()
    except (ConnectionFailed, CallTimeout, TimeoutError):
        return Wrong(
            f"The {endpoint} cannot be reached; start the server there, or give "
            f"another base_url in models.yaml{' or in VLLM_BASE_URL' if spec.name.startswith('vllm/') else ''}.",
            gone=True,
        )
    except AuthError:
        if spec.api_key_env is None:
            sentence = f"The {endpoint} wants a key; name its variable as api_key_env."
        else:
            sentence = f"The key in {spec.api_key_env} was refused by the {endpoint}."
        return Wrong(sentence, gone=False)
    except ProviderError:
        return None
    if served and spec.model not in served:
        near = did_you_mean(spec.model, served)
        return Wrong(f"The {endpoint} does not serve '{spec.model}'.{near}", gone=False)
    return None
