"""The hot path over HTTP: what is sent, by which way, and what becomes of it when it ends."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from providers.base import Message, Sampling, WireRequest
from providers.errors import CallTimeout, ConnectionFailed, MalformedReply, ProviderError
from providers.openai_transport import OpenAITransport
from providers.poster import Poster, _trusted
from providers.testing_server import ModelServer
from tests.providers.asking import book_of

WIRE = WireRequest(
    model="test-model", messages=(Message("user", "hello"),), sampling=Sampling(), indices=(0,), seeds=(0,)
)
_LITELLM = """
import asyncio, sys
from pathlib import Path
from providers import Gateway, Message, ModelBook, Request, Scope
async def main():
    async with Gateway(ModelBook.load(Path(sys.argv[1]), {}), None) as gateway:
        await gateway.preflight(["m"])
        asked = await gateway.ask(
            Request(model="m", messages=(Message("user", "hello"),)), scope=Scope("r", "1"), node="n"
        )
        print(len(asked.samples))
asyncio.run(main())
print([name for name in sys.modules if name.partition(".")[0] == "litellm"])
"""


@asynccontextmanager
async def serving(handler: web.RequestHandler) -> AsyncIterator[str]:
    """Serve every request with a function of ours; yields the address."""
    runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def done() -> web.Response:
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def test_what_the_sdk_is_configured_to_send_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-7")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-8")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: red\nX-Region: north")
    seen: list[web.BaseRequest] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        seen.append(request)
        return done()

    async with serving(handler) as url:
        transport = OpenAITransport(f"{url}/v1/", "sk-mine")
        await transport.complete(WIRE)
        await transport.aclose()
    headers = seen[0].headers
    assert seen[0].path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer sk-mine"
    assert (headers["OpenAI-Organization"], headers["OpenAI-Project"]) == ("org-7", "project-8")
    assert (headers["X-Team"], headers["X-Region"]) == ("red", "north")
    assert headers["Content-Type"] == "application/json"
    assert not [name for name in headers if name.lower().startswith("x-stainless")]


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        asked.append(str(request.url))
        return done()

    async with serving(handler) as proxy:
        monkeypatch.setenv("http_proxy", proxy.removeprefix("http://"))
        transport = OpenAITransport("http://models.invalid/v1", None)
        assert (await transport.complete(WIRE)).completions[0].text == "hi"
        await transport.aclose()
        monkeypatch.setenv("no_proxy", "models.invalid")
        transport = OpenAITransport("http://models.invalid/v1", None)
        with pytest.raises(ConnectionFailed):
            await transport.complete(WIRE)
        await transport.aclose()
    assert asked == ["http://models.invalid/v1/chat/completions"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (orjson.dumps({"error": {"message": "Too hot", "code": 7}}), "Too hot"),
        (orjson.dumps({"error": "Too hot"}), "Too hot"),
        (orjson.dumps({"message": "Too hot"}), "Too hot"),
        (orjson.dumps({"error": None, "detail": "Too hot"}), '{"error":null,"detail":"Too hot"}'),
        (orjson.dumps(["Too hot"]), '["Too hot"]'),
        (b"<h1>Too hot</h1>", "<h1>Too hot</h1>"),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
    ],
)
async def test_the_words_of_a_refusal_are_found_wherever_they_stand(body: bytes, words: str) -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        return web.Response(status=400, body=body)

    async with serving(handler) as url:
        transport = OpenAITransport(f"{url}/v1", None)
        with pytest.raises(ProviderError) as caught:
            await transport.complete(WIRE)
        assert str(caught.value) == f"{url}/v1/ answered 400: {words}"
        await transport.aclose()


async def test_a_list_of_models_that_is_none() -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        return web.json_response({"models": []})

    async with serving(handler) as url:
        transport = OpenAITransport(f"{url}/v1", None)
        with pytest.raises(MalformedReply, match="no list of models"):
            await transport.list_models()
        await transport.aclose()


async def test_silence_is_a_timeout_and_the_pool_stays_usable() -> None:
    silent = True

    async def handler(request: web.BaseRequest) -> web.Response:
        if silent:
            await asyncio.sleep(5)
        return done()

    async with serving(handler) as url:
        poster = Poster(url, {}, connections=1, secret=None)
        with pytest.raises(CallTimeout, match=r"did not answer within 0.2 s"):
            await poster.post("/x", b"{}", timeout_s=0.2)
        silent = False
        assert (await poster.post("/x", b"{}", timeout_s=5.0)).status == 200
        await poster.aclose()
        await poster.aclose()


async def test_connections_are_no_more_than_allowed() -> None:
    now = most = 0

    async def handler(request: web.BaseRequest) -> web.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1
        return done()

    async with serving(handler) as url:
        poster = Poster(url, {}, connections=3, secret=None)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(12):
                tasks.create_task(poster.post("/x", b"{}", timeout_s=5.0))
        await poster.aclose()
    assert most == 3


def test_certificates_are_those_that_the_sdk_trusts() -> None:
    assert _trusted("http://127.0.0.1") is True
    context = _trusted("https://127.0.0.1")
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


async def test_litellm_is_never_loaded_for_a_compatible_server(tmp_path: Path) -> None:
    async with ModelServer() as server:
        book_of(server, tmp_path)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _LITELLM, str(tmp_path / "models.yaml"), stdout=subprocess.PIPE
        )
        output, _ = await process.communicate()
    assert output.decode().splitlines() == ["1", "[]"]
