from __future__ import annotations

import pytest

from db.errors import InsufficientCandidates
from nodes.base import State
from nodes.testing import Prompt, Script, try_out
from providers.errors import Overloaded

STATE = State(question="A tray holds 3 rows of 4 cups and costs 2 pounds a cup. What does it cost?")
PARTS = "1. How many cups are there?\n2. What is the price of one cup?\n3. What is #1 times #2?"


def script(parts: str = PARTS, failing: str | None = None) -> Script:
    def answer(prompt: Prompt, index: int) -> str | Overloaded:
        if prompt.template == failing or (failing and failing in str(prompt.variables.get("task"))):
            return Overloaded("busy")
        if prompt.template == "subtask":
            return f"Answer to: {prompt.variables['task']}"
        return {"generate": "Attempt: 14", "decompose": parts, "answer_from": "Answer: 24"}[prompt.template]

    return answer


def test_the_decomposer_sees_the_attempt_and_the_solver_answers_in_order() -> None:
    tried = try_out("decompose_solve", STATE, script(), model="s", decomposer="d")
    assert [(prompt.template, prompt.model) for prompt in tried.context.history] == [
        ("generate", "s"),
        ("decompose", "d"),
        ("subtask", "s"),
        ("subtask", "s"),
        ("subtask", "s"),
        ("answer_from", "s"),
    ]
    assert "Attempt: 14" in tried.context.history[1].text
    first, second, third, last = (prompt.text for prompt in tried.context.history[2:])
    assert "Found:" not in first
    assert "Asked: #1 How many cups are there?\nFound: Answer to: How many cups are there?" in second
    assert third.count("Found:") == 2
    assert last.count("Found:") == 3
    assert "Attempt: 14" not in last
    assert tried.texts == ["Answer: 24"]
    assert tried.state.measures == {"steps": 3, "found": 3}


def test_without_an_attempt_the_decomposer_sees_the_question_alone() -> None:
    tried = try_out("decompose_solve", STATE, script(), model="s", decomposer="d", show_attempt=False)
    assert [prompt.template for prompt in tried.context.history][:2] == ["decompose", "subtask"]
    assert "attempt" not in tried.context.history[0].text
    assert tried.context.calls == 5


def test_by_references_only_what_is_named_is_seen_and_waited_for() -> None:
    parts = "1. First?\n2. After #1?\n3. Alone?\n4. After #2 and #9?"
    tried = try_out("decompose_solve", STATE, script(parts), model="s", decomposer="d", order="references")
    asked = [prompt for prompt in tried.context.history if prompt.template == "subtask"]
    assert [prompt.variables["task"] for prompt in asked] == ["First?", "Alone?", "After #1?", "After #2 and #9?"]
    assert [prompt.text.count("Found:") for prompt in asked] == [0, 0, 1, 1]
    shown = tried.context.history[-1].text
    assert [shown.index(f"Asked: #{number} ") for number in range(1, 5)] == sorted(
        shown.index(f"Asked: #{number} ") for number in range(1, 5)
    )


def test_a_sub_question_whose_call_fails_is_left_out() -> None:
    tried = try_out("decompose_solve", STATE, script(failing="price"), model="s", decomposer="d")
    assert tried.notes == [("call_failed", "sub-question 2: overloaded: busy")]
    assert tried.context.history[-1].text.count("Found:") == 2
    assert tried.state.measures == {"steps": 3, "found": 2}


def test_an_empty_answer_to_a_sub_question_is_noted_and_left_out() -> None:
    def empty(prompt: Prompt, index: int) -> str:
        is_price = "price" in str(prompt.variables.get("task"))
        return " " if is_price else str(script()(prompt, index))

    tried = try_out("decompose_solve", STATE, empty, model="s", decomposer="d")
    assert tried.notes == [("unparsed", "the answer to sub-question 2 is empty")]
    assert tried.context.history[-1].text.count("Found:") == 2
    assert tried.state.measures == {"steps": 3, "found": 2}


@pytest.mark.parametrize("parts", ["I cannot do that.", "1.\n2. ?", ""])
def test_where_no_sub_question_can_be_read_the_attempt_is_handed_on(parts: str) -> None:
    tried = try_out("decompose_solve", STATE, script(parts), model="s", decomposer="d")
    assert tried.texts == ["Attempt: 14"]
    assert [kind for kind, _ in tried.notes] == ["unparsed", "fallback"]
    assert tried.context.calls == 2


def test_without_an_attempt_an_unreadable_list_leaves_the_bare_question() -> None:
    tried = try_out("decompose_solve", STATE, script("no"), model="s", decomposer="d", show_attempt=False)
    assert tried.texts == ["Answer: 24"]
    assert tried.context.history[-1].text == STATE.question


def test_failures_of_attempt_decomposer_and_last_call() -> None:
    attempt = try_out("decompose_solve", STATE, script(failing="generate"), model="s", decomposer="d")
    assert attempt.texts == ["Answer: 24"]
    assert "attempt" not in attempt.context.history[1].text
    decomposer = try_out("decompose_solve", STATE, script(failing="decompose"), model="s", decomposer="d")
    assert decomposer.texts == ["Attempt: 14"]
    last = try_out("decompose_solve", STATE, script(failing="answer_from"), model="s", decomposer="d")
    assert last.texts == ["Attempt: 14"]
    assert ("fallback", "thread 1 hands on its first attempt") in last.notes
    with pytest.raises(InsufficientCandidates, match="overloaded: busy"):
        try_out("decompose_solve", STATE, script(failing="answer_from"), model="s", decomposer="d", show_attempt=False)


def test_sub_questions_beyond_the_cap_are_left_out() -> None:
    parts = "\n".join(f"{n}. Question {n}?" for n in range(1, 30))
    tried = try_out("decompose_solve", STATE, script(parts), model="s", decomposer="d", max_questions=2)
    assert tried.context.calls == 5


def test_the_first_attempt_is_a_plain_sample_and_threads_keep_to_their_own() -> None:
    tried = try_out("decompose_solve", STATE, script(), model="s", decomposer="d", samples=2)
    firsts = [(prompt.template, prompt.first) for prompt in tried.context.history]
    assert firsts.count(("generate", None)) == 2
    assert tried.context.history[0].text == STATE.question
    assert {first for template, first in firsts if template == "answer_from"} == {0, 1}
    assert len(tried.texts) == 2


def test_a_long_answer_keeps_its_end() -> None:
    def long(prompt: Prompt, index: int) -> str:
        return "begin " + "x" * 900 + " the end" if prompt.template == "subtask" else str(script()(prompt, index))

    tried = try_out("decompose_solve", STATE, long, model="s", decomposer="d", answer_bytes=200)
    assert tried.context.history[-1].text.count("the end") == 3
    assert "begin" not in tried.context.history[-1].text
