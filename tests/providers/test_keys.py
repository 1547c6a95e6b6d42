"""Keys: everything that determines a sample is in them, and nothing else."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import DataError
from providers.base import Message, Sampling
from providers.keys import digest_request, sample_key, sample_seed

MESSAGES = (Message("system", "Be brief."), Message("user", "2 + 3?"))


def key(index: int = 0, *, messages: tuple[Message, ...] = MESSAGES, **changes: object) -> str:
    asked: dict[str, object] = {"identity": "openai/m", "messages": messages, "sampling": Sampling(), **changes}
    return sample_key(digest_request(**asked), index)  # type: ignore[arg-type]  # names are those of digest_request


def test_every_part_changes_the_key() -> None:
    keys = [
        key(),
        key(1),
        key(identity="openai/n"),
        key(messages=MESSAGES[1:]),
        key(messages=(MESSAGES[1], MESSAGES[0])),
        key(messages=(Message("user", "Be brief."), MESSAGES[1])),
        key(continue_final=True),
        key(fresh="final"),
        key(extra=b'{"top_k":5}'),
        key(sampling=Sampling(temperature=0.5)),
        key(sampling=Sampling(top_p=0.5)),
        key(sampling=Sampling(max_tokens=5)),
        key(sampling=Sampling(stop=("a",))),
        key(sampling=Sampling(stop=("a", "b"))),
        key(sampling=Sampling(seed=0)),
        key(sampling=Sampling(top_logprobs=0)),
    ]
    assert len(set(keys)) == len(keys)


def test_keys_stay_what_they_were() -> None:
    """A change here makes every stored sample unfindable; the value was made by this test's own arithmetic."""
    payload = (
        b'{"identity":"openai/m","messages":[["system","Be brief."],["user","2 + 3?"]],"sampling":{"temperature":1.0}}'
    )
    inner = hashlib.sha256(payload).digest()
    expected = hashlib.sha256(inner + b":3").hexdigest()
    assert key(3, sampling=Sampling(temperature=1)) == expected
    assert key(3, sampling=Sampling(temperature=1.0)) == expected


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(DataError, match="lone surrogate"):
        key(messages=(Message("user", "\ud800"),))


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")), st.integers(0, 10**6))
def test_different_texts_have_different_keys(one: str, other: str, index: int) -> None:
    first = key(index, messages=(Message("user", one),))
    assert (first == key(index, messages=(Message("user", other),))) == (one == other)
    assert 0 <= sample_seed(first) < 2**63


def test_seeds_of_neighbours_are_unlike() -> None:
    assert len({sample_seed(key(index)) for index in range(1000)}) == 1000
