"""Spans and metrics of calls: every token once, no key, no text that was not asked for."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from db.calls import CallStore
from providers import Gateway, Sampling
from providers.base import Message, Reply, Usage, WireRequest
from providers.errors import AuthError
from providers.genai import provider_name, request_attributes, server
from providers.models import ModelSpec
from providers.telemetry import attempt, configure, span
from providers.testing_server import ModelServer
from tests.providers.asking import book_of, request, scope
from tests.recording import Recorded, recording

KEY = "planted-0123456789abcdef"
SECRET_WORD = "zebra-crossing"


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    for name in ("OTEL_SEMCONV_STABILITY_OPT_IN", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"):
        monkeypatch.delenv(name, raising=False)
    with recording() as kept:
        yield kept


async def test_tokens_over_spans_equal_the_ledger_under_faults(
    tmp_path: Path, store: CallStore, recorded: Recorded
) -> None:
    more = "price: {prompt: 1, completion: 2}\n    limits: {retries: 20, in_flight: 16}\n    capabilities: {n: true}"
    async with (
        ModelServer(fault_rate=0.3, fault_seed=3, retry_after_s=0.001) as server_,
        Gateway(book_of(server_, tmp_path, more), store) as gateway,
    ):
        mine = scope()
        async with asyncio.TaskGroup() as tasks:
            for number in range(30):
                tasks.create_task(gateway.ask(request(f"question {number % 20}"), 1 + number % 3, scope=mine, node="a"))
        billed = server_.ledger.prompt_tokens, server_.ledger.completion_tokens
        status = gateway.status()
        attempts = recorded.named("chat ")
        assert status.retries > 5
        assert len(attempts) == status.requests
        sums = recorded.total("gen_ai.usage.input_tokens"), recorded.total("gen_ai.usage.output_tokens")
        assert sums == (status.paid.prompt_tokens, status.paid.completion_tokens)
        assert sums == billed
        assert recorded.metric("gen_ai.client.token.usage", {"gen_ai.token.type": "input"}) == sums[0]
        assert recorded.metric("gen_ai.client.token.usage", {"gen_ai.token.type": "output"}) == sums[1]
        failed = [one for one in attempts if "error.type" in dict(one.attributes or {})]
        assert len(failed) == status.retries
        assert not any("gen_ai.usage.input_tokens" in dict(one.attributes or {}) for one in failed)
        assert recorded.metric("colonnade.client.cost") == pytest.approx(float(status.paid.cost or Decimal(0)))


async def test_an_attempt_says_what_was_asked_and_what_came(
    tmp_path: Path, store: CallStore, recorded: Recorded
) -> None:
    more = "price: {prompt: 1, completion: 2}\n    capabilities: {n: true}"
    async with ModelServer() as server_, Gateway(book_of(server_, tmp_path, more), store) as gateway:
        wanted = request(temperature=0.5, max_tokens=9, stop=("END",), seed=4, top_p=0.9)
        asked = await gateway.ask(wanted, 2, scope=scope(), node="a")
        (one,) = recorded.spans
        usages = [sample.completion.usage for sample in asked.samples]
        attributes = dict(one.attributes or {})
        assert one.name == "chat test-model"
        assert one.kind.name == "CLIENT"
        assert attributes.pop("server.port") == int(server_.url.split(":")[2].removesuffix("/v1"))
        assert attributes.pop("colonnade.cost_usd") == pytest.approx(float(sum(s.cost or 0 for s in asked.samples)))
        assert attributes == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "test-model",
            "gen_ai.response.model": "test-model",
            "server.address": "127.0.0.1",
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.top_p": 0.9,
            "gen_ai.request.max_tokens": 9,
            "gen_ai.request.seed": 4,
            "gen_ai.request.stop_sequences": ("END",),
            "gen_ai.request.choice.count": 2,
            "gen_ai.usage.input_tokens": sum(usage.prompt_tokens for usage in usages),
            "gen_ai.usage.output_tokens": sum(usage.completion_tokens for usage in usages),
            "gen_ai.response.finish_reasons": tuple(sample.completion.finish_reason for sample in asked.samples),
            "colonnade.model": "m",
            "colonnade.attempt": 1,
        }


async def test_a_cached_call_is_marked_and_counts_nothing(tmp_path: Path, store: CallStore, recorded: Recorded) -> None:
    async with ModelServer(latency_s=0.02) as server_:
        book = book_of(server_, tmp_path)
        async with Gateway(book, store) as gateway, asyncio.TaskGroup() as tasks:
            for item in "123":
                tasks.create_task(gateway.ask(request(), 2, scope=scope(item), node="a"))
        async with Gateway(book, store) as gateway:
            await gateway.ask(request(), 3, scope=scope("4"), node="a")
        ledger = server_.ledger
        assert recorded.total("gen_ai.usage.output_tokens") == ledger.completion_tokens
        cached = recorded.named("cached ")
        assert [dict(one.attributes or {})["colonnade.cached.samples"] for one in cached] == [2, 2, 2]
        for one in cached:
            names = set(one.attributes or {})
            assert "colonnade.cached" in names
            assert not any(name.startswith("gen_ai.usage") or name == "gen_ai.operation.name" for name in names)
        assert recorded.metric("colonnade.client.cached_samples") == 6


async def test_keys_messages_and_answers_stay_out(tmp_path: Path, store: CallStore, recorded: Recorded) -> None:
    more = "api_key_env: M_KEY\n    limits: {retries: 0}"
    async with ModelServer(api_key="other", reply=lambda _: SECRET_WORD) as server_:
        book = book_of(server_, tmp_path, more, env={"M_KEY": KEY})
        async with Gateway(book, store) as gateway:
            with pytest.raises(AuthError):
                await gateway.ask(request(f"{SECRET_WORD}?"), scope=scope(), node="a")
    async with (
        ModelServer(reply=lambda _: SECRET_WORD) as server_,
        Gateway(book_of(server_, tmp_path, more, env={"M_KEY": KEY}), store) as gateway,
    ):
        await gateway.ask(request(f"{SECRET_WORD}!"), scope=scope(), node="a")
    (refused,) = [one for one in recorded.spans if "error.type" in dict(one.attributes or {})]
    assert dict(refused.attributes or {})["error.type"] == "auth"
    assert not refused.status.description
    assert not refused.events
    assert KEY not in recorded.text()
    assert SECRET_WORD not in recorded.text()


@pytest.mark.parametrize("setting", ["true", "SPAN_ONLY"])
async def test_content_where_it_is_asked_for_still_has_no_key(
    setting: str, tmp_path: Path, store: CallStore, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", setting)
    async with ModelServer(reply=lambda _: f"the key {KEY} again") as server_:
        book = book_of(server_, tmp_path, "api_key_env: M_KEY", env={"M_KEY": KEY})
        async with Gateway(book, store) as gateway:
            await gateway.ask(request(f"my key is {KEY}"), scope=scope(), node="a")
    attributes = dict(recorded.spans[0].attributes or {})
    asked, answered = (json.loads(str(attributes[f"gen_ai.{way}.messages"])) for way in ("input", "output"))
    assert asked == [{"role": "user", "parts": [{"type": "text", "content": "my key is [key]"}]}]
    assert answered[0]["parts"] == [{"type": "text", "content": "the key [key] again"}]
    assert answered[0]["finish_reason"] == "stop"
    assert KEY not in recorded.text()


async def test_estimated_tokens_are_marked_and_stay_out_of_the_metric(
    tmp_path: Path, store: CallStore, recorded: Recorded
) -> None:
    async with ModelServer(script=("no-usage",)) as server_, Gateway(book_of(server_, tmp_path), store) as gateway:
        await gateway.ask(request(), scope=scope(), node="a")
        attributes = dict(recorded.spans[0].attributes or {})
        assert attributes["colonnade.usage.estimated"] is True
        assert attributes["gen_ai.usage.output_tokens"] == gateway.status().paid.completion_tokens
    assert "gen_ai.client.token.usage" not in recorded.metrics()
    assert "gen_ai.client.operation.duration" in recorded.metrics()


async def test_the_newest_names_on_demand(tmp_path: Path, store: CallStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http, gen_ai_latest_experimental")
    with recording() as recorded:
        async with ModelServer() as server_, Gateway(book_of(server_, tmp_path), store) as gateway:
            await gateway.ask(request(), scope=scope(), node="a")
            ledger = server_.ledger
    place = "gen_ai.client.inference"
    assert recorded.metrics() == {
        f"{place}.duration",
        f"{place}.usage.input_tokens",
        f"{place}.usage.output_tokens",
        "colonnade.client.cost",
    }
    assert recorded.metric(f"{place}.usage.input_tokens", {"gen_ai.token.modality": "text"}) == ledger.prompt_tokens
    assert recorded.metric(f"{place}.usage.output_tokens") == ledger.completion_tokens


@pytest.mark.parametrize("newest", [False, True])
def test_what_the_providers_cache_served_is_said(newest: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from providers.base import Completion

    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental" if newest else "")
    with recording() as recorded:
        spec, asked = model(), wire()
        done = Completion(text="4", finish_reason="stop", usage=Usage(100, 5, 80))
        with attempt(spec, asked, address="https://eu.example.org/v1") as one:
            one.set({"colonnade.own": 1})
            assert one.recording
            one.answered(Reply(completions=(done,)), rent=Decimal("0.25"))
    attributes = dict(recorded.spans[0].attributes or {})
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 80
    assert (attributes["server.address"], attributes["server.port"]) == ("eu.example.org", 443)
    assert attributes["colonnade.cost_usd"] == 0.25
    assert recorded.metric("gen_ai.client.inference.usage.cache_read.input_tokens") == (80 if newest else 0)


def test_the_operation_is_named() -> None:
    with recording() as recorded:
        for spec, asked in ((model(), None), (model(api="completions"), None), (model(), "score")):
            with attempt(spec, wire(), asked=asked):
                pass
    assert [one.name for one in recorded.spans] == ["chat test", "text_completion test", "score test"]
    named = [dict(one.attributes or {})["gen_ai.operation.name"] for one in recorded.spans]
    assert named == ["chat", "text_completion", "score"]


async def test_a_cancelled_attempt_is_one(tmp_path: Path, store: CallStore, recorded: Recorded) -> None:
    async with ModelServer(latency_s=3600) as server_, Gateway(book_of(server_, tmp_path), store) as gateway:
        asking = asyncio.create_task(gateway.ask(request(), scope=scope(), node="a"))
        while not server_.ledger.requests:  # noqa: ASYNC110 - the server counts, it does not call
            await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert dict(recorded.spans[0].attributes or {})["error.type"] == "cancelled"


@pytest.mark.parametrize("tracing", [True, False])
async def test_spans_without_metrics_and_metrics_without_spans(tracing: bool, tmp_path: Path, store: CallStore) -> None:
    with recording() as recorded:
        from opentelemetry.metrics import NoOpMeterProvider
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace import NoOpTracerProvider

        if tracing:
            configure(tracer_provider=TracerProvider(shutdown_on_exit=False), meter_provider=NoOpMeterProvider())
        else:
            reader = InMemoryMetricReader()
            metering = MeterProvider([reader], shutdown_on_exit=False)
            configure(tracer_provider=NoOpTracerProvider(), meter_provider=metering)
        async with ModelServer() as server_, Gateway(book_of(server_, tmp_path), store) as gateway:
            for item in "12":
                await gateway.ask(request(), scope=scope(item), node="a")
            assert gateway.status().cached_calls == 1
        with span("own", {}) as own:
            assert own.recording == tracing
            own.set({"a": 1})
        if not tracing:
            data = reader.get_metrics_data()
            assert data is not None
            names = {metric.name for metric in data.resource_metrics[0].scope_metrics[0].metrics}
            assert names >= {"gen_ai.client.operation.duration", "colonnade.client.cached_samples"}
            metering.shutdown()
    assert recorded.spans == ()


def model(**more: object) -> ModelSpec:
    return ModelSpec.model_validate(
        {"name": "m", "transport": "openai", "model": "test", "base_url": "http://127.0.0.1:8000/v1", **more}
    )


def wire(**sampling: object) -> WireRequest:
    drawn = Sampling(**sampling)  # type: ignore[arg-type]  # the names are those of Sampling
    return WireRequest(model="test", messages=(Message("user", "hello"),), sampling=drawn, indices=(0,), seeds=(0,))


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({}, "openai"),
        ({"transport": "litellm", "model": "anthropic/claude-x"}, "anthropic"),
        ({"transport": "litellm", "model": "bedrock/anthropic.claude-x"}, "aws.bedrock"),
        ({"transport": "litellm", "model": "no-slash"}, "litellm"),
        ({"transport": "embedded", "model": "mini", "base_url": None}, "embedded"),
    ],
)
def test_providers_have_the_names_of_the_conventions(more: dict[str, object], name: str) -> None:
    assert provider_name(model(**more)) == name


def test_an_address_is_host_and_port_alone() -> None:
    assert server(model()) == {"server.address": "127.0.0.1", "server.port": 8000}
    assert server(model(base_url=None)) == {"server.address": "api.openai.com", "server.port": 443}
    assert server(model(base_url="http://gpu/v1?key=abc")) == {"server.address": "gpu", "server.port": 80}
    assert server(model(transport="embedded", base_url=None), "m") == {}


def test_what_is_left_to_the_server_is_left_out() -> None:
    assert request_attributes(wire()) == {}
    assert request_attributes(wire(temperature=0.0)) == {"gen_ai.request.temperature": 0.0}


def test_without_an_sdk_nothing_is_imported_and_nothing_recorded() -> None:
    code = """
import sys
from providers.telemetry import attempt, span
with span("a", {}) as one:
    one.set({"x": 1})
    assert not one.recording
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
import opentelemetry.trace
with span("a", {}) as one, opentelemetry.trace.get_tracer("x").start_as_current_span("y") as other:
    assert not one.recording and not other.is_recording()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_global_sdk_is_found_when_it_is_set_up_late() -> None:
    pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk, of the dev extra")
    code = """
import os
from providers.telemetry import span
with span("early", {}) as one:
    assert not one.recording
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
with span("late", {}) as one:
    print(one.recording)
"""
    for disabled in (False, True):
        environment = {"OTEL_SDK_DISABLED": "true" if disabled else "false", "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
        )
        assert (done.stdout.strip(), done.stderr) == (str(not disabled), "")
