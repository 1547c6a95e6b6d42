"""Transports of installed packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from providers import Gateway, ModelBook
from providers.registry import _installed, transport_names
from tests.providers.asking import request, scope

_MODULE = """
from providers.base import Completion, Reply, Usage

class Echo:
    def __init__(self, spec, key):
        self.spec = spec

    async def complete(self, request):
        text = request.messages[-1].content
        done = [Completion(text=text, finish_reason="stop", usage=Usage(1, 1)) for _ in request.indices]
        return Reply(completions=tuple(done))

    async def list_models(self):
        return ()

    def count_tokens(self, messages):
        return None

    async def aclose(self):
        if self.spec.model == "stubborn":
            raise RuntimeError("will not close")
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "an_echo.py").write_text(_MODULE)
    info = tmp_path / "an_echo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: an-echo\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[colonnade.transports]\necho = an_echo:Echo\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    _installed.cache_clear()
    yield tmp_path
    _installed.cache_clear()


async def test_a_transport_of_another_package_is_found_by_its_name(installed: Path) -> None:
    assert transport_names() == ("echo", "embedded", "litellm", "openai", "replay")
    (installed / "models.yaml").write_text(
        "models:\n  a: {transport: echo, model: one}\n  b: {transport: echo, model: stubborn}\n"
    )
    gateway = Gateway(ModelBook.load(installed / "models.yaml", {}), None)
    asked = await gateway.ask(request("hello", model="a"), scope=scope(), node="n")
    assert asked.samples[0].completion.text == "hello"
    await gateway.ask(request("hello", model="b"), scope=scope(), node="n")
    with pytest.raises(ExceptionGroup, match="failed to close"):
        await gateway.__aexit__(None, None, None)


async def test_the_embedded_models_answer_through_the_gateway() -> None:
    async with Gateway(ModelBook(env={}), None) as gateway:
        mine = scope()
        question = "Ann has 2 apples and buys 3 more. How many apples has Ann now?"
        asked = await gateway.ask(request(question, model="embedded/nano", max_tokens=12), 2, scope=mine, node="n")
        assert [sample.index for sample in asked.samples] == [0, 1]
        totals = mine.totals()
        assert totals.cost is not None
        assert totals.cost > 0
        again = await gateway.ask(request(question, model="embedded/nano", max_tokens=12), 2, scope=scope(), node="n")
        assert again.samples[1].completion == asked.samples[1].completion
