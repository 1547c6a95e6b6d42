"""The trace of an item: item, architecture, node, attempt; each token under one attempt and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from architectures import compile_architecture
from architectures.parse import parse
from db.calls import CallStore
from db.database import Database
from db.runs import RunStore
from evals import Item, Task, evaluate_items, make_scorer
from providers.gateway import Gateway
from providers.scope import Scope
from providers.testing_server import Asking, ModelServer
from tests.architectures.support import book_at
from tests.recording import Recorded, recording

RUN = "r-20261122-000000"

SPEC = {
    "name": "vote-twice",
    "nodes": {
        "draft": {"use": "generate", "model": "m", "samples": 3},
        "again": {"use": "loop", "max": 2, "after": "draft", "body": {"layers": [{"refine": {"model": "m"}}]}},
        "inner": {
            "use": "architecture",
            "spec": {"layers": [{"generate": {"model": "m", "samples": 2}}, "vote"]},
        },
        "answer": {"use": "vote", "after": ["again", "inner"]},
    },
    "output": "answer",
}


def reply(asking: Asking) -> str:
    return "Grade: correct" if "Grade:" in asking.prompt else f"We add.\nAnswer: {asking.sample}"


async def evaluated(folder: Path, recorded: Recorded, items: int, **server: object) -> ModelServer:
    """Evaluate the architecture on some items, with a judge that asks too; return the server's books."""
    task = Task(
        name="sums",
        items=tuple(Item(id=f"sum-{i}", question=f"What is {i} plus {i}?", gold=str(2 * i)) for i in range(items)),
        scorer=make_scorer("judge", model="m"),
    )
    with Database.open(f"sqlite:///{folder}/colonnade.db") as database:
        calls = CallStore(database)
        async with ModelServer(reply=reply, retry_after_s=0.01, **server) as running:  # type: ignore[arg-type]  # settings
            book = book_at(running.url, "m")
            compiled = compile_architecture(parse(SPEC), book)
            async with Gateway(book, calls) as gateway:
                store = RunStore(database)
                store.create(kind="evaluate", name="sums", run_id=RUN)
                done = await evaluate_items(
                    compiled, task.items, task, gateway, store, RUN, architecture_id=compiled.spec.id, concurrency=4
                )
                assert {result.status for result in done.results} == {"ok"}
                paid = gateway.status().paid
                sums = (
                    recorded.total("gen_ai.usage.input_tokens"),
                    recorded.total("gen_ai.usage.output_tokens"),
                )
                assert sums == (paid.prompt_tokens, paid.completion_tokens)
                assert sums == (running.ledger.prompt_tokens, running.ledger.completion_tokens)
        calls.close()
    return running


async def test_a_trace_is_a_tree_and_counts_every_token_once(tmp_path: Path) -> None:
    with recording() as recorded:
        await evaluated(tmp_path, recorded, 5, script=("429-retry-after", None, "500"))
    items = recorded.named("item")
    assert len(items) == 5
    assert all(span.parent is None for span in items)
    assert {span.name for span in recorded.spans if span.parent is None} == {"item"}
    for item in items:
        said = dict(item.attributes or {})
        assert (said["colonnade.run.id"], said["colonnade.task"], said["colonnade.item.status"]) == (RUN, "sums", "ok")
        workflow = next(span for span in recorded.children(item) if span.name == "invoke_workflow vote-twice")
        nodes = recorded.children(workflow)
        assert {span.name for span in nodes} == {"node draft", "node again", "node inner", "node answer"}
        again = next(span for span in nodes if span.name == "node again")
        rounds = {dict(span.attributes or {})["colonnade.node.id"] for span in recorded.children(again)}
        assert rounds == {"again.1.refine", "again.2.refine"}
        draft = next(span for span in nodes if span.name == "node draft")
        assert {span.name for span in recorded.children(draft)} == {"chat test-model"}
    for span in recorded.spans:
        names = set(span.attributes or {})
        assert span.name.startswith("chat ") or not any(name.startswith("gen_ai.usage") for name in names)
        assert not span.name.startswith("chat ") or not any(name.startswith("colonnade.total") for name in names)


async def test_sums_of_parents_are_those_of_what_lies_below(tmp_path: Path) -> None:
    with recording() as recorded:
        await evaluated(tmp_path, recorded, 4)
    tokens = recorded.total("gen_ai.usage.output_tokens")
    assert recorded.total("colonnade.total.output_tokens_paid", among="item") == tokens
    judged = sum(
        int(str(dict(span.attributes or {})["gen_ai.usage.output_tokens"]))
        for item in recorded.named("item")
        for span in recorded.children(item)
        if span.name.startswith("chat ")
    )
    assert judged > 0
    workflows = recorded.total("colonnade.total.output_tokens", among="invoke_workflow")
    assert workflows == tokens - judged
    outer = ("node draft", "node again", "node inner", "node answer")
    assert sum(recorded.total("colonnade.total.output_tokens", among=name) for name in outer) == workflows
    assert recorded.total("colonnade.total.calls", among="node refine") == recorded.total(
        "colonnade.total.calls", among="node again"
    )


async def test_a_second_run_is_all_cache(tmp_path: Path) -> None:
    with recording() as recorded:
        await evaluated(tmp_path, recorded, 2)
    with recording() as again, Database.open(f"sqlite:///{tmp_path}/colonnade.db") as database:
        calls = CallStore(database)
        book = book_at("http://127.0.0.1:9/v1", "m")
        compiled = compile_architecture(parse(SPEC), book)
        async with Gateway(book, calls) as gateway:
            scope = Scope("another", "sum-1")
            await compiled.run("What is 1 plus 1?", gateway=gateway, scope=scope)
        calls.close()
    assert recorded.named("chat ")
    assert not again.named("chat ")
    assert again.total("gen_ai.usage.output_tokens") == 0
    assert again.total("colonnade.cached.samples") == scope.totals().calls > 0
    assert again.total("colonnade.total.calls_paid", among="invoke_workflow") == 0


async def test_a_trace_that_the_sampler_drops_is_dropped_whole() -> None:
    pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk, of the dev extra")
    from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult

    class NoRoots(Sampler):
        """Drops what begins a trace at its top, and would keep a root that should have been a child."""

        def should_sample(self, parent_context, trace_id, name, *more, **further):  # type: ignore[no-untyped-def]  # the SDK's signature differs between releases
            return SamplingResult(Decision.DROP if name.startswith("invoke_workflow") else Decision.RECORD_AND_SAMPLE)

        def get_description(self) -> str:
            return "no roots"

    async with ModelServer(reply=reply) as running:
        book = book_at(running.url, "m")
        compiled = compile_architecture(parse(SPEC), book)
        with recording(sampler=ParentBased(NoRoots())) as recorded:
            async with Gateway(book, None) as gateway:
                await compiled.run("What is 1 plus 1?", gateway=gateway, scope=Scope("r", "i"))
        assert running.ledger.calls > 0
        assert recorded.spans == ()
        assert recorded.metric("gen_ai.client.token.usage", {"gen_ai.token.type": "output"}) > 0


async def test_a_failed_node_says_so_without_the_servers_words(tmp_path: Path) -> None:
    with recording() as recorded:
        book = book_at("http://127.0.0.1:9/v1", "m", limits={"retries": 0})
        compiled = compile_architecture(parse({"name": "one", "layers": [{"generate": {"model": "m"}}]}), book)
        task = Task(name="t", items=(Item(id="a", question="q", gold="1"),), scorer=make_scorer("numeric"))
        with Database.open(f"sqlite:///{tmp_path}/colonnade.db") as database:
            store = RunStore(database)
            store.create(kind="evaluate", name="t", run_id=RUN)
            async with Gateway(book, None) as gateway:
                await evaluate_items(compiled, task.items, task, gateway, store, RUN, architecture_id=compiled.spec.id)
    kinds = {span.name: dict(span.attributes or {}).get("error.type") for span in recorded.spans}
    assert kinds == {
        "chat test-model": "connection",
        "node generate": "InsufficientCandidates",
        "invoke_workflow one": "InsufficientCandidates",
        "item": None,
    }
    (item,) = recorded.named("item")
    assert dict(item.attributes or {})["colonnade.item.status"] == "failed"
    assert dict(item.attributes or {})["colonnade.total.failures"] == 1
    assert not any(span.events or span.status.description for span in recorded.spans)
