"""What is known of a model before it is asked: where it lives, what it costs, what it can do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from providers.prices import Price

__all__ = ["Capabilities", "Defaults", "Feature", "Limits", "ModelSpec", "ReplaySource"]

Feature = Literal["logprobs", "n", "prefix_continuation", "seed", "stop", "top_logprobs"]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), defer_build=True)


class Limits(_Frozen):
    """How hard an endpoint may be driven."""

    in_flight: int = Field(default=64, ge=1)
    """Requests at once."""
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
    price: Price | None = None
    """None: unknown."""
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

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, value: str | None) -> str | None:
        if value is not None and not _VARIABLE.match(value):
            raise ValueError("must be the name of an environment variable, not a key")
        return value

    @field_validator("base_url")
    @classmethod
    def _is_a_plain_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        if "@" in value.split("/", 3)[2]:
            raise ValueError("must hold no user name or password; use api_key_env")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _replays_something(self) -> Self:
        if (self.transport == "replay") != (self.replay is not None):
            raise ValueError("transport 'replay' and a 'replay' section (path, question, text) go together")
        return self

    @property
    def hosted(self) -> bool:
        """True where calls leave the process over HTTP."""
        return self.transport not in ("embedded", "replay")
