"""Plans that are carried from node to node hold, whatever the models say."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.base import Range, Shape, State, Technique, exactly
from nodes.planning import fresh, kept, spread
from nodes.probe import reply_in_format
from nodes.registry import get
from nodes.testing import Prompt, ScriptedContext, ScriptedEstimator, byte_count

REPLY = Range(1, 60, 400)
STEPS = (
    {"use": "critique", "model": "m"},
    {"use": "fuse", "model": ["m", "o"], "samples": 2},
    {"use": "judge", "model": "m", "keep": 3},
    {"use": "rank", "model": "m", "keep": 2},
    {"use": "rank", "model": "m", "method": "pairwise"},
    {"use": "refine", "model": "m"},
    {"use": "unit_test_generate", "model": "m", "count": 3},
    {"use": "unit_test_evaluate", "model": "m"},
    {"use": "verify", "model": "m"},
    {"use": "verify", "model": "m", "on_none": "best"},
    {"use": "vote"},
)


def technique(step: dict[str, object]) -> Technique:
    return get(str(step["use"])).model_validate({key: value for key, value in step.items() if key != "use"})


@settings(max_examples=60)
@given(st.integers(1, 5), st.lists(st.sampled_from(STEPS), max_size=4), st.integers(0, 10**6))
def test_a_plan_holds_along_a_chain(samples: int, steps: list[dict[str, object]], seed: int) -> None:
    chance = random.Random(seed)

    def script(prompt: Prompt, index: int) -> str:
        if prompt.template == "verify_verdict":
            return chance.choice(["Verdict: correct", "Verdict: incorrect"])
        if prompt.template == "unit_test_evaluate":
            return chance.choice(["1. [Passed]\n2. [Passed]\n3. [Passed]", "1. [Failed]\n2. [Passed]\n3. [Passed]"])
        if prompt.template in ("generate", "fuse", "refine", "verify_reason"):
            return "word " * chance.randrange(1, 60) + f"Answer: {chance.randrange(3)}"
        return reply_in_format(prompt, index)[:400]

    state = State(question="How many cups are there?")
    shape = Shape(question=exactly(len(state.question)))
    estimator = ScriptedEstimator(REPLY, style="compact")
    chain = [technique({"use": "generate", "model": "m", "samples": samples}), *map(technique, steps)]
    for node, name in zip(chain, "abcdefg", strict=False):
        context = ScriptedContext(script, node=name, style="compact")
        has_tests = bool(state.tests)
        state = asyncio.run(node.run(state, context))
        calls, shape = node.plan(shape, estimator)
        if type(node).__name__ == "UnitTestEvaluate" and not has_tests:
            continue
        low, high = sum(call.calls.low for call in calls), sum(call.calls.high for call in calls)
        assert low <= context.calls <= high
        assert shape.candidates.low <= len(state.candidates) <= shape.candidates.high
        for prompt in context.history:
            planned = [c.prompt_tokens for c in calls if (c.template, c.model) == (prompt.template, prompt.model)]
            made = byte_count(prompt.messages)
            slack = 4  # outer white space is stripped of a prompt, and of the empty one a line more
            assert any(p.low - slack <= made <= p.high + slack for p in planned), (made, planned)


def test_calls_are_exact_where_widths_are_known() -> None:
    shape = Shape(question=exactly(10), candidates=exactly(5), candidate_tokens=Range(1, 5, 9), tests=exactly(2))
    counts = {
        "critique": 1,
        "judge": 5,
        "rank": 1,
        "refine": 5,
        "unit_test_generate": 1,
        "unit_test_evaluate": 5,
        "verify": 10,
    }
    for name, count in counts.items():
        calls, _ = get(name).model_validate({"model": "m"}).plan(shape, ScriptedEstimator(REPLY))
        assert [sum(part) for part in zip(*(call.calls for call in calls), strict=True)] == [count] * 3


def test_pairwise_calls_of_an_unknown_width_are_a_range() -> None:
    shape = Shape(question=exactly(10), candidates=Range(1, 2, 4), candidate_tokens=exactly(5))
    (call,), after = technique({"use": "rank", "model": "m", "method": "pairwise", "keep": 3}).plan(
        shape, ScriptedEstimator(REPLY)
    )
    assert call.calls == Range(0, 2, 12)
    assert after.candidates == Range(1, 2, 3)


def test_arithmetic_of_shapes() -> None:
    assert spread([Range(1, 2, 3), Range(2, 4, 9)]) == Range(1, 3, 9)
    shape = Shape(question=exactly(1), candidates=exactly(5), critique_tokens=exactly(7), verdicts=True)
    assert kept(shape, None) == shape
    assert kept(shape, 2).candidates == exactly(2)
    assert fresh(shape, exactly(1), exactly(3)) == Shape(
        question=exactly(1), candidates=exactly(1), candidate_tokens=exactly(3)
    )


@pytest.mark.parametrize("step", STEPS, ids=lambda step: str(step["use"]))
def test_a_plan_makes_no_call_and_names_only_its_models(step: dict[str, object]) -> None:
    node = technique(step)
    calls, _ = node.plan(Shape(question=exactly(3), candidates=exactly(4)), ScriptedEstimator(REPLY))
    assert {call.model for call in calls} == set(node.models())
