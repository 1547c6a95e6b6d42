from __future__ import annotations

from collections.abc import Mapping

import pytest

from db.errors import InsufficientCandidates
from nodes.base import State
from nodes.calls_in_text import read_calls
from nodes.testing import Prompt, Script, try_out
from providers.errors import Overloaded

STATE = State(question="Which is longer, the Rhine or the Danube, and by how much?")


def rounds(*replies: str | Overloaded, others: Mapping[str, str] | None = None) -> Script:
    """Give the rounds' replies in order; the other templates have one each."""
    queue = iter(replies)
    known = {"subtask": "The worker found it.", "answer_from": "Answer: from evidence", **(others or {})}
    return lambda prompt, index: next(queue) if prompt.template == "divide" else known[prompt.template]


def test_calls_of_a_round_are_aggregated_and_the_next_round_decides() -> None:
    script = rounds(
        "I divide:\nCall: calculator[2850 - 0]\nCall: LLM[How long is the Rhine?]",
        "1. Call: calculator[2850 - 1233]",
        "Answer: 1617",
        others={"subtask": "1233 km."},
    )
    tried = try_out("divide_aggregate", STATE, script, model="p", worker="w", tools=["calculator"])
    assert [(prompt.template, prompt.model) for prompt in tried.context.history] == [
        ("divide", "p"),
        ("subtask", "w"),
        ("divide", "p"),
        ("divide", "p"),
    ]
    second, third = tried.context.history[2].text, tried.context.history[3].text
    assert "Asked: calculator[2850 - 0]\nFound: 2850" in second
    assert "Asked: LLM[How long is the Rhine?]\nFound: 1233 km." in second
    assert "calculator[2850 - 1233]" not in second
    assert "Asked: calculator[2850 - 1233]\nFound: 1617" in third
    assert tried.texts == ["Answer: 1617"]
    assert tried.state.measures == {"rounds": 2, "steps": 3, "found": 3}
    assert tried.notes == []


def test_a_reply_without_a_call_is_the_response_at_once() -> None:
    tried = try_out("divide_aggregate", STATE, rounds("The Danube."), model="p")
    assert tried.texts == ["The Danube."]
    assert tried.context.calls == 1
    assert tried.state.measures == {"rounds": 0, "steps": 0, "found": 0}


def test_where_the_rounds_are_spent_the_solver_answers_from_what_was_found() -> None:
    script = rounds("Call: LLM[a]", "Call: LLM[b]")
    tried = try_out("divide_aggregate", STATE, script, model="p", solver="s", max_rounds=2)
    last = tried.context.history[-1]
    assert (last.template, last.model) == ("answer_from", "s")
    assert last.text.count("Found: The worker found it.") == 2
    assert tried.texts == ["Answer: from evidence"]


def test_what_was_asked_before_is_not_asked_again() -> None:
    tried = try_out("divide_aggregate", STATE, rounds("Call: LLM[a]\nCall: LLM[a]", "Call: LLM[a]"), model="p")
    assert [prompt.template for prompt in tried.context.history] == ["divide", "subtask", "divide", "answer_from"]
    assert tried.notes == [("fallback", "thread 1 asks for nothing new; it is answered as it stands")]


def test_calls_that_fail_are_shown_and_noted() -> None:
    script = rounds("Call: calculator[x + 1]\nCall: oracle[all]\nCall: calculator[1 + 1]", "Done: 2")
    tried = try_out("divide_aggregate", STATE, script, model="p", tools=["calculator"])
    assert "(no evidence: 'x + 1' is no arithmetic)" in tried.context.history[1].text
    assert tried.notes == [
        ("skipped", "calculator[x + 1]: 'x + 1' is no arithmetic"),
        ("skipped", "oracle[all]: there is no tool 'oracle'"),
    ]
    assert tried.state.measures == {"rounds": 1, "steps": 3, "found": 1}


def test_a_call_that_cannot_be_read_is_no_response() -> None:
    tried = try_out("divide_aggregate", STATE, rounds("Call: the calculator, please"), model="p")
    assert tried.notes == [("unparsed", "thread 1: a call names no tool with an input in brackets")]
    assert tried.texts == ["Answer: from evidence"]
    assert tried.context.history[-1].text == STATE.question


def test_too_many_calls_of_a_round_are_left_out() -> None:
    tried = try_out("divide_aggregate", STATE, rounds("Call: LLM[a]\nCall: LLM[b]", "Done."), model="p", max_calls=1)
    assert tried.notes == [("unparsed", "thread 1: LLM[b] is one too many (at most 1)")]
    assert [prompt.template for prompt in tried.context.history] == ["divide", "subtask", "divide"]


def test_a_round_whose_call_fails_keeps_what_was_found() -> None:
    tried = try_out("divide_aggregate", STATE, rounds("Call: LLM[a]", Overloaded("busy")), model="p")
    assert tried.notes == [("call_failed", "round of thread 1: overloaded: busy")]
    assert "Found: The worker found it." in tried.context.history[-1].text
    assert tried.texts == ["Answer: from evidence"]
    with pytest.raises(InsufficientCandidates, match="overloaded: busy"):
        try_out("divide_aggregate", STATE, lambda prompt, index: Overloaded("busy"), model="p")


def test_threads_keep_to_their_own_samples() -> None:
    def script(prompt: Prompt, index: int) -> str:
        if prompt.template == "divide" and not prompt.variables["steps"]:
            return "Call: LLM[same]"
        return f"{prompt.template} {index}"

    tried = try_out("divide_aggregate", STATE, script, model="p", samples=3)
    assert tried.texts == ["divide 0", "divide 1", "divide 2"]


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("- **Call:** `calc`[1]\n* call: x [ y ]", ["calc[1]", "x[y]"]),
        ("We call: this and that [1]", []),
        ("Call: LLM[first\nline]\nCall: LLM[b]", ["LLM[first\nline]", "LLM[b]"]),
        ("", []),
    ],
)
def test_calls_as_models_write_them(text: str, calls: list[str]) -> None:
    assert [str(step.call) for step in read_calls(text, 9).steps] == calls
