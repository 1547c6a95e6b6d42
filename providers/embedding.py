"""Vectors of texts, by the one interface that OpenAI, vLLM, Ollama, TEI and llama.cpp share: `/v1/embeddings`.

    Gateway.embed(EmbedRequest(model="m", texts=("one", "two")), scope=…, node=…) -> Embedded

Each text has a key of its own, under which its vector is kept, paid and counted as a sample is: its completion's text
is the vector, float32 in base64. Texts that are missing go out together.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from db.errors import ConfigError
from providers.base import Completion, Reply, Sample, Transport, Usage, WireRequest
from providers.errors import MalformedReply
from providers.wire import estimate_tokens, read_count, shared

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["EmbedRequest", "Embedded", "Embedder", "as_embedded", "no_embeddings", "vectors"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedRequest:
    """Texts whose vectors are wanted of a model."""

    model: str
    """An alias of `models.yaml` or `provider/name`."""
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedded:
    """Vectors of texts, with what they took."""

    vectors: npt.NDArray[np.float32]
    """(n, d): row i belongs to text i, of the length that the model gave it."""
    samples: tuple[Sample, ...]
    """What was stored for each text; equal texts share one."""

    @property
    def cost(self) -> Decimal | None:
        """Dollars that they cost when they were paid, each text once; None where the price is unknown."""
        costs = {sample.key: sample.cost for sample in self.samples}.values()
        known = [cost for cost in costs if cost is not None]
        return sum(known, Decimal(0)) if len(known) == len(costs) else None


@runtime_checkable
class Embedder(Protocol):
    """A transport whose server gives vectors."""

    async def embed(self, request: WireRequest) -> object:
        """Return the server's answer on the contents of the messages, in OpenAI's form (`data`, `usage`).

        Raises `ConfigError` where the server has no embeddings, and `ProviderError`s.
        """
        ...


def no_embeddings(model: str, reason: str = "") -> ConfigError:
    """Return the error of an endpoint that gives no vectors."""
    because = f" ({reason})" if reason else ""
    return ConfigError(
        f"The endpoint of '{model}' gives no embeddings{because}; name an embedding model that is reached by "
        f"'transport: openai' or 'transport: litellm'."
    )


async def vectors(transport: Transport, request: WireRequest) -> Reply:
    """Ask for a vector of each message's content; they come as completions, in the order of the messages.

    Raises `ConfigError` where the endpoint gives none, and the transports' `ProviderError`s.
    """
    if not isinstance(transport, Embedder):
        raise no_embeddings(request.model)
    data = await transport.embed(request)
    texts = [message.content for message in request.messages]
    if not isinstance(data, dict) or not isinstance(data.get("data"), list):
        raise MalformedReply("The server's answer holds no embeddings.")
    encoded = _in_order(data["data"], len(texts))
    completions = tuple(
        Completion(text=vector, finish_reason="stop", usage=usage)
        for vector, usage in zip(encoded, _usages(data.get("usage"), texts), strict=True)
    )
    served = data.get("model")
    return Reply(completions=completions, served_model=served if isinstance(served, str) else None)


def as_embedded(samples: Sequence[Sample]) -> Embedded:
    """Return the vectors that samples hold; raises `MalformedReply` where they are not of one length."""
    import numpy as np

    rows = [np.frombuffer(base64.b64decode(sample.completion.text), dtype="<f4") for sample in samples]
    if len({len(row) for row in rows}) > 1:
        raise MalformedReply("The vectors of one model differ in length.")
    table = np.stack(rows).astype(np.float32) if rows else np.zeros((0, 0), np.float32)
    return Embedded(vectors=table, samples=tuple(samples))


def _in_order(entries: Sequence[object], n: int) -> list[str]:
    """Return the vectors by their index, encoded as they are stored."""
    found: dict[int, str] = {}
    for place, entry in enumerate(entries):
        index = entry.get("index", place) if isinstance(entry, dict) else None
        if not isinstance(index, int) or not isinstance(entry, dict):
            raise MalformedReply("An embedding of the server's answer cannot be read.")
        found[index] = _encoded(entry.get("embedding"))
    if sorted(found) != list(range(n)):
        raise MalformedReply(f"The server's answer holds {len(found)} embeddings for {n} texts.")
    return [found[index] for index in range(n)]


def _encoded(vector: object) -> str:
    """Write a vector as float32 in base64, which is also what some servers send."""
    import numpy as np

    try:
        if isinstance(vector, str):
            row = np.frombuffer(base64.b64decode(vector, validate=True), dtype="<f4")
        else:
            row = np.asarray(vector, dtype="<f4")
    except (binascii.Error, TypeError, ValueError):
        raise MalformedReply("An embedding of the server's answer is no vector of numbers.") from None
    if row.ndim != 1 or not row.size or not np.isfinite(row).all():
        raise MalformedReply("An embedding of the server's answer is no vector of numbers.")
    return base64.b64encode(row.tobytes()).decode()


def _usages(usage: object, texts: Sequence[str]) -> list[Usage]:
    """Divide the tokens of a request among its texts, by their length."""
    weights = [estimate_tokens(text) for text in texts]
    total = read_count(usage, "prompt_tokens")
    shares = weights if total is None else shared(total, weights)
    return [Usage(share, 0, 0, total is None) for share in shares]
