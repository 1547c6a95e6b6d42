"""What is known of a model before it is asked: where it lives, what it costs, what it can do."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from providers.base import Usage
from providers.prices import Price, cost

__all__ = [
    "Address",
    "Api",
    "BatchApiName",
    "BatchSettings",
    "Capabilities",
    "Defaults",
    "Feature",
    "Limits",
    "ModelSpec",
    "ReplaySource",
    "Routing",
]

Feature = Literal["logit_bias", "logprobs", "n", "prefix_continuation", "seed", "stop", "top_logprobs", "usage"]
Api = Literal["chat", "completions", "embeddings"]
"""`completions`: a base model without a chat template is given the contents of the messages, one after the other.
`embeddings`: it gives vectors of texts and no answers."""
BatchApiName = Literal["anthropic", "openai", "vllm"]
Routing = Literal["affinity", "round-robin"]
"""How calls are spread over the endpoints of one model; see `providers.replicas`."""

_BATCH_SHARE = Decimal("0.5")
"""What a call in a batch costs with most providers, as a share of its price."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _variable_name(value: str | None) -> str | None:
    if value is not None and not _VARIABLE.match(value):
        raise ValueError("must be the name of an environment variable, not a key")
    return value


def _plain_url(value: str | None) -> str | None:
    if value is None:
        return None
    if not value.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    if "@" in value.split("/", 3)[2]:
        raise ValueError("must hold no user name or password; use api_key_env")
    return value.rstrip("/")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), defer_build=True)


class Limits(_Frozen):
    """How hard an endpoint may be driven."""

    in_flight: int = Field(default=64, ge=1)
    """Requests at once, at most; fewer after the endpoint said that it were too many."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """None: as many as it takes."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Of prompts and answers together; None: as many as it takes."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Seconds for one attempt, from the first byte sent to the last one read."""
    retries: int = Field(default=5, ge=0)
    """Further attempts after a failure that can pass."""
    patience_s: float = Field(default=300.0, ge=0)
    """Seconds that all the waits between attempts of one request may take together."""
    max_n: int = Field(default=128, ge=1)
    """Samples in one request, where the endpoint can do several."""


class Capabilities(_Frozen):
    """What an endpoint can do."""

    n: bool = False
    logprobs: bool = False
    top_logprobs: bool = False
    stop: bool = True
    seed: bool = False
    prefix_continuation: bool = False
    logit_bias: bool = False
    usage: bool = True
    """It reports the tokens of a request; without it they are estimated and marked so."""

    def has(self, feature: Feature) -> bool:
        """Tell whether the endpoint has a feature."""
        return bool(getattr(self, feature))


class Defaults(_Frozen):
    """Sampling parameters for what a request leaves open."""

    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    stop: tuple[str, ...] = ()
    seed: int | None = None


class ReplaySource(_Frozen):
    """Where recorded outputs lie: a JSONL file (`.gz` too), the field of the question, the path of the text."""

    path: Path
    question: str = "question"
    text: tuple[str | int, ...] = ("text",)
    """Keys and positions from the row to the text; `{model}` is the model's name, `*` goes through a list. A list at
    the end of the path holds the samples in order."""


class Address(_Frozen):
    """One of several endpoints that serve the same model."""

    base_url: str | None = None
    """None: the provider's own."""
    api_key_env: str | None = None
    """Name of the environment variable that holds its key; None: the model's."""
    limits: Limits | None = None
    """None: the model's."""
    usd_per_hour: Decimal | None = Field(default=None, gt=0)
    """None: the model's."""

    _named = field_validator("api_key_env")(_variable_name)
    _plain = field_validator("base_url")(_plain_url)


class BatchSettings(_Frozen):
    """The batch API of a model's provider; what it may be given and what it costs."""

    api: BatchApiName
    """openai: files and batches, as compatible servers have them too. anthropic: message batches. vllm: `run-batch`."""
    base_url: str | None = None
    """Where it is; None: where the model is."""
    command: tuple[str, ...] = ("vllm", "run-batch")
    """The program of `api: vllm`; it is given `-i`, `-o` and `--model`."""
    discount: Decimal | None = Field(default=None, ge=0, le=1)
    """What a call in a batch costs, as a share of the model's price; None: by the price's `batch`, and half without."""
    rows: int = Field(default=50_000, ge=1)
    """Requests in one batch, at most."""
    bytes: int = Field(default=200_000_000, ge=1)
    """Bytes of one batch, at most."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens of prompts and answers that may be queued at once; None: found out when the provider refuses more."""
    window_h: float = Field(default=24, gt=0)
    """Hours after which the provider gives a batch up."""
    expected_s: float = Field(default=3600, gt=0)
    """How long a batch takes, for a deadline; only until the first one has ended."""
    margin_s: float = Field(default=900, ge=0)
    """Seconds before a deadline when batches that are still open are cancelled and their rest is asked for at once."""
    poll_s: float = Field(default=5, gt=0)
    """Seconds between two looks at a batch; they grow to a twentieth of its age, up to a minute."""
    create_s: float = Field(default=60, gt=0)
    """Seconds that the request that creates a batch may take; so long an interrupted one is looked for."""

    _plain = field_validator("base_url")(_plain_url)


class ModelSpec(_Frozen):
    """A model as Colonnade knows it; made by `ModelBook.resolve`."""

    name: str
    """The name that was resolved: an alias or `provider/name`."""
    transport: str
    """`openai`, `litellm`, `embedded`, `replay`, or one that an installed package registered."""
    model: str
    """The name that the endpoint knows."""
    base_url: str | None = None
    api_key_env: str | None = None
    """Name of the environment variable that holds the key."""
    endpoints: tuple[Address, ...] = ()
    """Several endpoints of the model, in place of `base_url`."""
    routing: Routing = "affinity"
    api: Api = "chat"
    price: Price | None = None
    """None: unknown."""
    usd_per_hour: Decimal | None = Field(default=None, gt=0)
    """What the machine of one endpoint costs, in place of a price per token; see `providers.rent`."""
    limits: Limits = Field(default_factory=Limits)
    capabilities: Capabilities = Field(default_factory=Capabilities)
    defaults: Defaults = Field(default_factory=Defaults)
    style: str = "default"
    """Style of prompts that the model was made for."""
    context: int | None = Field(default=None, ge=1)
    """Tokens of prompt and answer together; None: unknown."""
    max_output: int | None = Field(default=None, ge=1)
    """Tokens that an answer can have at most; None: unknown."""
    identity: str = ""
    """What stands for the model in the keys of its samples; two aliases of one identity share them."""
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    """Further fields of the request, for what only this server knows."""
    replay: ReplaySource | None = None
    batch: BatchSettings | None = None
    """None: it has no batch API."""
    settled: tuple[str, ...] = ()
    """Capabilities that models.yaml states, which nothing that was found changes."""

    _named = field_validator("api_key_env")(_variable_name)
    _plain = field_validator("base_url")(_plain_url)

    def batch_cost(self, usage: Usage) -> Decimal | None:
        """Return the dollars of a usage by the batch API; None where the price, or that API, is unknown."""
        if self.batch is None or self.price is None:
            return None
        if self.batch.discount is None and self.price.batch is not None:
            return cost(usage, Price(prompt=self.price.batch.prompt, completion=self.price.batch.completion))
        whole = cost(usage, self.price)
        share = _BATCH_SHARE if self.batch.discount is None else self.batch.discount
        return None if whole is None else whole * share

    @model_validator(mode="after")
    def _replays_something(self) -> Self:
        if (self.transport == "replay") != (self.replay is not None):
            raise ValueError("transport 'replay' and a 'replay' section (path, question, text) go together")
        return self

    @model_validator(mode="after")
    def _has_distinct_endpoints(self) -> Self:
        if self.endpoints and self.base_url is not None:
            raise ValueError("give either 'base_url' or 'endpoints', not both")
        if self.endpoints and not self.hosted:
            raise ValueError(f"the transport '{self.transport}' has no endpoints")
        places = [(one.base_url, one.api_key_env) for one in self.endpoints]
        if len(set(places)) < len(places):
            raise ValueError("two of the endpoints are the same")
        rented = self.usd_per_hour is not None or any(one.usd_per_hour is not None for one in self.endpoints)
        if self.price is not None and rented:
            raise ValueError("give either 'price' or 'usd_per_hour', not both")
        return self

    def replicas(self) -> tuple[ModelSpec, ...]:
        """Return one specification for each endpoint, in their order."""
        if not self.endpoints:
            return (self,)
        return tuple(
            self.model_copy(
                update={
                    "base_url": one.base_url,
                    "api_key_env": one.api_key_env or self.api_key_env,
                    "limits": self.limits.model_copy(
                        update=one.limits.model_dump(exclude_unset=True) if one.limits else {}
                    ),
                    "usd_per_hour": one.usd_per_hour or self.usd_per_hour,
                    "endpoints": (),
                }
            )
            for one in self.endpoints
        )

    @property
    def priced(self) -> bool:
        """True where it is known what a call costs, by tokens or by the hour."""
        return self.price is not None or self.dearest_request is not None

    @property
    def dearest_request(self) -> Decimal | None:
        """Dollars that one answered request can cost at most where machines are paid by the hour; None where not."""
        rents = [(one.usd_per_hour, one.limits.timeout_s) for one in self.replicas()]
        most = [usd * Decimal(seconds) / 3600 for usd, seconds in rents if usd is not None]
        return max(most) if self.price is None and len(most) == len(rents) else None

    @property
    def hosted(self) -> bool:
        """True where calls leave the process over HTTP."""
        return self.transport not in ("embedded", "replay")
