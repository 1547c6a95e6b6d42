"""The contract of transports, over all that ship."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from providers.base import Message
from providers.embedded import EmbeddedTransport
from providers.litellm_transport import LiteLLMTransport
from providers.models import ReplaySource
from providers.openai_transport import OpenAITransport
from providers.replay import ReplayTransport
from providers.testing import Subject, TransportContract
from providers.testing_server import ModelServer


class TestOpenAI(TransportContract):
    @pytest.fixture
    async def subject(self) -> AsyncIterator[Subject]:
        async with ModelServer() as server:
            transport = OpenAITransport(server.url, "sk-test")
            yield Subject(
                transport=transport,
                model="test-model",
                unknown_model="other",
                features=frozenset({"n", "logprobs", "top_logprobs", "stop", "seed"}),
            )
            await transport.aclose()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestLiteLLM(TransportContract):
    @pytest.fixture
    async def subject(self) -> AsyncIterator[Subject]:
        async with ModelServer() as server:
            transport = LiteLLMTransport(server.url, "sk-test")
            yield Subject(
                transport=transport,
                model="hosted_vllm/test-model",
                unknown_model="hosted_vllm/other",
                features=frozenset({"n", "logprobs", "top_logprobs", "stop", "seed"}),
            )
            await transport.aclose()


class TestReplay(TransportContract):
    @pytest.fixture
    async def subject(self, tmp_path: Path) -> AsyncIterator[Subject]:
        path = tmp_path / "recorded.jsonl.gz"
        row = {"q": "What is 2 + 3?", "by": {"m": {"texts": ["It is 5.", "Five.", "6"]}}}
        path.write_bytes(gzip.compress(orjson.dumps(row) + b"\n"))
        transport = ReplayTransport(ReplaySource(path=path, question="q", text=("by", "{model}", "texts")))
        yield Subject(transport=transport, model="m", unknown_model="other", features=frozenset({"n"}), generates=False)
        await transport.aclose()


class TestEmbedded(TransportContract):
    @pytest.fixture
    async def subject(self) -> AsyncIterator[Subject]:
        transport = EmbeddedTransport("nano")
        yield Subject(
            transport=transport,
            model="nano",
            unknown_model="other",
            features=frozenset({"n", "logprobs", "top_logprobs", "stop", "seed", "prefix_continuation"}),
            messages=(Message("user", "Ann has 2 apples and buys 3 more. How many apples has Ann now?"),),
        )
        await transport.aclose()
