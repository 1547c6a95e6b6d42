from __future__ import annotations

import asyncio

import pytest
from pydantic import ValidationError

from db.errors import BudgetExceeded, ColonnadeError, ConfigError, InsufficientCandidates
from nodes.base import State
from nodes.calls import together
from nodes.generate import Generate
from nodes.testing import Prompt, try_out
from providers.errors import ContentFiltered, Overloaded

QUESTION = "What is\n\n  2 + 2? [1] <question>"


def test_the_plain_prompt_is_exactly_the_question() -> None:
    tried = try_out("generate", State(question=QUESTION), ["4"], model="m")
    (message,) = tried.context.history[0].messages
    assert message == ("user", QUESTION)


def test_all_models_get_one_request_for_all_samples() -> None:
    def script(prompt: Prompt, index: int) -> str:
        return f"{prompt.model} {index}"

    tried = try_out("generate", State(question="Q"), script, model=["a", "b"], samples=3, temperature=0.8)
    assert [(p.model, p.n) for p in tried.context.history] == [("a", 3), ("b", 3)]
    assert tried.texts == ["a 0", "a 1", "a 2", "b 0", "b 1", "b 2"]
    assert [c.id for c in tried.state.candidates] == [f"here:{number}" for number in range(1, 7)]
    assert [(c.model, c.index) for c in tried.state.candidates][3:] == [("b", 0), ("b", 1), ("b", 2)]
    assert tried.context.history[0].sampling is not None
    assert tried.context.history[0].sampling.temperature == 0.8


def test_a_model_listed_twice_gives_different_samples() -> None:
    tried = try_out("generate", State(question="Q"), lambda p, i: str(i), model=["a", "a"], samples=2)
    assert tried.texts == ["0", "1", "2", "3"]
    assert Generate(model=("a", "a")).models() == ("a",)


def test_system_examples_and_tests_enter_the_prompt() -> None:
    tried = try_out(
        "generate",
        State(question="3 + 3?", tests=("It is even.",)),
        ["6"],
        model="m",
        system="Be brief.",
        examples=[{"question": "1 + 1?", "answer": "Two."}],
        show_tests=True,
    )
    system, user = tried.context.history[0].messages
    assert system == ("system", "Be brief.")
    assert user.content.index("1 + 1?") < user.content.index("Two.") < user.content.index("3 + 3?")
    assert "It is even." in user.content
    assert tried.state.tests == ("It is even.",)


def test_tests_are_shown_only_on_demand() -> None:
    tried = try_out("generate", State(question="3 + 3?", tests=("It is even.",)), ["6"], model="m")
    assert tried.context.history[0].text == "3 + 3?"


def test_survivors_go_on_and_failures_are_noted_with_their_kind() -> None:
    replies: list[str | ColonnadeError] = ["one", ContentFiltered("withheld"), "three"]
    tried = try_out("generate", State(question="Q"), replies, model="m", samples=3)
    assert tried.texts == ["one", "three"]
    assert tried.notes == [("call_failed", "generate with m: content_filter: withheld")]


def test_with_nothing_left_the_node_and_the_last_error_are_named() -> None:
    replies = [Overloaded("503 first"), Overloaded("503 last")]
    with pytest.raises(InsufficientCandidates, match=r"'here' .* 2 calls failed, the last with overloaded: 503 last"):
        try_out("generate", State(question="Q"), replies, model=["a", "b"])


def test_budget_and_usage_errors_come_out_bare_and_bugs_before_them() -> None:
    with pytest.raises(BudgetExceeded):
        try_out("generate", State(question="Q"), ["x", BudgetExceeded("cap")], model=["a", "b"])
    with pytest.raises(ConfigError, match="refused"):
        try_out("generate", State(question="Q"), [BudgetExceeded("cap"), ConfigError("refused")], model=["a", "b"])
    with pytest.raises(AssertionError, match="no reply left"):
        try_out("generate", State(question="Q"), [BudgetExceeded("cap")], model=["a", "b"])


async def test_calls_under_way_are_finished_before_a_spent_budget_comes_out() -> None:
    finished = []

    async def call(number: int) -> int:
        if number == 0:
            raise BudgetExceeded("cap")
        await asyncio.sleep(0.01)
        finished.append(number)
        return number

    with pytest.raises(BudgetExceeded):
        await together(call(number) for number in range(4))
    assert finished == [1, 2, 3]


async def test_a_bug_and_a_cancellation_stop_the_other_calls() -> None:
    finished = []

    async def call(number: int) -> None:
        if number == 0:
            raise ZeroDivisionError
        await asyncio.sleep(0.01)
        finished.append(number)

    with pytest.raises(ZeroDivisionError):
        await together(call(number) for number in range(4))
    waiting = asyncio.create_task(together(call(number) for number in range(1, 4)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert finished == []


def test_capabilities_follow_from_the_settings() -> None:
    assert Generate(model="m").required() == frozenset()
    assert Generate(model="m", stop=("\n",), seed=0).required() == {"stop", "seed"}
    assert Generate(model="m", top_logprobs=0).required() == {"logprobs"}
    assert Generate(model="m", top_logprobs=3).required() == {"logprobs", "top_logprobs"}


def test_one_model_has_one_canonical_form() -> None:
    assert Generate.model_validate({"model": ["m"]}) == Generate(model="m")
    assert Generate.model_validate({"model": ["m"]}).settings()["model"] == "m"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model": ""},
        {"model": []},
        {"model": ["a", " "]},
        {"model": "m", "samples": 0},
        {"model": "m", "temperature": -1},
        {"model": "m", "temperature": float("nan")},
        {"model": "m", "top_p": 0},
        {"model": "m", "max_tokens": 0},
        {"model": "m", "sample": 2},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Generate.model_validate(settings)
