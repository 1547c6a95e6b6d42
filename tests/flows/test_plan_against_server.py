"""What `plan` foretells against what a real server counts: ten shapes, every component of Archon, up to five layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from architectures import compile_architecture, load, plan
from flows.session import SessionSettings, open_session
from providers.scope import Scope
from providers.testing_server import Asking, ModelServer
from tests.helpers import write_models

M = {"model": "m", "max_tokens": 200}
TESTS_WRITTEN = {"unit_test_generate": {**M, "count": 5}}
SHAPES: dict[str, list[Any]] = {
    "generate": [{"generate": M}],
    "generate x5, vote": [{"generate": {**M, "samples": 5}}, "vote"],
    "two generators, fuse": [[{"generate": {**M, "samples": 2}}, {"generate": {**M, "temperature": 0.1}}], {"fuse": M}],
    "generate, rank": [{"generate": {**M, "samples": 6}}, {"rank": {**M, "keep": 3}}],
    "generate, critique, rank, fuse": [
        {"generate": {**M, "samples": 4}},
        {"critique": M},
        {"rank": {**M, "keep": 2}},
        {"fuse": M},
    ],
    "generate, verify, fuse": [{"generate": {**M, "samples": 3}}, {"verify": M}, {"fuse": M}],
    "tests first": [
        {"unit_test_generate": {**M, "count": 5}},
        {"generate": {**M, "samples": 3}},
        {"unit_test_evaluate": M},
    ],
    "tests after": [
        {"generate": {**M, "samples": 4}},
        {"unit_test_generate": {**M, "count": 5}},
        {"unit_test_evaluate": M},
    ],
    "pairwise rank": [{"generate": {**M, "samples": 4}}, {"rank": {**M, "method": "pairwise", "keep": 2}}],
    "five layers": [
        {"generate": {**M, "samples": 5}},
        {"critique": M},
        {"rank": {**M, "keep": 4}},
        [{"fuse": {**M, "samples": 2}}, {"fuse": {**M, "temperature": 0.2}}],
        {"judge": {**M, "keep": 1}},
    ],
}
TESTS = "\n".join(f"{k}. The answer states its unit." for k in range(1, 6))


def reply(asking: Asking) -> str:
    """Answer as a model that follows the prompts would; which prompt it is shows in its last words."""
    prompt = asking.prompt
    if "[Passed]" in prompt:
        return "\n".join(f"{k}. [Passed]" for k in range(1, 6))
    if "[2] >" in prompt or "[1] >" in prompt:
        return "Ranking: [1] > [2] > [3] > [4] > [5] > [6]"
    if "[Correct]" in prompt:
        return "Verdict: [Correct]"
    return TESTS if "statement" in prompt and "1." in prompt else f"{asking.sample} and so on. Answer: {asking.sample}"


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("many", [True, False], ids=["n", "one by one"])
async def test_calls_are_exact_and_tokens_within_their_range(tmp_path: Path, name: str, many: bool) -> None:
    question = "A box holds 12 pens. How many pens are in 7 boxes?"
    async with ModelServer(reply=reply) as server:
        models = write_models(tmp_path, server.url, n=many)
        settings = SessionSettings(models=models, database_url=f"sqlite:///{tmp_path}/db.sqlite")
        async with open_session(settings) as session:
            architecture = load({"name": name, "layers": SHAPES[name]}, session.book)
            planned = plan(architecture.spec, session.book, question).total
            scope = Scope("r", "q")
            compiled = compile_architecture(architecture.spec, session.book)
            await compiled.run(question, gateway=session.gateway, scope=scope)
    ledger = server.ledger
    assert planned.calls.low == planned.calls.high == ledger.calls
    assert planned.requests.low <= ledger.answered <= planned.requests.high
    assert planned.prompt_tokens.low <= ledger.prompt_tokens <= planned.prompt_tokens.high
    assert planned.completion_tokens.low <= ledger.completion_tokens <= planned.completion_tokens.high
    assert planned.dollars is not None
    cost = scope.totals().cost
    assert cost is not None
    assert planned.dollars.low <= cost <= planned.dollars.high
