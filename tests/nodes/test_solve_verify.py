"""Solve and verify: the division of a budget, and the vote by verdicts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from db.errors import ColonnadeError
from nodes.base import State
from nodes.solve_or_verify import SOLVE_POWER, VERIFY_POWER, Division, divide
from nodes.solve_verify import SolveVerify
from nodes.testing import Prompt, Script, Tried, try_out
from providers.errors import Overloaded

ASKED = State(question="How many?")

budgets = st.floats(1, 10_000)
ratios = st.floats(0.01, 100)


@given(budgets, ratios, st.floats(0.1, 1000))
def test_a_division_costs_at_most_the_budget_and_leaves_less_than_one_solution(
    budget: float, ratio: float, verify_from: float
) -> None:
    found = divide(budget, ratio, verify_from)
    assert found.solutions >= 1
    assert found.cost(ratio) <= budget * (1 + 1e-6)
    assert budget - found.cost(ratio) < 1 + ratio * found.verifications


@given(budgets, budgets, ratios, st.floats(1, 1000))
def test_more_budget_never_means_fewer_verifications(
    budget: float, other: float, ratio: float, verify_from: float
) -> None:
    less, more = sorted((budget, other))
    assert divide(more, ratio, verify_from).verifications >= divide(less, ratio, verify_from).verifications


@given(st.floats(1, 10_000), st.floats(0.1, 4), st.floats(8, 100))
def test_from_the_least_budget_on_both_grow_by_the_laws_of_the_paper(
    budget: float, ratio: float, verify_from: float
) -> None:
    found = divide(budget, ratio, verify_from)
    if budget < verify_from:
        assert found == Division(math.floor(budget + 1e-9), 0)
        return
    times = budget / verify_from
    assert found.verifications == math.floor(times**VERIFY_POWER + 1e-9)
    assert found.solutions >= math.floor(verify_from / (1 + ratio) * times**SOLVE_POWER)


@pytest.mark.parametrize(
    ("budget", "ratio", "verify_from", "expected"),
    [
        (1, 1, 16, (1, 0)),
        (15.9, 1, 16, (15, 0)),
        (16, 1, 16, (8, 1)),
        (16 * 2 ** (1 / VERIFY_POWER), 1, 16, (31, 2)),
        (64, 0.5, 8, (32, 2)),
        (3, 100, 1, (3, 0)),
        (300, 100, 1, (1, 2)),
    ],
)
def test_divisions(budget: float, ratio: float, verify_from: float, expected: tuple[int, int]) -> None:
    assert divide(budget, ratio, verify_from) == expected


def test_a_budget_that_buys_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the budget is at least 1, .*\(budget=0.5, ratio=1, verify_from=2\)"):
        divide(0.5, 1, 2)
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        SolveVerify.model_validate({"model": "m", "budget": 0.5})


def script(answers: str, correct: str) -> Script:
    """Let sample i give the i-th letter as its answer; of the letters in `correct` a verdict is good."""

    def reply(prompt: Prompt, index: int) -> str | ColonnadeError:
        if prompt.template == "generate":
            return Overloaded("503") if answers[index] == "!" else f"Way {index}. Answer: {answers[index]}"
        letter = prompt.text.split("Answer: ")[1][0]
        if prompt.template == "verify_reason":
            return f"Reasoning {index}."
        return "no word of it" if letter == "?" else "[Correct]" if letter in correct else "[Incorrect]"

    return reply


def tried(answers: str, correct: str, **settings: object) -> Tried:
    node = SolveVerify.model_validate({"model": "m", **settings})
    return try_out(node, ASKED, script(answers, correct))


def test_a_small_budget_is_a_plain_vote() -> None:
    found = tried("BAA", "B", budget=3, verify_from=8, verifier="v")
    assert found.state.candidates[0].answer == "a"
    assert found.context.calls == 3
    assert found.state.measures == {
        "agreement": pytest.approx(2 / 3),
        "answers": 3,
        "solutions": 3,
        "verifications": 0,
    }
    assert SolveVerify(model="m", budget=3, verify_from=8, verifier="v").models() == ("m",)


def test_verdicts_outvote_a_majority() -> None:
    found = tried("BAAA", "B", budget=8, verify_from=8, verifier="v")
    assert found.state.candidates[0].answer == "b"
    assert found.state.measures["agreement"] == 1
    assert (found.state.measures["solutions"], found.state.measures["verifications"]) == (4, 1)
    assert found.context.calls == 4 + 2 * 4
    assert {prompt.model for prompt in found.context.history if prompt.template != "generate"} == {"v"}


def test_a_vote_by_verdicts_counts_solutions_and_the_best_alone_does_not() -> None:
    def reply(prompt: Prompt, index: int) -> str | ColonnadeError:
        if prompt.template == "generate":
            return f"Way {index}. Answer: {'BAAA'[index]}"
        if prompt.template == "verify_reason":
            return f"Reasoning {index % 2}."
        # Both verifications speak for B, one of two for each A.
        is_good = "Answer: B" in prompt.text or "Reasoning 0" in prompt.text
        return "[Correct]" if is_good else "[Incorrect]"

    settings: dict[str, object] = {"model": "m", "budget": 12, "cost_ratio": 1, "verify_from": 2}
    node = SolveVerify.model_validate(settings)
    assert node.division == (4, 2)
    by_weight = try_out(node, ASKED, reply)
    assert by_weight.state.candidates[0].answer == "a"
    assert by_weight.state.measures["agreement"] == pytest.approx(1.5 / 2.5)
    best = try_out(node.model_copy(update={"choose": "best"}), ASKED, reply)
    assert best.state.candidates[0].answer == "b"


def test_verdicts_that_cannot_be_read_are_no_pass() -> None:
    found = tried("??A?", "A", budget=8, verify_from=8)
    assert found.state.candidates[0].answer == "a"
    assert [kind for kind, _ in found.notes].count("unparsed") >= 3
    nobody = tried("BAAB", "", budget=8, verify_from=8)
    assert nobody.state.candidates[0].answer == "b"
    assert ("fallback", "no verdict speaks for any solution; all weigh the same") in nobody.notes


@pytest.mark.parametrize("choose", ["weighted", "best"])
def test_a_verdict_on_one_that_states_no_answer_does_not_weigh_votes(choose: str) -> None:
    def reply(prompt: Prompt, index: int) -> str:
        if prompt.template == "generate":
            return ("no idea", "Answer: 2", "Answer: 1", "Answer: 1")[index]
        if prompt.template == "verify_reason":
            return "Reasoning."
        return "[Correct]" if "no idea" in prompt.text else "[Incorrect]"

    node = SolveVerify.model_validate({"model": "m", "budget": 8, "verify_from": 8, "choose": choose})
    found = try_out(node, ASKED, reply, answer_kind="numeric")
    assert found.texts == ["Answer: 1"]
    assert found.state.measures["agreement"] == pytest.approx(2 / 3)
    assert found.notes[-1] == ("fallback", "no verdict speaks for any solution; all weigh the same")


def test_solutions_that_fail_are_noted_and_not_verified() -> None:
    found = tried("!A!B", "B", budget=8, verify_from=8)
    assert found.state.candidates[0].answer == "b"
    assert found.context.calls == 4 + 2 * 2
    assert [kind for kind, _ in found.notes].count("call_failed") == 2
