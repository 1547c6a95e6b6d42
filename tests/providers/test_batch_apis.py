"""The clients of batch APIs: what they send, what they read, and how their errors are told apart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from db.errors import SpecError
from providers.base import Message, Sampling, WireRequest
from providers.batching import BatchApi, Missing
from providers.batching.anthropic_api import AnthropicBatches
from providers.batching.apis import folder_of, make_api, place_of
from providers.batching.base import custom_id, line_of
from providers.batching.lane import Wanted, cut
from providers.batching.openai_api import OpenAIBatches, read_line
from providers.batching.vllm_api import VLLMBatches
from providers.book import ModelBook
from providers.errors import CallTimeout, ConnectionFailed, MalformedReply, ProviderError
from providers.models import BatchSettings, ModelSpec
from providers.testing_batch_server import BatchServer, Stages

MESSAGES = (Message("system", "Be brief."), Message("user", "What is 2 + 3?"))
NOW = datetime.now(UTC)

Opened = Callable[[Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]], Awaitable[str]]


def wire(n: int = 1, *, continue_final: bool = False, **sampling: object) -> WireRequest:
    return WireRequest(
        model="anthropic/m",
        messages=MESSAGES,
        sampling=Sampling(**sampling),  # type: ignore[arg-type]  # the names are those of Sampling
        indices=tuple(range(n)),
        seeds=tuple(range(n)),
        continue_final=continue_final,
    )


@pytest.fixture
async def serve() -> AsyncIterator[Opened]:
    """Serve with one handler; returns the base URL."""
    runners: list[web.ServerRunner] = []

    async def start(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> str:
        runner = web.ServerRunner(web.Server(handler, access_log=None), handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        runners.append(runner)
        return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    yield start
    for runner in runners:
        await runner.cleanup()


def test_the_id_of_a_line_holds_the_mark() -> None:
    assert line_of(custom_id("a" * 32, 17), "a" * 32) == 17
    assert line_of("b-17", "a") is None
    assert line_of("a-x", "a") is None
    assert len(custom_id("a" * 32, 99_999)) <= 64, "what Anthropic takes"


@given(
    sizes=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), max_size=40),
    rows=st.integers(1, 8),
    most=st.integers(1, 120),
    tokens=st.none() | st.integers(1, 120),
)
def test_a_cut_keeps_all_in_order_within_the_limits(
    sizes: list[tuple[int, int]], rows: int, most: int, tokens: int | None
) -> None:
    wanted = [_Sized(size, used) for size, used in sizes]
    groups = list(cut(wanted, BatchSettings(api="openai", rows=rows, bytes=most), tokens))  # type: ignore[arg-type]  # sized alike
    assert [id(one) for group in groups for one in group] == [id(one) for one in wanted]
    for group in groups:
        assert 1 <= len(group) <= rows
        assert len(group) == 1 or sum(one.size for one in group) <= most
        assert len(group) == 1 or tokens is None or sum(one.tokens for one in group) <= tokens


class _Sized:
    def __init__(self, size: int, tokens: int) -> None:
        self.size, self.tokens = size, tokens


assert {"size", "tokens"} <= set(Wanted.__slots__)


async def test_what_is_sent_to_openai_and_to_vllm(tmp_path: Path) -> None:
    api = OpenAIBatches("http://127.0.0.1:9/v1", "k", extra_body={"top_k": 3})
    sent = json.loads(api.line("x-0", wire(2, temperature=0.5, max_tokens=7, seed=1)).data)
    assert sent == {
        "custom_id": "x-0",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "anthropic/m",
            "messages": [{"role": role, "content": content} for role, content in MESSAGES],
            "n": 2,
            "temperature": 0.5,
            "max_tokens": 7,
            "seed": 1,
            "top_k": 3,
        },
    }
    assert api.takes(wire(2, top_logprobs=3))
    local = VLLMBatches(["vllm", "run-batch"], "m", tmp_path, extra_body={"top_k": 3})
    assert json.loads(local.line("x-0", wire(2, temperature=0.5, max_tokens=7, seed=1)).data) == sent
    assert isinstance(api, BatchApi)
    assert isinstance(local, BatchApi)
    await api.aclose()
    hosted = OpenAIBatches(None, "k")
    assert "max_completion_tokens" in json.loads(hosted.line("x-0", wire(max_tokens=7)).data)["body"]
    await hosted.aclose()


async def test_what_is_sent_to_anthropic() -> None:
    api = AnthropicBatches(None, "k")
    sent = json.loads(api.line("x-0", wire(temperature=0.5, top_p=0.9, max_tokens=7, stop=("a",), seed=1)).data)
    assert sent["params"] == {
        "model": "m",
        "max_tokens": 7,
        "messages": [{"role": "user", "content": "What is 2 + 3?"}],
        "system": "Be brief.",
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["a"],
    }
    assert json.loads(api.line("x-0", wire()).data)["params"]["max_tokens"] == 4096
    assert [api.takes(one) for one in (wire(), wire(2), wire(top_logprobs=0), wire(continue_final=True))] == [
        True,
        False,
        False,
        False,
    ]
    assert isinstance(api, BatchApi)
    await api.aclose()


async def test_a_message_is_read() -> None:
    api = AnthropicBatches(None, "k")
    message = {
        "model": "m-1",
        "content": [{"type": "thinking", "thinking": "…"}, {"type": "text", "text": "5"}],
        "stop_reason": "refusal",
        "usage": {
            "input_tokens": 3,
            "cache_read_input_tokens": 4,
            "cache_creation_input_tokens": 5,
            "output_tokens": 6,
        },
    }
    (completion,) = api.read(message, wire()).completions
    assert (completion.text, completion.finish_reason) == ("5", "content_filter")
    assert (completion.usage.prompt_tokens, completion.usage.cached_prompt_tokens) == (12, 4)
    for broken in (None, {}, {**message, "usage": None}, {**message, "content": [{}]}):
        with pytest.raises(MalformedReply):
            api.read(broken, wire())
    await api.aclose()


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"response": {"status_code": 400, "body": {"error": {"message": "no", "code": "x"}}}}, "bad_request"),
        ({"response": {"status_code": 429, "body": {"error": {"message": "slow"}}}}, "rate_limit"),
        ({"response": {"status_code": "odd", "body": None}}, "overloaded"),
        ({"response": None, "error": {"code": "weird", "message": "no"}}, "overloaded"),
        ({"response": None, "error": None}, "overloaded"),
    ],
)
def test_errors_of_lines(entry: dict[str, object], kind: str) -> None:
    outcome = read_line(json.dumps({"custom_id": "x-0", **entry}), None).outcome
    assert isinstance(outcome, ProviderError)
    assert outcome.kind == kind


def test_lines_that_were_not_reached_and_lines_that_are_none() -> None:
    line = {"custom_id": "x-0", "response": None, "error": {"code": "batch_cancelled", "message": "too late"}}
    assert read_line(json.dumps(line), None).outcome == Missing("too late")
    for broken in ("{", "[]", "{}"):
        with pytest.raises(MalformedReply):
            read_line(broken, None)


def _clients(url: str) -> list[OpenAIBatches | AnthropicBatches]:
    return [OpenAIBatches(url, "secret-key"), AnthropicBatches(url, "secret-key", create_s=1)]


@pytest.mark.parametrize("which", [0, 1], ids=["openai", "anthropic"])
async def test_errors_of_the_way(serve: Opened, which: int) -> None:
    async def nonsense(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="{", content_type="application/json")

    async def refuse(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=401, text='{"error": {"message": "secret-key is wrong"}}')

    for handler, kind in ((nonsense, "malformed"), (refuse, "auth")):
        api = _clients(await serve(handler))[which]
        with pytest.raises(ProviderError) as caught:
            await api.state("b")
        assert caught.value.kind == kind
        assert "secret-key" not in str(caught.value)
        await api.aclose()
    api = _clients("http://127.0.0.1:9/v1")[which]
    with pytest.raises(ConnectionFailed):
        await api.state("b")
    with pytest.raises(ConnectionFailed):
        await _read(api)
    await api.aclose()


async def _read(api: BatchApi) -> None:
    async for result in api.results("b"):
        assert result.id == "a"


@pytest.mark.parametrize("which", [0, 1], ids=["openai", "anthropic"])
async def test_results_that_break_off(serve: Opened, which: int) -> None:
    async def break_off(request: web.BaseRequest) -> web.StreamResponse:
        if not request.path.endswith(("content", "results")):
            batch = {"status": "completed", "output_file_id": "f", "results_url": f"http://{request.host}/v1/results"}
            return web.json_response(batch)
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"custom_id": "a", "response": null, "error": null, "result": {"type": "expired"}}\n{')
        assert request.transport is not None
        request.transport.close()
        return response

    async def missing(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith(("content", "results")):
            return web.Response(status=404)
        return await break_off(request)

    for handler, kind in ((break_off, "connection"), (missing, "bad_request")):
        api = _clients(await serve(handler))[which]
        with pytest.raises(ProviderError) as caught:
            await _read(api)
        assert caught.value.kind == kind
        await api.aclose()


async def test_a_creation_that_takes_too_long_times_out(serve: Opened) -> None:
    async def sleep(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    url = await serve(sleep)
    for api in (OpenAIBatches(url, None, create_s=0.05), AnthropicBatches(url, None, create_s=0.05)):
        with pytest.raises(CallTimeout):
            await api.create("m", "file", [])
        await api.aclose()


@pytest.mark.parametrize("which", [0, 1], ids=["openai", "anthropic"])
async def test_a_batch_is_found_on_a_later_page(which: int) -> None:
    """Of 130 batches the first, by its mark or by its number of requests; one that is known is not taken."""
    async with BatchServer(stages=Stages(running_s=60)) as server:
        api = _clients(server.url)[which]
        ids = []
        for number in range(130):
            lines = [api.line(custom_id("m", n), wire(max_tokens=5)) for n in range(2 if number == 0 else 1)]
            lines = [line._replace(data=line.data.replace(b"anthropic/m", b"m")) for line in lines]
            ids.append(await api.create(f"mark{number}", await api.prepare("m", lines), lines))
        assert await api.find("mark0", lines=2, since=NOW, known=()) == ids[0]
        assert await api.find("other", lines=3, since=NOW, known=()) is None
        if which == 1:
            assert await api.find("mark0", lines=2, since=NOW, known={ids[0]}) is None
        late = datetime(2100, 1, 1, tzinfo=UTC)
        assert await api.find("other" if which == 0 else "mark0", lines=2, since=late, known=()) is None
        await api.cancel(ids[0])
        assert (await api.state(ids[0])).stage == "ended"
        await api.cancel(ids[0])
        await api.aclose()


def test_which_models_have_a_batch_api(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(
        "models:\n"
        "  small: {use: openai/gpt-4o-mini, batch: {rows: 7}}\n"
        "  never: {use: openai/gpt-4o-mini, batch: null}\n"
        "  moved: {use: openai/gpt-4o-mini, base_url: 'http://127.0.0.1:9/v1'}\n"
        "  own: {transport: openai, model: gpt-4o, batch: {tokens: 9}}\n"
        "  without: {transport: openai, model: gpt-4o, batch: null}\n"
        "  local: {transport: openai, base_url: 'http://127.0.0.1:9/v1', batch: {api: vllm}}\n"
    )
    env = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}
    book = ModelBook.load(tmp_path / "models.yaml", env)
    openai, anthropic = book.resolve("openai/gpt-4o").batch, book.resolve("anthropic/claude-sonnet-4-5").batch
    assert openai == BatchSettings(api="openai")
    assert anthropic is not None
    assert (anthropic.api, anthropic.rows, anthropic.discount) == ("anthropic", 100_000, None)
    assert book.resolve("small").batch == BatchSettings(api="openai", rows=7)
    assert book.resolve("own").batch == BatchSettings(api="openai", tokens=9)
    assert [book.resolve(name).batch for name in ("never", "moved", "without", "embedded/mini", "vllm/x")] == [None] * 5
    local = book.resolve("local")
    assert local.batch is not None
    assert isinstance(make_api(local, local.batch, None, tmp_path), VLLMBatches)
    assert place_of(local, local.batch, "") == "vllm vllm run-batch  local"
    other = ModelBook(env={**env, "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})
    assert other.resolve("openai/gpt-4o").batch is None


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{api: gemini}", "batch.api"),
        ("{api: openai, rwos: 5}", "Did you mean 'rows'"),
        ("{api: openai, discount: 2}", "batch.discount"),
        ("{rows: 5}", "batch.api"),
    ],
)
def test_a_wrong_batch_section_is_named(tmp_path: Path, section: str, said: str) -> None:
    entry = f"  m: {{transport: openai, base_url: 'http://127.0.0.1:9/v1', batch: {section}}}\n"
    (tmp_path / "models.yaml").write_text("models:\n" + entry)
    with pytest.raises(SpecError, match=said):
        ModelBook.load(tmp_path / "models.yaml", {})


def test_files_lie_beside_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from db.database import Database

    with Database.open(f"sqlite:///{tmp_path}/a/c.db") as database:
        assert folder_of(database) == tmp_path / "a" / "batches"
    assert ModelSpec(name="m", transport="openai", model="m").batch is None
