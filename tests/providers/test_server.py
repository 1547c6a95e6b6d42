"""The test server itself: deterministic, accountable, and usable as a process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request

import aiohttp

from providers.testing_server import ModelServer, count_tokens


async def post(server: ModelServer, **body: object) -> dict[str, object]:
    asked = {"model": "test-model", "messages": [{"role": "user", "content": "hi"}], **body}
    async with aiohttp.ClientSession() as session, session.post(f"{server.url}/chat/completions", json=asked) as answer:
        read: dict[str, object] = await answer.json()
        return read


def texts(answer: dict[str, object]) -> list[str]:
    choices = answer["choices"]
    assert isinstance(choices, list)
    return [choice["message"]["content"] for choice in choices]


async def test_replies_depend_on_prompt_salt_and_sample_alone() -> None:
    async with ModelServer() as one, ModelServer(salt="x") as other, ModelServer(counting=False) as stateless:
        first, second = texts(await post(one, n=2)), texts(await post(one, n=2))
        assert len({*first, *second}) == 4
        assert texts(await post(one, n=4, seed=0)) == first + second
        assert texts(await post(other, n=2)) != first
        assert texts(await post(stateless, n=2)) == texts(await post(stateless, n=2)) == first
        cold = texts(await post(one, n=3, temperature=0))
        assert len(set(cold)) == 1


async def test_the_bill_is_what_the_answers_say() -> None:
    async with ModelServer() as server:
        answer = await post(server, n=3)
        usage = answer["usage"]
        assert isinstance(usage, dict)
        assert usage["completion_tokens"] == sum(count_tokens(text) for text in texts(answer))
        assert (server.ledger.calls, server.ledger.completion_tokens) == (3, usage["completion_tokens"])
        short = await post(server, max_tokens=2)
        assert count_tokens(texts(short)[0]) <= 2


async def test_unknown_paths_and_models_are_refused() -> None:
    async with ModelServer() as server:
        assert "error" in await post(server, model="other")
        async with aiohttp.ClientSession() as session, session.get(f"{server.url}/nowhere") as answer:
            assert answer.status == 404


async def test_no_answer_comes_before_as_many_as_meet_are_under_way() -> None:
    async with ModelServer(meet=3) as server:
        early = [asyncio.create_task(post(server)) for _ in range(2)]
        while server.ledger.requests < 2:  # noqa: ASYNC110 - the server counts, it does not call
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert server.ledger.answered == 0
        await asyncio.gather(*early, post(server))
        await post(server)
        assert (server.ledger.answered, server.ledger.most_at_once) == (4, 3)


async def test_requests_that_are_held_wait_for_the_next_word_and_those_who_left_take_no_room() -> None:
    async with ModelServer() as server:
        server.hold(1)
        await post(server)
        given_up, waiting = (asyncio.create_task(post(server)) for _ in range(2))
        while server.ledger.requests < 3:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        given_up.cancel()
        await asyncio.wait({given_up})
        await asyncio.sleep(0.02)
        assert server.ledger.answered == 1
        server.hold(1)
        await waiting
        last = asyncio.create_task(post(server))
        while server.ledger.requests < 4:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
        assert not last.done()
        server.hold(None)
        await last
        await server.left()
        assert (server.ledger.requests, server.ledger.answered) == (4, 3)


def test_it_runs_as_a_process() -> None:
    command = [sys.executable, "-m", "providers.testing_server", "--models", "a", "b", "--stateless", "--faults", "500"]
    process = subprocess.Popen([*command, "--fault-rate", "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    with urllib.request.urlopen(f"{url}/models") as answer:
        assert [entry["id"] for entry in json.load(answer)["data"]] == ["a", "b"]
    with urllib.request.urlopen(url.removesuffix("/v1") + "/ledger") as answer:
        assert json.load(answer)["requests"] == 0
    process.terminate()
    process.communicate(timeout=120)
