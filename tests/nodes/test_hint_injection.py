"""Hints: what an expert's reply is read as, where a hint is put, and what stays as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import ColonnadeError
from nodes.base import State
from nodes.hint_injection import Advice, HintInjection, read_advice
from nodes.testing import Prompt, Tried, drafted, try_out
from providers.errors import Overloaded


def supervise(
    texts: list[str], hints: list[str | ColonnadeError], written: list[str | ColonnadeError], **settings: object
) -> Tried:
    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        return (hints if prompt.model == "expert" else written).pop(0)

    state = State(question="How many?", candidates=drafted(*texts))
    tried = try_out(HintInjection.model_validate({"model": "a", "expert": "expert", **settings}), state, script)
    assert not hints
    assert not written
    return tried


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("Sound", Advice(True, None, None)),
        ("**No flaw.**", Advice(True, None, None)),
        ('Flaw: "3 + 4 is 8"\nHint: Add again.', Advice(False, "3 + 4 is 8", "Add again.")),
        ("- **Flaw:** x is 2\n- **Hint:** Look\nat the rows.", Advice(False, "x is 2", "Look\nat the rows.")),
        ("Hint: Mind the sign.", Advice(False, None, "Mind the sign.")),
        ("Hint: none", Advice(True, None, None)),
        ("[1] The rows are wrong.", Advice(False, None, "The rows are wrong.")),
        ("[1] Correct.", Advice(True, None, None)),
        ("I would not do that.", None),
        ("Flaw: only a flaw", None),
        ("", None),
    ],
)
def test_what_is_read_as_advice(text: str, advice: Advice | None) -> None:
    assert read_advice(text) == advice


@given(st.text(max_size=80))
def test_any_text_is_read_or_not_and_never_fails(text: str) -> None:
    found = read_advice(text)
    assert found is None or found.is_sound == (found.hint is None)


def test_the_model_answers_again_with_the_hint_and_nothing_is_spent_on_the_sound() -> None:
    tried = supervise(["it is 7", "it is 9"], ["Sound", "Flaw: it is 9\nHint: Count the rows."], ["it is 8"])
    assert tried.texts == ["it is 7", "it is 8"]
    assert tried.state.candidates[1].parents == ("draft:2",)
    assert tried.state.candidates[1].id == "here:2"
    redone = tried.context.history[-1]
    assert redone.template == "hinted"
    assert "Count the rows." in redone.text
    assert "it is 9" in redone.text
    assert tried.state.measures["hinted"] == 0.5
    # One token a byte: the hint is "Count the rows." of the expert's reply, the answer "it is 8".
    assert tried.state.measures["hint_share"] == pytest.approx(15 / (15 + 7))


def test_the_model_writes_on_from_the_flawed_passage() -> None:
    tried = supervise(["First 3. Then 9. So 12."], ["Flaw: Then 9.\nHint: Add 4."], ["Then 7. So 10."], mode="continue")
    assert tried.texts == ["First 3. Add 4.\nThen 7. So 10."]
    written = tried.context.history[-1]
    assert written.template == "generate"
    assert written.messages[-1] == ("assistant", "First 3. Add 4.\n")
    assert tried.notes == []


def test_what_is_written_on_counts_the_tokens_of_what_stands_before_it() -> None:
    long, other = (replace(c, completion_tokens=20) for c in drafted("First 3. Then 9. So 12.", "unknown tokens: 12"))
    replies = {"hint": "Flaw: 12\nHint: Add.", "generate": "10."}
    state = State(question="Q", candidates=(long, replace(other, completion_tokens=0)))
    node = HintInjection(model="a", expert="b", mode="continue")
    known, unknown = try_out(node, state, lambda prompt, index: replies[prompt.template]).state.candidates
    assert known.text == "First 3. Then 9. So Add.\n10."
    # 25 characters stand before the new ones, of a response with 20 tokens in 23; a new token is a byte.
    assert known.completion_tokens == round(20 * 25 / 23) + 3
    assert unknown.completion_tokens == 0


def test_a_flaw_that_is_not_quoted_from_the_response_puts_the_hint_at_its_end() -> None:
    tried = supervise(["So 12. "], ["Flaw: 13\nHint: No."], ["Then 7."], mode="continue")
    assert tried.texts == ["So 12.\nNo.\nThen 7."]
    assert tried.notes == [("fallback", "the flaw is not quoted from draft:1; the hint stands at its end")]


def test_the_expert_looks_again_until_it_is_content() -> None:
    tried = supervise(["1"], ["Hint: More.", "Hint: Still more.", "Sound"], ["2", "3"], rounds=5)
    assert tried.texts == ["3"]
    assert [c.id for c in tried.state.candidates] == ["here:2"]
    assert tried.state.measures["hinted"] == 1.0


def test_what_fails_or_cannot_be_read_leaves_the_candidate_as_it_is() -> None:
    tried = supervise(["1", "2", "3"], [Overloaded("503"), "well", "Hint: More."], [Overloaded("504")], rounds=3)
    assert tried.texts == ["1", "2", "3"]
    assert tried.notes == [
        ("call_failed", "hint on draft:1: overloaded: 503"),
        ("unparsed", "no hint in the reply on draft:2; it stays as it is"),
        ("call_failed", "with a hint on draft:3: overloaded: 504"),
    ]
    assert tried.state.measures["hinted"] == 1 / 3


def test_without_hints_nothing_is_shared() -> None:
    assert supervise(["1"], ["Sound"], []).state.measures == {"hinted": 0.0, "hint_share": 0.0}


def test_scores_and_critiques_of_the_old_text_do_not_outlive_it() -> None:
    candidate = replace(drafted("1")[0], critique="bad", verdict=False).scored("s", 3.0)
    state = State(question="Q", candidates=(candidate,))
    (handed,) = try_out("hint_injection", state, ["Sound"], model="a", expert="b").state.candidates
    assert (handed.critique, handed.verdict, dict(handed.scores)) == (None, None, {})


def test_only_writing_on_needs_a_model_that_can() -> None:
    node = HintInjection(model="a", expert="b", mode="continue", hint_tokens=30)
    assert node.required_of("a") == {"prefix_continuation"}
    assert node.required_of("b") == frozenset()
    assert HintInjection(model="a", expert="b").required_of("a") == frozenset()
    assert node.models() == ("a", "b")
