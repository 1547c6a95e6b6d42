"""The server with batch APIs, held against the openai SDK's own types and against Anthropic's documented shapes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest

from providers.testing_batch_server import BatchServer, Limits, Stages, main

_COUNTS = {"processing", "succeeded", "errored", "canceled", "expired"}
_BATCH = {
    "id",
    "type",
    "processing_status",
    "request_counts",
    "ended_at",
    "created_at",
    "expires_at",
    "archived_at",
    "cancel_initiated_at",
    "results_url",
}


@pytest.fixture
async def server() -> AsyncIterator[BatchServer]:
    async with BatchServer(stages=Stages(seen=True), counting=False) as opened:
        yield opened


def _client(server: BatchServer) -> openai.AsyncOpenAI:
    """Return a client that refuses answers which are not of the SDK's types."""
    return openai.AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0, _strict_response_validation=True)


def _body(text: str, **more: object) -> dict[str, object]:
    return {"model": "test-model", "messages": [{"role": "user", "content": text}], "max_tokens": 50, **more}


def _file(*bodies: dict[str, object]) -> tuple[str, bytes]:
    lines = (
        {"custom_id": f"c{n}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for n, body in enumerate(bodies)
    )
    return "input.jsonl", "\n".join(map(json.dumps, lines)).encode()


async def _create(client: openai.AsyncOpenAI, *bodies: dict[str, object]) -> openai.types.Batch:
    file = await client.files.create(file=_file(*bodies), purpose="batch")
    assert (file.purpose, file.status) == ("batch", "processed")
    return await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"m": "x"}
    )


async def test_a_batch_goes_through_its_states(server: BatchServer) -> None:
    async with _client(server) as client:
        batch = await _create(client, _body("one", n=2, seed=3), _body("two", seed=4))
        seen = [batch.status]
        while seen[-1] != "completed":
            batch = await client.batches.retrieve(batch.id)
            seen.append(batch.status)
        assert list(dict.fromkeys(seen)) == ["validating", "in_progress", "finalizing", "completed"]
        assert batch.request_counts is not None
        assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (2, 2, 0)
        assert (batch.metadata, batch.error_file_id) == ({"m": "x"}, None)
        assert batch.output_file_id is not None
        output = (await client.files.content(batch.output_file_id)).text
        replies = {line["custom_id"]: line["response"] for line in map(json.loads, output.splitlines())}
        assert {reply["status_code"] for reply in replies.values()} == {200}
        immediate = await client.chat.completions.create(**_body("one", n=2, seed=3))  # type: ignore[call-overload]
        of_batch = openai.types.chat.ChatCompletion.model_validate(replies["c0"]["body"])
        assert of_batch.choices == immediate.choices
        assert (await client.files.retrieve(batch.output_file_id)).purpose == "batch_output"


async def test_lists_have_pages_with_the_newest_first(server: BatchServer) -> None:
    async with _client(server) as client:
        made = [(await _create(client, _body(str(n)))).id for n in range(5)]
        assert [batch.id async for batch in client.batches.list(limit=2)] == made[::-1]


async def test_what_expires_fails_or_is_cancelled_is_in_the_error_file() -> None:
    settings: dict[str, Any] = {"expire_share": 0.25, "fail_share": 0.25}
    async with BatchServer(**settings) as server, _client(server) as client:
        batch = await _create(client, *(_body(str(n)) for n in range(4)))
        batch = await client.batches.retrieve(batch.id)
        assert (batch.status, batch.request_counts and batch.request_counts.failed) == ("expired", 2)
        assert batch.error_file_id is not None
        lines = [json.loads(line) for line in (await client.files.content(batch.error_file_id)).text.splitlines()]
        assert {line["custom_id"]: (line["response"] or {}).get("status_code") for line in lines} == {
            "c0": 500,
            "c3": None,
        }
        assert lines[-1]["error"]["code"] == "batch_expired"
        server.stages = Stages(running_s=3600, cancelling_s=0.05)
        batch = await _create(client, _body("late"))
        assert (await client.batches.cancel(batch.id)).status == "cancelling"
        while batch.status != "cancelled":
            batch = await client.batches.retrieve(batch.id)
        with pytest.raises(openai.ConflictError, match="Cannot cancel"):
            await client.batches.cancel(batch.id)


async def test_limits_are_those_of_the_real_one() -> None:
    limits = Limits(rows=3, bytes=1000, tokens=120)
    async with BatchServer(stages=Stages(running_s=3600), limits=limits) as server, _client(server) as client:
        for bodies, code in (
            ([_body("x")] * 4, "too_many_requests"),
            ([_body("x"), _body("x", model="other")], "mismatched_model"),
            ([_body("x")] * 3, "token_limit_exceeded"),
        ):
            batch = await _create(client, *bodies)
            batch = await client.batches.retrieve(batch.id)
            assert batch.status == "failed"
            assert batch.errors is not None
            assert [error.code for error in batch.errors.data or ()] == [code]
        with pytest.raises(openai.APIStatusError, match="larger than 1000 bytes"):
            await client.files.create(file=_file(_body("x" * 2000)), purpose="batch")
        with pytest.raises(openai.BadRequestError, match="purpose"):
            await client.files.create(file=_file(_body("x")), purpose="user_data")
        with pytest.raises(openai.NotFoundError):
            await client.batches.retrieve("batch_9")
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve("file-9")
        with pytest.raises(openai.BadRequestError):
            await client.batches.create(
                input_file_id="file-9", endpoint="/v1/chat/completions", completion_window="24h"
            )
        assert server.batches.batches == 0


async def test_the_form_of_anthropic(server: BatchServer) -> None:
    server.stages = Stages(running_s=0.05)
    requests = [
        {"custom_id": "a", "params": {**_body("one"), "system": "Be brief.", "stop_sequences": ["Answer"]}},
        {"custom_id": "b", "params": _body("two", max_tokens=2)},
    ]
    async with httpx.AsyncClient(base_url=f"{server.url}/messages") as client:
        batch = (await client.post("/batches", json={"requests": requests})).json()
        assert batch.keys() == _BATCH
        assert batch["request_counts"].keys() == _COUNTS
        assert (batch["processing_status"], batch["results_url"]) == ("in_progress", None)
        assert (await client.get(f"/batches/{batch['id']}/results")).status_code == 404
        while batch["processing_status"] != "ended":
            batch = (await client.get(f"/batches/{batch['id']}")).json()
        lines = (await client.get(batch["results_url"])).text.splitlines()
        results = {line["custom_id"]: line["result"] for line in map(json.loads, lines)}
        assert {result["type"] for result in results.values()} == {"succeeded"}
        assert results["b"]["message"]["stop_reason"] == "max_tokens"
        assert "Answer" not in results["a"]["message"]["content"][0]["text"]
        immediate = (await client.post("", json=requests[0]["params"])).json()
        assert immediate == results["a"]["message"]
        listed = (await client.get("/batches", params={"limit": 1})).json()
        assert (listed["data"], listed["has_more"], listed["first_id"]) == ([batch], False, batch["id"])
        assert (await client.post(f"/batches/{batch['id']}/cancel")).json() == batch
        assert (await client.get("/batches/other")).status_code == 404
        assert (await client.get("/other")).status_code == 404


async def test_limits_and_keys_in_the_form_of_anthropic() -> None:
    async with BatchServer(limits=Limits(rows=1, bytes=400), api_key="k") as server:
        headers = {"x-api-key": "k"}
        async with httpx.AsyncClient(base_url=f"{server.url}/messages", headers=headers) as client:
            line = {"custom_id": "a", "params": _body("one")}
            assert (await client.post("/batches", json={"requests": [line, line]})).status_code == 400
            assert (await client.post("/batches", json={"requests": [line] * 9})).status_code == 413
            assert (await client.get("/batches", headers={"x-api-key": "other"})).status_code == 401


def test_it_says_where_it_listens(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(self: asyncio.Event) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(asyncio.Event, "wait", interrupted)
    main(["--running", "0.5", "--seen"])
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")
