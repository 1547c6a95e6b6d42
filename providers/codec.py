"""Samples to records and back: what of a call is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import orjson

from db.calls import CallRecord
from providers.base import Completion, TokenLogprob, Usage

__all__ = ["Stored", "as_record", "from_record", "tokens_as_json", "tokens_from_json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A sample as the gateway keeps it: durable, priced, with the run and item that paid."""

    key: str
    completion: Completion
    cost: Decimal | None
    latency_s: float
    payer: tuple[str, str]

    @property
    def weight(self) -> int:
        """Bytes that it takes in memory, roughly."""
        return 600 + len(self.completion.text) + 120 * len(self.completion.logprobs or ())


def as_record(
    stored: Stored,
    *,
    identity: str,
    alias: str,
    node: str,
    index: int,
    request: str,
    served: str | None,
    key_label: str | None = None,
    created_at: datetime | None = None,
) -> CallRecord:
    """Return the record of a sample that was paid just now, or at the moment given."""
    completion = stored.completion
    response: dict[str, object] = {"text": completion.text, "finish_reason": completion.finish_reason}
    if completion.logprobs is not None:
        response["logprobs"] = tokens_as_json(completion.logprobs)
    if served is not None:
        response["served_model"] = served
    run_id, item_id = stored.payer
    return CallRecord(
        key=stored.key,
        identity=identity,
        alias=alias,
        node=node,
        item_id=item_id,
        run_id=run_id,
        sample_index=index,
        request=request,
        response=orjson.dumps(response).decode(),
        prompt_tokens=completion.usage.prompt_tokens,
        completion_tokens=completion.usage.completion_tokens,
        cached_prompt_tokens=completion.usage.cached_prompt_tokens,
        tokens_estimated=completion.usage.estimated,
        cost=stored.cost,
        latency_s=stored.latency_s,
        created_at=created_at or datetime.now(UTC),
        key_label=key_label,
    )


def from_record(record: CallRecord) -> Stored:
    """Return the sample of a record."""
    response = orjson.loads(record.response)
    logprobs = response.get("logprobs")
    completion = Completion(
        text=response["text"],
        finish_reason=response["finish_reason"],
        usage=Usage(
            record.prompt_tokens, record.completion_tokens, record.cached_prompt_tokens, record.tokens_estimated
        ),
        logprobs=None if logprobs is None else tokens_from_json(logprobs),
    )
    return Stored(
        key=record.key,
        completion=completion,
        cost=record.cost,
        latency_s=record.latency_s,
        payer=(record.run_id, record.item_id),
    )


def tokens_as_json(tokens: Sequence[TokenLogprob]) -> list[list[object]]:
    """Write tokens and their log probabilities as lists."""
    return [
        [entry.token, entry.logprob, [[token, logprob] for token, logprob in entry.top]]
        if entry.top
        else [entry.token, entry.logprob]
        for entry in tokens
    ]


def tokens_from_json(entries: Iterable[list[object]]) -> tuple[TokenLogprob, ...]:
    """Read what `tokens_as_json` wrote."""
    return tuple(_token(entry) for entry in entries)


def _token(entry: list[object]) -> TokenLogprob:
    token, logprob, *rest = entry
    if not isinstance(token, str) or not isinstance(logprob, int | float):
        raise TypeError(f"a stored log probability is no pair of token and number: {entry!r}")
    top = rest[0] if rest and isinstance(rest[0], list) else []
    return TokenLogprob(token, float(logprob), tuple((str(name), float(value)) for name, value in top))
