"""The range of a plan holds for any architecture: drawn graphs with conditions, loops and filters, on a real server."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from architectures import check, compile_architecture, plan
from architectures.parse import parse
from architectures.spec import ArchitectureSpec
from db.errors import SpecError
from providers.gateway import Gateway
from providers.scope import Scope
from providers.testing_server import Asking, ModelServer
from tests.architectures.support import answer_well, book_at

NodeData = dict[str, Any]
QUESTION = "Tom has 7 nails and buys 2 boxes of 10. How many nails has he?"
MODELS = st.sampled_from(["fast", "strong"])
NODES: dict[str, st.SearchStrategy[NodeData]] = {
    "generate": st.fixed_dictionaries({"model": MODELS, "samples": st.integers(1, 4)}),
    "vote": st.just({}),
    "judge": st.fixed_dictionaries({"model": MODELS, "keep": st.none() | st.integers(1, 3)}),
    "rank": st.fixed_dictionaries({"model": MODELS, "keep": st.none() | st.integers(1, 3)}),
    "critique": st.fixed_dictionaries({"model": MODELS}),
    "refine": st.fixed_dictionaries({"model": MODELS}),
    "fuse": st.fixed_dictionaries({"model": MODELS, "samples": st.integers(1, 2)}),
    "verify": st.fixed_dictionaries({"model": MODELS, "on_none": st.sampled_from(["all", "best"])}),
}
WHEN = st.fixed_dictionaries(
    {
        "candidates": st.dictionaries(
            st.sampled_from(["above", "below", "equals"]), st.integers(1, 4), min_size=1, max_size=1
        )
    }
)


@st.composite
def chains(draw: st.DrawFn) -> list[NodeData]:
    names = draw(st.lists(st.sampled_from([name for name in NODES if name != "generate"]), min_size=1, max_size=2))
    return [{name: draw(NODES[name])} for name in names]


@st.composite
def graphs(draw: st.DrawFn) -> NodeData:
    nodes: dict[str, NodeData] = {}
    for number in range(draw(st.integers(2, 7))):
        kind = "generate" if number < 2 else draw(st.sampled_from([*NODES, "loop", "architecture"]))
        if kind == "loop":
            node: NodeData = {"use": "loop", "body": draw(chains()), "max": draw(st.integers(1, 3))}
            if draw(st.booleans()):
                node["until"] = draw(WHEN)
        elif kind == "architecture":
            node = {"use": "architecture", "spec": draw(chains())}
        else:
            node = {"use": kind, **draw(NODES[kind])}
        if number >= 2:
            node["after"] = draw(st.lists(st.sampled_from(sorted(nodes)), unique=True, min_size=1, max_size=3))
            if draw(st.booleans()):
                node["when"] = draw(WHEN)
        nodes[f"n{number}"] = node
    followed = {name for node in nodes.values() for name in node.get("after", ())}
    return {"nodes": nodes, "output": [name for name in nodes if name not in followed]}


def uneven(asking: Asking) -> str:
    """Verdicts that differ, so that filters filter."""
    if "exactly one word in brackets" in asking.prompt:
        return "[Correct]" if len(asking.prompt) % 3 else "[Incorrect]"
    return answer_well(asking)


async def spent(spec: ArchitectureSpec) -> tuple[ModelServer, Scope, list[str]]:
    scope = Scope("r", "i")
    async with ModelServer(reply=uneven) as server, Gateway(book_at(server.url), None) as gateway:
        outcome = await compile_architecture(spec).run(QUESTION, gateway=gateway, scope=scope)
    return server, scope, list(outcome.trace)


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(graphs())
def test_what_is_used_lies_within_what_is_foretold(data: NodeData) -> None:
    spec, book = parse(data), book_at()
    try:
        check(spec, book)
    except SpecError:
        assume(False)
    foretold = plan(spec, book, QUESTION)
    server, scope, ran = asyncio.run(spent(spec))
    total, ledger = foretold.total, server.ledger
    # Equal requests of two nodes draw different samples, so whatever a node asks for is asked of the server.
    assert scope.totals().calls == ledger.calls
    assert total.calls.low <= ledger.calls <= total.calls.high
    assert total.requests.low <= ledger.requests <= total.requests.high
    assert total.prompt_tokens.low <= ledger.prompt_tokens <= total.prompt_tokens.high
    assert total.completion_tokens.low <= ledger.completion_tokens <= total.completion_tokens.high
    for low, likely, high in (total.calls, total.requests, total.prompt_tokens, total.completion_tokens):
        assert low <= likely <= high
    for node in foretold.nodes:
        times = sum(".".join(part for part in name.split(".") if not part.isdigit()) == node.id for name in ran)
        assert node.runs.low <= times <= node.runs.high
