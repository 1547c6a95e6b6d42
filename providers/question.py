"""A request on its way to a model: its endpoint and defaults applied, hashed, with what is asked of a transport."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from db.errors import ConfigError
from providers.base import Message, Progress, Reply, Request, Sampling, Transport, Usage, WireRequest
from providers.caps import Charge
from providers.embedding import vectors
from providers.endpoints import Endpoint
from providers.keys import RequestDigest, digest_request, sample_seed
from providers.scoring import SCORED, ScoreKind, ScoreRequest, measure

if TYPE_CHECKING:
    from providers.codec import Stored
    from providers.scope import Scope

__all__ = ["Bill", "EmbedQuestion", "Question", "Race", "answer_question", "embed_question", "score_question"]


class Bill(NamedTuple):
    """What was billed for a sample that nobody will use."""

    usage: Usage
    cost: Decimal | None
    """Dollars; None where the price is unknown."""


@dataclass(slots=True, kw_only=True)
class Race:
    """What one caller who may be cancelled has paid so far."""

    cut: list[Bill] = field(default_factory=list)
    """For samples that were stopped on their way."""
    bought: list[Stored] = field(default_factory=list)
    """Samples that came; where the caller is gone by then they have been stored, and are nobody's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request with its endpoint and its defaults applied, hashed."""

    endpoint: Endpoint
    messages: tuple[Message, ...]
    sampling: Sampling
    continue_final: bool
    digest: RequestDigest
    affinity: str = ""
    """Calls of one affinity share prompts, so they go to one replica where that is not busy; the item's id."""
    score: ScoreKind | None = None
    """A score of the messages is wanted, not an answer to them."""
    charge: Charge
    """Whose call it is, for the accounts of the budget."""
    node: str = ""
    """The node that asks."""
    race: Race | None = None
    """Whoever asks may be cancelled, and then pays for what had come."""

    @property
    def operation(self) -> str | None:
        """The name of what is asked for in the spans of telemetry; None: an answer."""
        return None if self.score is None else "score"

    @property
    def longest(self) -> int | None:
        """Tokens that one answer can have at most; None where nothing bounds it."""
        spec = self.endpoint.spec
        return self.sampling.max_tokens or spec.max_output or spec.context

    async def put(self, transport: Transport, wire: WireRequest) -> Reply:
        """Ask it of a transport."""
        if self.score is None:
            return await transport.complete(wire)
        return await measure(transport, wire, self.score, api=self.endpoint.spec.api)

    def wire(self, indices: tuple[int, ...], keys: tuple[str, ...]) -> WireRequest:
        """Write the request for some samples."""
        return WireRequest(
            model=self.endpoint.spec.model,
            messages=self.prompt(indices),
            sampling=self.sampling,
            indices=indices,
            seeds=tuple(sample_seed(key) for key in keys),
            continue_final=self.continue_final,
            timeout_s=self.endpoint.spec.limits.timeout_s,
            progress=None if self.race is None else Progress(),
        )

    def prompt(self, indices: Sequence[int]) -> tuple[Message, ...]:
        """Return the messages that the samples of these indices take to the model."""
        return self.messages

    def number(self, index: int) -> int:
        """Return the number under which a sample is stored."""
        return index

    def payload(self, index: int) -> bytes:
        """Return the request with which a sample is stored."""
        return self.digest.payload

    def groups(self, indices: Sequence[int]) -> list[list[int]]:
        """Divide indices into requests: one with n = k where the endpoint can, else one each.

        With a seed only neighbours go together, since a server draws the samples of one request from seed, seed + 1, …
        Samples that may be cancelled go alone.
        """
        if not self.endpoint.many or self.race is not None:
            return [[index] for index in indices]
        groups: list[list[int]] = []
        for index in indices:
            near = groups and (self.sampling.seed is None or index == groups[-1][-1] + 1)
            if near and len(groups[-1]) < self.endpoint.spec.limits.max_n:
                groups[-1].append(index)
            else:
                groups.append([index])
        return groups

    def learn(self, *, asked: int, came: int) -> None:
        """Stop asking for several at once where a server has only ever given one (Ollama overlooks `n`)."""
        endpoint = self.endpoint
        if asked > 1 and came >= asked:
            endpoint.many_proven = True
        elif asked > 1 and came == 1 and not endpoint.many_proven:
            endpoint.many = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedQuestion(Question):
    """Texts whose vectors are wanted: message i is text i, its digest the i-th, and it is its only sample."""

    digests: tuple[RequestDigest, ...]

    @property
    def operation(self) -> str | None:
        """The conventions' name for it."""
        return "embeddings"

    @property
    def longest(self) -> int | None:
        """Return 0: no tokens are generated."""
        return 0

    async def put(self, transport: Transport, wire: WireRequest) -> Reply:
        """Ask for the vectors of the request's messages."""
        return await vectors(transport, wire)

    def prompt(self, indices: Sequence[int]) -> tuple[Message, ...]:
        """Return the texts."""
        return tuple(self.messages[index] for index in indices)

    def number(self, index: int) -> int:
        """Return 0: a text has one vector."""
        return 0

    def payload(self, index: int) -> bytes:
        """Return the text's own request."""
        return self.digests[index].payload

    def groups(self, indices: Sequence[int]) -> list[list[int]]:
        """Divide texts into requests of a bounded number."""
        return [list(indices[start : start + _TEXTS]) for start in range(0, len(indices), _TEXTS)]

    def learn(self, *, asked: int, came: int) -> None:
        """Learn nothing: how many answers a request may ask for is another matter."""


_TEXTS = 256
"""Texts in one request; the providers' own limits are above it."""


def answer_question(endpoint: Endpoint, request: Request, scope: Scope, node: str, race: Race | None) -> Question:
    """Return the question of a request for answers; raises `ConfigError` for what the endpoint cannot do."""
    _require_answers(endpoint)
    sampling = endpoint.sampling(request.sampling)
    if request.continue_final:
        endpoint.require("prefix_continuation")
    digest = digest_request(
        identity=endpoint.identity,
        messages=request.messages,
        sampling=sampling,
        continue_final=request.continue_final,
        fresh=scope.fresh,
        extra=endpoint.extra,
    )
    if sampling.seed is not None and not endpoint.spec.capabilities.seed:
        # It stays in the key, so that seeds keep their samples apart, but an endpoint without seeds is not sent it.
        sampling = replace(sampling, seed=None)
    return Question(
        endpoint=endpoint,
        messages=request.messages,
        sampling=sampling,
        continue_final=request.continue_final,
        digest=digest,
        affinity=scope.item_id,
        charge=Charge(scope.run_id, endpoint.key_label),
        node=node,
        race=race,
    )


def score_question(endpoint: Endpoint, request: ScoreRequest, scope: Scope, node: str) -> Question:
    """Return the question of a request for a score."""
    digest = digest_request(
        identity=endpoint.identity,
        messages=request.messages,
        sampling=SCORED,
        fresh=scope.fresh,
        extra=endpoint.extra,
        score=request.kind,
    )
    return Question(
        endpoint=endpoint,
        messages=request.messages,
        sampling=SCORED,
        continue_final=False,
        digest=digest,
        affinity=scope.item_id,
        charge=Charge(scope.run_id, endpoint.key_label),
        node=node,
        score=request.kind,
    )


def embed_question(endpoint: Endpoint, texts: Sequence[str], scope: Scope, node: str) -> EmbedQuestion:
    """Return the question of texts whose vectors are wanted, no two of them equal.

    A vector depends on the text alone, so `fresh` names no sequence of its own here.
    """
    messages = tuple(Message("user", text) for text in texts)
    digests = tuple(
        digest_request(
            identity=endpoint.identity,
            messages=(message,),
            sampling=Sampling(),
            extra=endpoint.extra,
            score="embedding",
        )
        for message in messages
    )
    return EmbedQuestion(
        endpoint=endpoint,
        messages=messages,
        sampling=Sampling(),
        continue_final=False,
        digest=digests[0],
        digests=digests,
        affinity=scope.item_id,
        charge=Charge(scope.run_id, endpoint.key_label),
        node=node,
    )


def _require_answers(endpoint: Endpoint) -> None:
    if endpoint.spec.api == "embeddings":
        raise ConfigError(
            f"The model '{endpoint.spec.name}' gives embeddings (api: embeddings) and no answers; choose another model."
        )
