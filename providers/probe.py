"""What an endpoint can do, found by asking: a dozen tiny requests, straight to the transport.

Each feature is tested by its effect, not by the absence of an error, since many servers overlook what they do not
know. What could not be told (an endpoint that counts no tokens, a model that always says the same) is left out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from providers.base import Completion, Message, Reply, Sampling, Transport, WireRequest
from providers.errors import (
    AuthError,
    BadRequest,
    ConnectionFailed,
    MalformedReply,
    ProviderError,
)
from providers.models import Feature, ModelSpec
from providers.registry import make_transport

__all__ = ["MOST_REQUESTS", "MOST_TOKENS", "Probed", "probe"]

MOST_REQUESTS: Final = 12
"""Requests to one endpoint."""
MOST_TOKENS: Final = 68
"""Tokens of all answers together."""

_TIMEOUT_S = 60.0
_SHORT = 8
_BIASED_TOKEN = "100"
"""A token that every vocabulary has; which one it is does not matter, only that bias has it drawn."""

_COUNT = (Message("user", "Count from 1 to 9."),)
_BEGUN = (*_COUNT, Message("assistant", "1, 2, 3,"))

_REFUSALS = (BadRequest, MalformedReply)
"""How servers answer what they cannot do: 400, 422, or a reply without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What was found of one endpoint."""

    capabilities: Mapping[Feature, bool]
    """Features that could be told."""
    requests: int
    completion_tokens: int


class _Asker:
    """Sends the requests of a probe and counts them."""

    def __init__(self, transport: Transport, model: str) -> None:
        self._transport = transport
        self._model = model
        self.requests = 0
        self.completion_tokens = 0

    async def ask(
        self,
        sampling: Sampling,
        *,
        n: int = 1,
        messages: tuple[Message, ...] = _COUNT,
        continue_final: bool = False,
        by: Transport | None = None,
    ) -> Reply:
        self.requests += 1
        reply = await (by or self._transport).complete(
            WireRequest(
                model=self._model,
                messages=messages,
                sampling=sampling,
                indices=tuple(range(n)),
                seeds=tuple(range(n)),
                continue_final=continue_final,
                timeout_s=_TIMEOUT_S,
            )
        )
        self.completion_tokens += sum(one.usage.completion_tokens for one in reply.completions)
        return reply

    async def one(self, sampling: Sampling) -> Completion:
        return (await self.ask(sampling)).completions[0]


async def probe(spec: ModelSpec, api_key: str | None) -> Probed:
    """Probe one endpoint of a model.

    Raises `AuthError`, `ConnectionFailed` and whatever else keeps the plainest request from being answered.
    """
    transport = make_transport(spec, api_key)
    try:
        asker = _Asker(transport, spec.model)
        plain = await asker.one(Sampling(temperature=0.0, max_tokens=_SHORT))
        tests: Mapping[Feature, Callable[[], Awaitable[bool | None]]] = {
            "n": lambda: _several(asker),
            "logprobs": lambda: _logprobs(asker, 0),
            "top_logprobs": lambda: _logprobs(asker, 2),
            "stop": lambda: _stop(asker, plain.text),
            "seed": lambda: _seed(asker),
            "prefix_continuation": lambda: _continuation(asker),
            "logit_bias": lambda: _bias(asker, spec, api_key, plain.text),
        }
        found: dict[Feature, bool] = {"usage": not plain.usage.estimated}
        for feature, test in tests.items():
            answer = await _answered(test)
            if answer is not None:
                found[feature] = answer
        return Probed(capabilities=found, requests=asker.requests, completion_tokens=asker.completion_tokens)
    finally:
        await transport.aclose()


async def _answered(test: Callable[[], Awaitable[bool | None]]) -> bool | None:
    try:
        return await test()
    except _REFUSALS:
        return False
    except (AuthError, ConnectionFailed):
        raise
    except ProviderError:
        return None


async def _several(asker: _Asker) -> bool:
    reply = await asker.ask(Sampling(temperature=1.0, max_tokens=2), n=2)
    return len(reply.completions) == 2


async def _logprobs(asker: _Asker, top: int) -> bool:
    completion = await asker.one(Sampling(temperature=0.0, max_tokens=2, top_logprobs=top))
    return bool(completion.logprobs) and all(len(entry.top) >= top for entry in completion.logprobs or ())


async def _stop(asker: _Asker, text: str) -> bool | None:
    """Stop at a character out of the middle of the greedy answer."""
    marks = [mark for mark in text[1:] if not mark.isspace() and mark != text[0]]
    if not marks:
        return None
    mark = marks[len(marks) // 2]
    cut = await asker.one(Sampling(temperature=0.0, max_tokens=_SHORT, stop=(mark,)))
    return mark not in cut.text


async def _seed(asker: _Asker) -> bool | None:
    """Draw twice with one seed, and with others until an answer differs; without one that differs nothing is told."""
    drawn = Sampling(temperature=1.5, max_tokens=_SHORT, seed=11)
    first, again = await asker.one(drawn), await asker.one(drawn)
    if first.text != again.text:
        return False
    for seed in (12, 13):
        if (await asker.one(replace(drawn, seed=seed))).text != first.text:
            return True
    return None


async def _continuation(asker: _Asker) -> bool | None:
    """Compare counts of tokens: a message that is continued lacks its end and the beginning of the next one."""
    short = Sampling(temperature=0.0, max_tokens=2)
    new = (await asker.ask(short, messages=_BEGUN)).completions[0].usage
    begun = (await asker.ask(short, messages=_BEGUN, continue_final=True)).completions[0].usage
    if new.estimated or begun.estimated:
        return None
    return begun.prompt_tokens < new.prompt_tokens


async def _bias(asker: _Asker, spec: ModelSpec, api_key: str | None, plain: str) -> bool:
    """Push one token up: the greedy answer must change."""
    body = {**spec.extra_body, "logit_bias": {_BIASED_TOKEN: 100}}
    biased = make_transport(spec.model_copy(update={"extra_body": body}), api_key)
    try:
        reply = await asker.ask(Sampling(temperature=0.0, max_tokens=_SHORT), by=biased)
    finally:
        await biased.aclose()
    return reply.completions[0].text != plain
