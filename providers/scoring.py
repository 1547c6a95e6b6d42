"""Scores of given text, by one interface for every kind of endpoint.

    Gateway.score(ScoreRequest(model="m", messages=…, kind="yes"), scope=…, node=…) -> Score

    kind          value                                      how it is had
    yes           p(yes) / (p(yes) + p(no)) of the next      the transport's own `score` (embedded models), else the
                  token                                      likeliest next tokens
    likelihood    sum of ln p of the last message's tokens,  vLLM: `/tokenize` and `prompt_logprobs` with
                  given the messages before it               `continue_final_message`; base models: `echo`
    reward        what a reward model gives the              vLLM: `/pooling`, of whose numbers the last counts
                  conversation
    pair          how well the second of two messages        vLLM and others: `/v1/score`
                  answers the first, by a cross-encoder

A score is kept, paid and counted as a sample is, under a key of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, Protocol, runtime_checkable

from providers.base import (
    Completion,
    Message,
    Reply,
    Sample,
    Sampling,
    StepScorer,
    TokenLogprob,
    Transport,
    Usage,
    WireRequest,
)
from providers.errors import BadRequest, MalformedReply
from providers.models import Api
from providers.plain import plain_prompt, read_tokens

__all__ = ["SCORED", "JsonPoster", "Score", "ScoreKind", "ScoreRequest", "as_score", "measure"]

ScoreKind = Literal["likelihood", "pair", "reward", "yes"]

SCORED = Sampling(temperature=0.0, max_tokens=1)
"""How a model is asked for a score: at most one token is drawn, and it is not used."""

_TOP = 20
"""Likeliest next tokens that are looked through for yes and no; the most that OpenAI and vLLM give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """Text to be scored by a model."""

    model: str
    """An alias of `models.yaml` or `provider/name`."""
    messages: tuple[Message, ...]
    kind: ScoreKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A score, with what it took."""

    value: float
    """A probability for `yes`, a natural log for `likelihood`, the model's own scale for `reward` and `pair`."""
    tokens: tuple[TokenLogprob, ...]
    """For `likelihood` the tokens of the last message; else none."""
    sample: Sample
    """What was stored: its text is the value."""

    @property
    def cost(self) -> Decimal | None:
        """Dollars that it cost when it was paid; None where the price is unknown."""
        return self.sample.cost


@runtime_checkable
class JsonPoster(Protocol):
    """A transport whose server has further paths."""

    async def post(self, path: str, body: dict[str, object], *, timeout_s: float) -> object:
        """Send a body to a path under the base URL and return what is answered."""
        ...


def as_score(sample: Sample) -> Score:
    """Return the score that a sample holds."""
    return Score(value=float(sample.completion.text), tokens=sample.completion.logprobs or (), sample=sample)


async def measure(transport: Transport, request: WireRequest, kind: ScoreKind, *, api: Api = "chat") -> Reply:
    """Ask a transport for a score, as a completion whose text is the value.

    Raises `BadRequest` where the endpoint has no such scores, and the transports' `ProviderError`s.
    """
    if kind == "yes":
        return await _yes(transport, request)
    if not isinstance(transport, JsonPoster):
        raise BadRequest(f"The endpoint of '{request.model}' gives no scores of the kind '{kind}'.")
    if kind == "likelihood":
        return await (_chat_likelihood if api == "chat" else _plain_likelihood)(transport, request)
    return await (_pooled if kind == "reward" else _pair)(transport, request)


async def _yes(transport: Transport, request: WireRequest) -> Reply:
    if isinstance(transport, StepScorer):
        value = await transport.score(request)
        return _reply(request, value, Usage(transport.count_tokens(request.messages) or 0, 0))
    asked = replace(request, sampling=replace(request.sampling, top_logprobs=_TOP))
    completion = (await transport.complete(asked)).completions[0]
    shares = {"yes": 0.0, "no": 0.0}
    for token, logprob in completion.logprobs[0].top if completion.logprobs else ():
        word = token.strip(" ▁Ġ").lower()
        if word in shares:
            shares[word] += math.exp(logprob)
    if not sum(shares.values()):
        raise BadRequest(f"Neither yes nor no is among the {_TOP} likeliest next tokens of '{request.model}'.")
    return _reply(request, shares["yes"] / sum(shares.values()), completion.usage)


async def _chat_likelihood(transport: JsonPoster, request: WireRequest) -> Reply:
    """Score the last message by the log probabilities of the prompt behind the tokens of the messages before it."""
    _require_continuation(request)
    before = _body(request, request.messages[:-1]) | {"add_generation_prompt": True}
    counted = await transport.post("/../tokenize", before, timeout_s=request.timeout_s)
    start = counted.get("count") if isinstance(counted, dict) else None
    if not isinstance(start, int):
        raise MalformedReply("The server's answer holds no count of tokens.")
    body = _body(request, request.messages) | {
        "max_tokens": 1,
        "temperature": 0.0,
        "prompt_logprobs": 0,
        "continue_final_message": True,
        "add_generation_prompt": False,
    }
    data = await transport.post("/chat/completions", body, timeout_s=request.timeout_s)
    entries = data.get("prompt_logprobs") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise BadRequest(f"The endpoint of '{request.model}' gives no log probabilities of prompts.")
    return _likelihood(request, [_prompt_token(entry) for entry in entries[start:]], data)


async def _plain_likelihood(transport: JsonPoster, request: WireRequest) -> Reply:
    """Score the last message by an echoed prompt, whose tokens say where in the text they begin."""
    _require_continuation(request)
    start = len(plain_prompt(request.messages[:-1]))
    body: dict[str, object] = {"model": request.model, "prompt": plain_prompt(request.messages)}
    body |= {"max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 0}
    data = await transport.post("/completions", body, timeout_s=request.timeout_s)
    try:
        logprobs = data["choices"][0]["logprobs"]  # type: ignore[index]  # what is no such thing is an error below
        offsets = list(logprobs["text_offset"])
    except (IndexError, KeyError, TypeError):
        raise MalformedReply("The server's answer lacks the log probabilities of the prompt.") from None
    end = len(body["prompt"]) if isinstance(body["prompt"], str) else 0
    tokens = [
        TokenLogprob(str(entry["token"]), _float(entry["logprob"]))
        for entry, offset in zip(read_tokens(logprobs), offsets, strict=True)
        if start <= offset < end
    ]
    return _likelihood(request, tokens, data)


async def _pooled(transport: JsonPoster, request: WireRequest) -> Reply:
    data = await transport.post("/../pooling", _body(request, request.messages), timeout_s=request.timeout_s)
    value = _first(data, "data")
    while isinstance(value, list) and value:
        value = value[-1]
    return _reply(request, _float(value), _usage(data))


async def _pair(transport: JsonPoster, request: WireRequest) -> Reply:
    if len(request.messages) != 2:
        raise BadRequest(f"A pair is two messages, not {len(request.messages)}.")
    one, other = (message.content for message in request.messages)
    body: dict[str, object] = {"model": request.model, "text_1": one, "text_2": other}
    data = await transport.post("/score", body, timeout_s=request.timeout_s)
    return _reply(request, _float(_first(data, "score")), _usage(data))


def _require_continuation(request: WireRequest) -> None:
    if len(request.messages) < 2 or not request.messages[-1].content:
        raise BadRequest("A likelihood needs messages before the last one, and text in that.")


def _body(request: WireRequest, messages: Sequence[Message]) -> dict[str, object]:
    return {
        "model": request.model,
        "messages": [{"role": role, "content": content} for role, content in messages],
    }


def _prompt_token(entry: object) -> TokenLogprob:
    if not isinstance(entry, Mapping) or not entry:
        raise MalformedReply("A log probability of the prompt cannot be read.")
    # The token that stands there comes first; likelier ones may follow.
    token = next(iter(entry.values()))
    if not isinstance(token, Mapping):
        raise MalformedReply("A log probability of the prompt cannot be read.")
    return TokenLogprob(str(token.get("decoded_token")), _float(token.get("logprob")))


def _likelihood(request: WireRequest, tokens: Sequence[TokenLogprob], data: object) -> Reply:
    if not tokens:
        raise MalformedReply("The server's answer holds no token of the last message.")
    return _reply(request, math.fsum(token.logprob for token in tokens), _usage(data), tuple(tokens))


def _first(data: object, name: str) -> object:
    try:
        return data["data"][0][name]  # type: ignore[index]  # what is no such thing is an error below
    except (IndexError, KeyError, TypeError):
        raise MalformedReply(f"The server's answer holds no '{name}'.") from None


def _float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise MalformedReply("The server's answer holds no number where a score should be.")
    return float(value)


def _usage(data: object) -> Usage:
    usage = data.get("usage") if isinstance(data, dict) else None
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (count if isinstance(count, int) and count >= 0 else 0 for count in counts)
    return Usage(prompt, completion, estimated=not isinstance(counts[0], int))


def _reply(request: WireRequest, value: float, usage: Usage, tokens: tuple[TokenLogprob, ...] | None = None) -> Reply:
    completion = Completion(text=repr(value), finish_reason="stop", usage=usage, logprobs=tokens)
    return Reply(completions=(completion,), served_model=request.model)
