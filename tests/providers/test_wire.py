"""Reading chat completions and telling errors apart."""

from __future__ import annotations

import email.utils
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import Message, Sampling, WireRequest
from providers.errors import (
    AuthError,
    BadRequest,
    CallTimeout,
    ContentFiltered,
    ContextLengthExceeded,
    MalformedReply,
    Overloaded,
    ProviderError,
    RateLimited,
)
from providers.wire import error_for_status, estimate_tokens, read_reply, request_body, retry_after_seconds


def wire(n: int = 1, **sampling: object) -> WireRequest:
    drawn = Sampling(**sampling)  # type: ignore[arg-type]  # the names are those of Sampling
    indices = tuple(range(n))
    return WireRequest(
        model="m", messages=(Message("user", "12345678"),), sampling=drawn, indices=indices, seeds=indices
    )


def choice(text: str | None, finish: str = "stop", **message: object) -> dict[str, object]:
    return {"message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}


def test_only_what_is_given_is_sent() -> None:
    assert request_body(wire()) == {"model": "m", "messages": [{"role": "user", "content": "12345678"}]}
    full = request_body(wire(3, max_tokens=4, top_logprobs=0), limit_field="max_completion_tokens")
    assert full["n"] == 3
    assert full["max_completion_tokens"] == 4
    assert full["logprobs"] is True
    assert "top_logprobs" not in full


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), min_size=1, max_size=8), st.integers(0, 500))
def test_the_tokens_of_all_choices_are_divided_to_the_token(texts: list[str], total: int) -> None:
    data = {"choices": [choice(text) for text in texts], "usage": {"prompt_tokens": 7, "completion_tokens": total}}
    usages = [completion.usage for completion in read_reply(data, wire(len(texts))).completions]
    assert sum(usage.completion_tokens for usage in usages) == total
    assert all(usage.completion_tokens >= 0 for usage in usages)
    assert [usage.prompt_tokens for usage in usages] == [7, *[0] * (len(texts) - 1)]
    assert not any(usage.estimated for usage in usages)


def test_more_choices_than_asked_are_cut_and_cached_tokens_are_read() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 30}}
    reply = read_reply({"choices": [choice("a"), choice("b")], "usage": usage, "model": "served"}, wire())
    assert len(reply.completions) == 1
    assert reply.completions[0].usage.cached_prompt_tokens == 9
    assert reply.served_model == "served"


@pytest.mark.parametrize(
    ("given", "finish"),
    [
        (choice("x"), "stop"),
        (choice("x", "length"), "length"),
        (choice("x", "max_tokens"), "length"),
        (choice("x", "eos"), "stop"),
        (choice("x", "content_filter"), "content_filter"),
        (choice(None, "content_filter"), "content_filter"),
        (choice(None, "length"), "length"),
        (choice(None, refusal="I will not."), "content_filter"),
    ],
)
def test_why_an_answer_ended(given: dict[str, object], finish: str) -> None:
    assert read_reply({"choices": [given]}, wire()).completions[0].finish_reason == finish


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"choices": []},
        {"choices": ["x"]},
        {"choices": [{"finish_reason": "stop"}]},
        {"choices": [choice(None)]},
        {"error": "x"},
    ],
)
def test_what_is_no_chat_completion_is_malformed(data: object) -> None:
    with pytest.raises(MalformedReply):
        read_reply(data, wire())


@pytest.mark.parametrize(
    "logprobs", [None, {}, {"content": [{"token": "a"}]}, {"content": [{"token": "a", "logprob": "x"}]}]
)
def test_missing_logprobs_are_malformed(logprobs: object) -> None:
    with pytest.raises(MalformedReply, match="lacks the log probabilities"):
        read_reply({"choices": [{**choice("a"), "logprobs": logprobs}]}, wire(top_logprobs=1))


@pytest.mark.parametrize(
    ("status", "message", "code", "expected"),
    [
        (401, "x", None, AuthError),
        (403, "x", None, AuthError),
        (429, "x", None, RateLimited),
        (429, "x", "insufficient_quota", AuthError),
        (408, "x", None, CallTimeout),
        (504, "x", None, CallTimeout),
        (409, "x", None, Overloaded),
        (500, "x", None, Overloaded),
        (529, "x", None, Overloaded),
        (400, "x", "context_length_exceeded", ContextLengthExceeded),
        (400, "This model's maximum context length is 8192 tokens", None, ContextLengthExceeded),
        (413, "x", None, ContextLengthExceeded),
        (400, "prompt is too long: 9 tokens", None, ContextLengthExceeded),
        (400, "triggered our content management policy", "content_filter", ContentFiltered),
        (400, "blocked by the content filter", None, ContentFiltered),
        (400, "temperature", None, BadRequest),
        (404, "no such model", None, BadRequest),
        (422, "x", None, BadRequest),
    ],
)
def test_errors_by_status(status: int, message: str, code: str | None, expected: type[ProviderError]) -> None:
    assert type(error_for_status(status, message, code=code)) is expected


def test_retry_after_in_all_its_forms() -> None:
    assert retry_after_seconds({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after_seconds({"retry-after": "1.5"}) == 1.5
    assert retry_after_seconds({"retry-after": "-3"}) == 0
    soon = retry_after_seconds({"retry-after": email.utils.formatdate(time.time() + 3000, usegmt=True)})
    assert soon is not None
    assert 2900 < soon <= 3000
    assert retry_after_seconds({"retry-after": "soon"}) is None
    assert retry_after_seconds({}) is None


def test_tokens_are_estimated_by_bytes() -> None:
    assert [estimate_tokens(text) for text in ("", "a", "abcd", "abcde", "ééé")] == [0, 1, 1, 2, 2]
