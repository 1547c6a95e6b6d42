"""Techniques on the real gateway, against a real HTTP server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from architectures.context import NodeContext, Run
from db.calls import CallStore
from db.database import Database
from db.errors import InsufficientCandidates
from nodes.base import Range, State, Technique
from nodes.probe import Probe, probes, sample_state
from nodes.registry import BUILT_IN, get
from nodes.testing import ScriptedEstimator, shape_of
from providers.book import ModelBook
from providers.gateway import Gateway
from providers.scope import Scope
from providers.testing_server import Asking, ModelServer
from providers.testing_stream import StreamingServer

MODELS = ("fast", "strong", "thinker")
READABLE = "Ranking: [4] > [3] > [2] > [1]\nBetter: [1]\nScore: 7\n1. [Passed]\n2. [Passed]\n[Correct]"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CallStore]:
    with Database.open(f"sqlite:///{tmp_path}/calls.db") as database:
        opened = CallStore(database)
        yield opened
        opened.close()


def reply(asking: Asking) -> str:
    critiques = "\n".join(f"[{number}] sound" for number in range(1, 5))
    return f"{critiques}\n{READABLE}\nSample {asking.sample} of {asking.model}\nAnswer: {asking.sample % 3}"


def book(server: ModelServer, folder: Path, retries: int = 0) -> ModelBook:
    entry = "{{transport: openai, model: {name}, base_url: '{url}', limits: {{retries: {retries}}}, {able}}}"
    able = "capabilities: {n: true, logprobs: true, top_logprobs: true, stop: true, prefix_continuation: true}"
    lines = [f"  {name}: {entry.format(name=name, url=server.url, retries=retries, able=able)}" for name in MODELS]
    path = folder / "models.yaml"
    path.write_text("\n".join(["models:", *lines]))
    return ModelBook.load(path, {})


async def run(technique: Technique, gateway: Gateway, state: State | None = None) -> State:
    context = NodeContext("here", 0, Run(gateway=gateway, scope=Scope("r-1", "1"), answer_kind="auto"))
    return await technique.run(state or sample_state(), context)


REMEMBERING = {"concept_memory", "concept_store"}
"""What they ask for depends on what earlier runs have stored."""
PROBES = [probe for name in BUILT_IN for probe in probes(name)]
PROBES.append(Probe(technique=get("rank").model_validate({"model": "strong", "method": "pairwise"})))


@pytest.mark.parametrize("probe", PROBES, ids=str)
async def test_the_server_sees_what_was_planned_and_nothing_twice(
    probe: Probe, tmp_path: Path, store: CallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # Whoever hangs up waits for the server's last words, also where the machine stands still meanwhile.
    monkeypatch.setattr("providers.hangup._HEADERS_S", 60.0)
    monkeypatch.setattr("providers.hangup.LINGER_S", 60.0)
    async with StreamingServer(models=MODELS, reply=reply) as server, Gateway(book(server, tmp_path), store) as gateway:
        first = await run(probe.technique, gateway)
        plan = probe.technique.plan(shape_of(probe.state), ScriptedEstimator(Range(1, 1, 1)))
        await server.idle()
        calls, requests = server.ledger.calls + server.hung_up, server.ledger.requests
        assert sum(call.calls.low for call in plan.calls) <= calls <= sum(call.calls.high for call in plan.calls)
        assert requests <= sum(call.requests.high for call in plan.calls)
        if probe.name in REMEMBERING:
            return
        assert await run(probe.technique, gateway) == first
        # This server tells no probability of a yes, so such a score fails, and what failed is asked again.
        failed = any(note.kind == "call_failed" for note in first.notes)
        assert failed or server.ledger.requests == requests, "paid twice"


async def test_survivors_of_a_failing_server_go_on(tmp_path: Path, store: CallStore) -> None:
    judge = get("judge").model_validate({"model": "strong"})
    faulty = ModelServer(models=MODELS, reply=reply, script=["500", None, "context-length", "truncated"])
    async with faulty as server, Gateway(book(server, tmp_path), store) as gateway:
        after = await run(judge, gateway)
    failed = sorted(note.detail.split(": ")[1] for note in after.notes if note.kind == "call_failed")
    assert failed == ["context_length", "malformed", "overloaded"]
    assert sorted(candidate.scores["here"] for candidate in after.candidates) == [0, 0, 0, 7]
    assert len(after.candidates) == 4


async def test_where_nothing_survives_the_node_and_the_error_are_named(tmp_path: Path, store: CallStore) -> None:
    generate = get("generate").model_validate({"model": list(MODELS[:2])})
    faulty = ModelServer(models=MODELS, script=["bad-request", "content-filter"])
    async with faulty as server, Gateway(book(server, tmp_path), store) as gateway:
        with pytest.raises(InsufficientCandidates, match=r"Node 'here' .* 2 calls failed, the last with \w+: "):
            await run(generate, gateway)
