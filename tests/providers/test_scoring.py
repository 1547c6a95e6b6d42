"""Scores of given text: from the embedded model, from a server with vLLM's paths, and from what every server has."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from db.calls import CallStore
from providers import Gateway, Message, ModelBook, Request, Sampling, ScoreRequest
from providers.errors import BadRequest, MalformedReply
from providers.scoring import ScoreKind
from tests.providers.asking import scope

ASKED = (Message("user", "2 + 3?"), Message("assistant", "It is 5."))


class ScoringServer:
    """A server with the paths of vLLM: one token a word, whose log probability is minus its length."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, object] = {}
        self.url = ""
        self._runner = web.ServerRunner(web.Server(self._serve))

    async def __aenter__(self) -> ScoringServer:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        body = orjson.loads(await request.read())
        self.requests.append((request.path, body))
        answer = self.answers.get(request.path) or self._answer(request.path, body)
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    def _answer(self, path: str, body: dict[str, Any]) -> dict[str, object]:
        usage = {"prompt_tokens": 7, "completion_tokens": 0}
        if path == "/pooling":
            return {"data": [{"data": [[0.1, 0.9], [0.75, 0.25]]}], "usage": usage}
        if path == "/v1/score":
            return {"data": [{"score": len(body["text_2"]) / 10}], "usage": usage}
        if path == "/v1/completions":
            return self._plain(body)
        words = [word for message in body["messages"] for word in message["content"].split()]
        if path == "/tokenize":
            return {"count": len(words)}
        reply: dict[str, object] = {
            "choices": [{"message": {"content": "x"}, "finish_reason": "length"}],
            "usage": usage,
        }
        if "prompt_logprobs" in body:
            logprobs = [{"9": {"logprob": -len(word), "decoded_token": word}} for word in words]
            return {**reply, "prompt_logprobs": [None, *logprobs[1:]]}
        return reply

    def _plain(self, body: dict[str, Any]) -> dict[str, object]:
        words = body["prompt"].split(" ")
        starts = [len(" ".join(words[:place])) + (place > 0) for place in range(len(words))]
        tokens, values, text = [*words, "more"], [*(-float(len(word)) for word in words), -1.0], body["prompt"]
        logprobs = {
            "tokens": tokens if body.get("echo") else tokens[-1:],
            "token_logprobs": values if body.get("echo") else values[-1:],
            "text_offset": [*starts, len(text)],
            "top_logprobs": [{"more": -1.0, "less": -0.5}] if not body.get("echo") else None,
        }
        choice = {"text": " more", "finish_reason": "length", "logprobs": logprobs if "logprobs" in body else None}
        return {"choices": [choice], "usage": {"prompt_tokens": len(words), "completion_tokens": 1}}


@pytest.fixture
async def server() -> AsyncIterator[ScoringServer]:
    async with ScoringServer() as running:
        yield running


def book(server: ScoringServer, folder: Path, more: str = "api: chat") -> ModelBook:
    text = f"models:\n  m:\n    transport: openai\n    base_url: {server.url}\n    {more}\n"
    (folder / "models.yaml").write_text(text, encoding="utf-8")
    return ModelBook.load(folder / "models.yaml", {})


def wanted(kind: ScoreKind, messages: tuple[Message, ...] = ASKED, model: str = "m") -> ScoreRequest:
    return ScoreRequest(model=model, messages=messages, kind=kind)


async def test_the_embedded_judge_scores_and_is_asked_once(store: CallStore) -> None:
    messages = (Message("user", "Problem: 2 + 2\nStep: 4\nRight?"),)
    async with Gateway(ModelBook(), store) as gateway:
        first = await gateway.score(wanted("yes", messages, "embedded/judge"), scope=scope(), node="v")
        again = await gateway.score(wanted("yes", messages, "embedded/judge"), scope=scope("2"), node="v")
        answer = await gateway.ask(Request(model="embedded/judge", messages=messages), scope=scope(), node="v")
    assert 0 <= first.value <= 1
    assert again.value == first.value
    assert (first.sample.cached, again.sample.cached) == (False, True)
    assert first.sample.completion.usage.prompt_tokens > 0
    assert answer.samples[0].key != first.sample.key
    async with Gateway(ModelBook(), store) as gateway:
        stored = await gateway.score(wanted("yes", messages, "embedded/judge"), scope=scope("3"), node="v")
    assert stored.value == first.value
    assert stored.sample.cached


async def test_a_likelihood_counts_the_last_message_alone(server: ScoringServer, tmp_path: Path) -> None:
    async with Gateway(book(server, tmp_path, "price: {prompt: 1, completion: 1}"), None) as gateway:
        mine = scope()
        score = await gateway.score(wanted("likelihood"), scope=mine, node="v")
    assert [token.token for token in score.tokens] == ["It", "is", "5."]
    assert score.value == -6.0
    assert [path for path, _ in server.requests] == ["/tokenize", "/v1/chat/completions"]
    assert server.requests[0][1]["add_generation_prompt"] is True
    assert server.requests[1][1]["continue_final_message"] is True
    assert mine.totals().paid_prompt_tokens == 7
    assert score.cost


async def test_a_base_model_is_given_plain_text(server: ScoringServer, tmp_path: Path) -> None:
    models = book(server, tmp_path, "api: completions\n    capabilities: {prefix_continuation: true}")
    text = (Message("user", "one two "), Message("assistant", "three four"))
    async with Gateway(models, None) as gateway:
        score = await gateway.score(wanted("likelihood", text), scope=scope(), node="v")
        sampling = Sampling(temperature=0.5, max_tokens=4, top_logprobs=2)
        request = Request(model="m", messages=text, sampling=sampling, continue_final=True)
        asked = await gateway.ask(request, scope=scope(), node="v")
    assert [token.token for token in score.tokens] == ["three", "four"]
    assert score.value == -9.0
    completion = asked.samples[0].completion
    assert completion.text == " more"
    assert completion.logprobs is not None
    assert completion.logprobs[0].top == (("less", -0.5), ("more", -1.0))
    path, body = server.requests[-1]
    assert path == "/v1/completions"
    assert body == {"model": "m", "prompt": "one two three four", "temperature": 0.5, "max_tokens": 4, "logprobs": 2}


async def test_rewards_and_pairs(server: ScoringServer, tmp_path: Path) -> None:
    async with Gateway(book(server, tmp_path), None) as gateway:
        assert (await gateway.score(wanted("reward"), scope=scope(), node="v")).value == 0.25
        assert (await gateway.score(wanted("pair"), scope=scope(), node="v")).value == 0.8
        with pytest.raises(BadRequest, match="A pair is two messages, not 1"):
            await gateway.score(wanted("pair", ASKED[:1]), scope=scope(), node="v")
        with pytest.raises(BadRequest, match="messages before the last"):
            await gateway.score(wanted("likelihood", ASKED[:1]), scope=scope(), node="v")
        failing = scope()
        with pytest.raises(BadRequest):
            await gateway.score(wanted("pair", ASKED[:1]), scope=failing, node="v")
        assert len(failing.failures) == 1


async def test_yes_from_the_likeliest_next_tokens(server: ScoringServer, tmp_path: Path) -> None:
    def next_tokens(*tops: tuple[str, float]) -> dict[str, object]:
        top = [{"token": token, "logprob": math.log(share)} for token, share in tops]
        content = [{"token": "x", "logprob": -1.0, "top_logprobs": top}]
        return {"choices": [{"message": {"content": "x"}, "finish_reason": "length", "logprobs": {"content": content}}]}

    server.answers["/v1/chat/completions"] = next_tokens((" Yes", 0.3), ("yes", 0.3), (" no", 0.2), ("maybe", 0.1))
    async with Gateway(book(server, tmp_path), None) as gateway:
        assert (await gateway.score(wanted("yes"), scope=scope(), node="v")).value == pytest.approx(0.75)
        assert server.requests[-1][1]["top_logprobs"] == 20
        server.answers["/v1/chat/completions"] = next_tokens(("maybe", 0.9))
        with pytest.raises(BadRequest, match="Neither yes nor no"):
            await gateway.score(wanted("yes", ASKED[:1]), scope=scope(), node="v")


@pytest.mark.parametrize(
    ("kind", "path", "answer"),
    [
        ("reward", "/pooling", {"data": []}),
        ("reward", "/pooling", {"data": [{"data": ["high"]}]}),
        ("pair", "/v1/score", {"data": [{"score": True}]}),
        ("pair", "/v1/score", ["no object"]),
        ("likelihood", "/tokenize", {"count": None}),
        ("likelihood", "/tokenize", {"count": 99}),
        ("likelihood", "/v1/chat/completions", {"prompt_logprobs": [None, None, None, {}]}),
        ("likelihood", "/v1/chat/completions", {"prompt_logprobs": [None, None, None, {"3": 4}]}),
    ],
)
async def test_what_cannot_be_read_is_no_score(
    server: ScoringServer, tmp_path: Path, kind: ScoreKind, path: str, answer: object
) -> None:
    server.answers[path] = answer
    async with Gateway(book(server, tmp_path, "limits: {retries: 0}"), None) as gateway:
        with pytest.raises(MalformedReply):
            await gateway.score(wanted(kind), scope=scope(), node="v")


async def test_plain_answers_that_cannot_be_read(server: ScoringServer, tmp_path: Path) -> None:
    models = book(server, tmp_path, "api: completions\n    limits: {retries: 0}")
    broken: list[object] = [
        {"choices": []},
        {"choices": [{"text": "x", "logprobs": None}]},
        {"choices": [{"text": "x", "logprobs": {"text_offset": [0], "tokens": ["x"]}}]},
    ]
    async with Gateway(models, None) as gateway:
        for number, answer in enumerate(broken):
            server.answers["/v1/completions"] = answer
            with pytest.raises(MalformedReply):
                await gateway.score(wanted("likelihood"), scope=scope(str(number)), node="v")
        for number, answer in enumerate([{"error": "x"}, {"choices": ["x"]}]):
            server.answers["/v1/completions"] = answer
            asked = await gateway.ask(Request(model="m", messages=ASKED), scope=scope(str(number)), node="v")
            assert isinstance(asked.failures[0], MalformedReply)


async def test_who_gives_no_scores_says_so(server: ScoringServer, tmp_path: Path) -> None:
    server.answers["/v1/chat/completions"] = {"choices": [], "prompt_logprobs": None}
    async with Gateway(book(server, tmp_path), None) as gateway:
        with pytest.raises(BadRequest, match="no log probabilities of prompts"):
            await gateway.score(wanted("likelihood"), scope=scope(), node="v")
        with pytest.raises(BadRequest, match="no scores of the kind 'reward'"):
            await gateway.score(wanted("reward", model="embedded/nano"), scope=scope(), node="v")
