"""What the probe tells of servers that can, cannot, or overlook what they are asked."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
from aiohttp import web

from providers.errors import AuthError, ConnectionFailed
from providers.models import ModelSpec
from providers.probe import MOST_REQUESTS, MOST_TOKENS, Probed, probe


class Opinionated:
    """A server that answers as it is told to, in chat completions."""

    def __init__(self, **habits: object) -> None:
        self.habits = habits
        self.requests = 0
        self.url = ""
        self._runner = web.ServerRunner(web.Server(self._serve))

    async def __aenter__(self) -> Opinionated:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def probed(self) -> Probed:
        spec = ModelSpec(name="m", transport="openai", model="m", base_url=self.url)
        return await probe(spec, None)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests += 1
        body = orjson.loads(await request.read())
        status = self._status(body)
        if status == 0 and request.transport is not None:
            request.transport.abort()
        answer = self._answer(body) if status == 200 else {"error": {"message": "no such thing"}}
        return web.Response(body=orjson.dumps(answer), status=status or 500, content_type="application/json")

    def _status(self, body: dict[str, Any]) -> int:
        refuses = self.habits.get("refuses", {})
        assert isinstance(refuses, dict)
        return next((status for field, status in refuses.items() if field in body), 200)

    def _answer(self, body: dict[str, Any]) -> dict[str, object]:
        text = str(self.habits.get("text", "1, 2, 3, 4"))
        if body.get("seed") is not None and "seed" in self.habits:
            source = random.Random(body["seed"] if self.habits["seed"] == "kept" else None)
            text = " ".join(str(source.randrange(10**6)) for _ in range(4))
        if self.habits.get("stops") and body.get("stop"):
            text = text.split(body["stop"][0])[0]
        if self.habits.get("biased") and "logit_bias" in body:
            text = "a" * body["max_tokens"]
        choice = {"message": {"content": text}, "finish_reason": "stop"}
        reply: dict[str, object] = {"choices": [choice] * int(body.get("n") or 1)}
        if self.habits.get("counts", True):
            continued = self.habits.get("continues") and body.get("continue_final_message")
            prompt = sum(len(message["content"]) for message in body["messages"]) + (0 if continued else 5)
            reply["usage"] = {"prompt_tokens": prompt, "completion_tokens": min(body["max_tokens"], 8)}
        return reply


async def test_one_that_can_do_it_all_but_log_probabilities() -> None:
    async with Opinionated(seed="kept", stops=True, biased=True, continues=True) as server:
        found = await server.probed()
    assert found.capabilities == {
        "usage": True,
        "n": True,
        "logprobs": False,
        "top_logprobs": False,
        "stop": True,
        "seed": True,
        "prefix_continuation": True,
        "logit_bias": True,
    }
    assert found.requests == server.requests <= MOST_REQUESTS
    assert found.completion_tokens <= MOST_TOKENS


async def test_one_that_overlooks_everything() -> None:
    async with Opinionated(seed="lost") as server:
        found = (await server.probed()).capabilities
    assert found["seed"] is False
    assert found["stop"] is False
    assert found["prefix_continuation"] is False
    assert found["logit_bias"] is False


async def test_what_cannot_be_told_is_left_out() -> None:
    async with Opinionated(counts=False, text="x") as server:
        found = (await server.probed()).capabilities
    assert found["usage"] is False
    assert not {"seed", "stop", "prefix_continuation"} & found.keys(), "one short answer, whatever is asked"


async def test_a_refusal_is_a_no_and_a_failure_tells_nothing() -> None:
    async with Opinionated(refuses={"n": 400, "stop": 422, "logit_bias": 503, "seed": 429}) as server:
        found = (await server.probed()).capabilities
    assert (found["n"], found["stop"]) == (False, False)
    assert not {"logit_bias", "seed"} & found.keys()


@pytest.mark.parametrize(("status", "error"), [(401, AuthError), (0, ConnectionFailed)])
async def test_who_is_not_let_in_finds_nothing(status: int, error: type[Exception]) -> None:
    async with Opinionated(refuses={"n": status}) as server:
        with pytest.raises(error):
            await server.probed()
