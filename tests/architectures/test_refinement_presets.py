"""The presets that refine: rounds of feedback, with and without a judge that ends them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from architectures import compile_architecture, plan, preset
from architectures.outcome import Outcome
from providers.gateway import Gateway
from providers.scope import Scope
from providers.testing_server import Asking, ModelServer
from tests.architectures.support import book_at

QUESTION = "How many cups?"


async def run(name: str, scores: Sequence[int], **parameters: object) -> tuple[Outcome, Scope, list[str]]:
    """Run a preset at a server whose judge gives these scores in turn and whose n-th version answers n."""
    asked: list[str] = []

    def reply(asking: Asking) -> str:
        kind = _kind(asking.prompt)
        asked.append(kind)
        if kind == "judge":
            return f"Score: {scores[asked.count('judge') - 1]}"
        return "[1] The count is off." if kind == "critique" else f"Answer: {asked.count('refine')}"

    spec = preset(name, model="fast", judge="judge", **parameters)
    async with ModelServer(reply=reply) as server, Gateway(book_at(server.url), None) as gateway:
        book, scope = book_at(server.url), Scope("r", "i")
        outcome = await compile_architecture(spec, book).run(
            QUESTION, gateway=gateway, scope=scope, answer_kind="numeric"
        )
        foretold = plan(spec, book, QUESTION).total.calls
    assert foretold.low <= scope.totals().calls <= foretold.high
    return outcome, scope, asked


def _kind(prompt: str) -> str:
    marks = {"improved response": "refine", "from 1 to 10": "judge", "review each candidate": "critique"}
    return next((kind for mark, kind in marks.items() if mark in prompt.lower()), "generate")


@pytest.mark.parametrize("rounds", [1, 2, 4])
async def test_self_refine_gives_feedback_and_refines_in_every_round(rounds: int) -> None:
    outcome, _, asked = await run("self-refine", (), rounds=rounds)
    assert asked == ["generate", *["critique", "refine"] * rounds]
    assert outcome.answer == f"Answer: {rounds}"


async def test_a_draft_that_is_good_enough_is_left_alone() -> None:
    outcome, _, asked = await run("critique-revise", [9])
    assert asked == ["generate", "judge"]
    assert outcome.answer == "Answer: 0"
    assert outcome.skipped == ("improve",)


async def test_the_rounds_end_where_the_judge_is_content() -> None:
    outcome, _, asked = await run("critique-revise", [4, 6, 9])
    assert asked == ["generate", "judge", *["critique", "refine", "judge"] * 2]
    assert outcome.answer == "Answer: 2"


async def test_without_content_the_better_of_draft_and_last_version_counts_and_the_rounds_are_bounded() -> None:
    outcome, _, asked = await run("critique-revise", [7, 5, 3], rounds=2)
    assert len(asked) == 2 + 3 * 2
    assert outcome.answer == "Answer: 0", "a refinement that the judge finds worse does not take the draft's place"
    outcome, _, _ = await run("critique-revise", [7, 5, 8], rounds=2)
    assert outcome.answer == "Answer: 2"
    outcome, _, _ = await run("critique-revise", [7, 7], rounds=1)
    assert outcome.answer == "Answer: 1"


async def test_what_is_enough_is_a_parameter() -> None:
    _, _, asked = await run("critique-revise", [6], enough=6)
    assert asked == ["generate", "judge"]
