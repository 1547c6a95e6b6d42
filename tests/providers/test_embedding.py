"""Vectors through the gateway: each text paid once, in the order of the texts, whatever the server's order."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from db.calls import CallStore
from db.errors import ConfigError
from providers import Gateway
from providers.embedding import EmbedRequest, vectors
from providers.errors import MalformedReply, ProviderError
from providers.testing_server import count_tokens
from providers.testing_stream import StreamingServer, word_counts
from tests.providers.asking import book_of, scope


def embed(*texts: str) -> EmbedRequest:
    return EmbedRequest(model="m", texts=texts)


async def test_vectors_come_in_the_order_of_the_texts_and_each_text_is_paid_once(
    tmp_path: Path, store: CallStore
) -> None:
    async with StreamingServer() as server, Gateway(book_of(server, tmp_path), store) as gateway:
        mine = scope()
        found = await gateway.embed(embed("a bb", "ccc", "a bb"), scope=mine, node="r")
        assert found.vectors.dtype == np.float32
        assert found.vectors.tolist() == [word_counts("a bb"), word_counts("ccc"), word_counts("a bb")]
        assert server.embedded == [2]
        paid = Decimal(count_tokens("a bb") + count_tokens("ccc")) / 10**6
        assert found.cost == paid == mine.totals().paid_cost
        again = await gateway.embed(embed("ccc", "dddd"), scope=scope("2"), node="r")
        assert again.vectors.tolist() == [word_counts("ccc"), word_counts("dddd")]
        assert server.embedded == [2, 1]
        assert (await gateway.embed(embed(), scope=mine, node="r")).vectors.shape == (0, 0)
    spent = store.spent("r-1")
    assert (spent.prompt_tokens, spent.completion_tokens) == (server.ledger.prompt_tokens, 0)


async def test_many_texts_go_out_in_several_requests(tmp_path: Path, store: CallStore) -> None:
    texts = [f"text {number}" for number in range(300)]
    async with StreamingServer() as server, Gateway(book_of(server, tmp_path), store) as gateway:
        found = await gateway.embed(embed(*texts), scope=scope(), node="r")
    assert sorted(server.embedded) == [44, 256]
    assert found.vectors.shape == (300, 8)


async def test_a_failed_request_is_asked_again_and_then_fails(tmp_path: Path, store: CallStore) -> None:
    more = "limits: {retries: 1}"
    async with (
        StreamingServer(script=["503", None, "503", "503"]) as server,
        Gateway(book_of(server, tmp_path, more), store) as gateway,
    ):
        assert (await gateway.embed(embed("one"), scope=scope(), node="r")).vectors.shape == (1, 8)
        with pytest.raises(ProviderError, match="503"):
            await gateway.embed(embed("two"), scope=scope(), node="r")


async def test_a_server_without_embeddings_is_named(tmp_path: Path, store: CallStore) -> None:
    from providers.testing_server import ModelServer

    async with ModelServer() as server, Gateway(book_of(server, tmp_path), store) as gateway:
        with pytest.raises(ConfigError, match=r"gives no embeddings.*name an embedding model"):
            await gateway.embed(embed("one"), scope=scope(), node="r")


async def test_a_model_of_vectors_is_not_asked_for_answers(tmp_path: Path, store: CallStore) -> None:
    from tests.providers.asking import request

    async with StreamingServer() as server, Gateway(book_of(server, tmp_path, "api: embeddings"), store) as gateway:
        with pytest.raises(ConfigError, match=r"gives embeddings .* and no answers"):
            await gateway.ask(request(), scope=scope(), node="a")
        assert (await gateway.embed(embed("one"), scope=scope(), node="r")).vectors.shape == (1, 8)


class Given:
    """A transport that answers what it is given."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    async def embed(self, request: object) -> object:
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"data": None},
        {"data": [{"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [2.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": []}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": ["x"]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [float("nan")]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": "?"}]},
        {"data": [{"index": 0, "embedding": [1.0]}, "one"]},
    ],
)
async def test_an_answer_that_is_no_vectors_is_malformed(answer: object) -> None:
    from providers.base import Message, Sampling, WireRequest

    wire = WireRequest(
        model="m",
        messages=(Message("user", "a"), Message("user", "b")),
        sampling=Sampling(),
        indices=(0, 1),
        seeds=(0, 0),
    )
    with pytest.raises(MalformedReply):
        await vectors(Given(answer), wire)  # type: ignore[arg-type]  # it can do no more than give vectors
