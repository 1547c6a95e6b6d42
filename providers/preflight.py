"""A look at every endpoint before a run: is it there, is the key taken, is the model served."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from db.errors import ConfigError, did_you_mean
from providers.endpoints import Endpoint
from providers.errors import AuthError, CallTimeout, ConnectionFailed, ProviderError

__all__ = ["preflight"]

_PATIENCE_S = 10.0


async def preflight(endpoints: Sequence[Endpoint]) -> None:
    """Ask each endpoint for its models; raises `ConfigError` for the first that cannot be used.

    An endpoint that keeps no list of models is taken at its word.
    """
    for sentence in [s for s in await _all(endpoints) if s is not None]:
        raise ConfigError(sentence)


async def _all(endpoints: Sequence[Endpoint]) -> list[str | None]:
    async with asyncio.TaskGroup() as tasks:
        looks = [tasks.create_task(_look(endpoint)) for endpoint in endpoints]
    return [look.result() for look in looks]


async def _look(endpoint: Endpoint) -> str | None:
    spec = endpoint.spec
    if not spec.hosted:
        return None
    where = spec.base_url or "the provider's address"
    try:
        async with asyncio.timeout(_PATIENCE_S):
            served = await endpoint.transport.list_models()
    except (ConnectionFailed, CallTimeout, TimeoutError):
        return (
            f"The endpoint of the model '{spec.name}' ({where}) cannot be reached; start the server there, or give "
            f"another base_url in models.yaml{' or in VLLM_BASE_URL' if spec.name.startswith('vllm/') else ''}."
        )
    except AuthError:
        if spec.api_key_env is None:
            return f"The endpoint of the model '{spec.name}' ({where}) wants a key; name its variable as api_key_env."
        return f"The key in {spec.api_key_env} was refused by the endpoint of the model '{spec.name}' ({where})."
    except ProviderError:
        return None
    if served and spec.model not in served:
        return (
            f"The endpoint of the model '{spec.name}' ({where}) does not serve '{spec.model}'."
            f"{did_you_mean(spec.model, served)}"
        )
    return None
