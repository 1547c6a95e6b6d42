"""Medprompt: choices in other orders, answers brought back to the question's own letters, and the vote."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.errors import ColonnadeError, InsufficientCandidates
from nodes.answers import extract
from nodes.base import State
from nodes.choices import read_choices, shuffles
from nodes.medprompt import Medprompt
from nodes.testing import Prompt, Script, Tried, try_out
from providers.errors import Overloaded

QUESTION = "Which is a prime?\n(A) 4\n(B) 7\n(C) 9\nChoose one."
EXAMPLES = [{"question": "Which is even?\n(A) 3\n(B) 4", "reasoning": "4 is 2 times 2.", "answer": "B"}]


def letter_of(prompt: Prompt, choice: str) -> str:
    return next(line[1] for line in prompt.text.splitlines() if line.endswith(f") {choice}"))


def ask(script: Script, question: str = QUESTION, **more: object) -> Tried:
    technique = Medprompt.model_validate({"model": "a", "examples": EXAMPLES, **more})
    return try_out(technique, State(question=question), script, answer_kind="choice")


def test_who_knows_the_choice_is_right_whatever_its_place() -> None:
    tried = ask(lambda prompt, index: f"It is {letter_of(prompt, '7')}.\nAnswer: {letter_of(prompt, '7')}", ensemble=6)
    assert tried.state.candidates[0].answer == "B"
    assert tried.texts == ["It is B.\nAnswer: B"]  # the response to the question's own order stands for it
    assert tried.state.measures == {"agreement": 1.0, "answers": 6, "orders": 6}
    assert len({p.text for p in tried.context.history}) == 6
    assert tried.context.history[0].text.endswith(QUESTION)


def test_a_liking_for_a_place_cancels_out() -> None:
    """The first place is always taken: over the 6 orders of three choices no choice gains by it."""
    tried = ask(lambda prompt, index: "Answer: A", ensemble=6)
    assert tried.state.measures["agreement"] == pytest.approx(1 / 3)


def test_a_winner_of_other_orders_alone_says_so_in_the_questions_letters() -> None:
    def script(prompt: Prompt, index: int) -> str:
        own = prompt.text.endswith(QUESTION)
        return "Answer: A" if own else f"So the answer is {letter_of(prompt, '9')}."

    tried = ask(script, ensemble=4)
    assert tried.state.candidates[0].answer == "C"
    assert tried.texts[0].endswith("\nAnswer: C")
    assert tried.state.measures["agreement"] == 3 / 4


@pytest.mark.parametrize("form", ["The answer is {}.", "\\boxed{{{}}}", '{{"answer": "{}"}}'])
def test_whatever_form_the_reply_has_its_answer_can_be_read(form: str) -> None:
    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        return Overloaded("503") if prompt.text.endswith(QUESTION) else form.format(letter_of(prompt, "7"))

    tried = ask(script, ensemble=3)
    assert extract(tried.texts[0], "choice") == tried.state.candidates[0].answer == "B"
    assert tried.notes == [("call_failed", "generate with order 1 of the choices: overloaded: 503")]


def test_a_letter_of_no_choice_is_no_answer() -> None:
    tried = ask(lambda prompt, index: "Answer: F", ensemble=2)
    assert tried.state.measures == {"agreement": 0.0, "answers": 0, "orders": 2}
    assert [kind for kind, _ in tried.notes] == ["unparsed", "unparsed", "fallback"]


def test_a_question_without_choices_is_asked_and_voted_on() -> None:
    replies = iter(["Answer: 4", "Answer: 5", "Answer: 5"])
    tried = try_out(
        "medprompt", State(question="2 + 3?"), lambda prompt, index: next(replies), answer_kind="numeric", model="a",
        examples=EXAMPLES, ensemble=3, shots=0,
    )  # fmt: skip
    assert tried.texts == ["Answer: 5"]
    assert tried.state.measures == {"agreement": 2 / 3, "answers": 3, "orders": 1}


def test_lettered_lines_of_a_question_for_a_number_are_no_choices() -> None:
    state = State(question="A. Tom has 3.\nB. Ann has 4.\nHow many have both?")
    technique = Medprompt.model_validate({"model": "a", "examples": EXAMPLES, "ensemble": 2})
    tried = try_out(technique, state, lambda prompt, index: "It is 7.", answer_kind="numeric")
    assert tried.texts == ["It is 7."]
    assert tried.state.measures == {"agreement": 1.0, "answers": 2, "orders": 1}


def test_every_call_failed() -> None:
    with pytest.raises(InsufficientCandidates, match="2 calls failed, the last with overloaded: 503"):
        ask(lambda prompt, index: Overloaded("503"), ensemble=2)


@pytest.mark.parametrize(
    ("question", "count"),
    [
        ("Q\n(A) x\n(B) y", 2),
        ("Q\nA) x\nB) y\nC) z\nend", 3),
        ("A. x\nB. y\n\nA. last\nB. run\nC. of them", 3),
        ("(A) alone", None),
        ("(B) x\n(C) y", None),
        ("Q\n(A) x\n\n(B) y", None),
        ("no lines", None),
    ],
)
def test_which_lines_are_choices(question: str, count: int | None) -> None:
    found = read_choices(question)
    assert (None if found is None else len(found.lines)) == count


@given(st.integers(2, 5), st.integers(1, 9), st.text(max_size=5))
@settings(max_examples=40)
def test_orders_are_permutations_that_come_back_and_differ_while_there_are(size: int, count: int, key: str) -> None:
    question = "\n".join(["Q", *(f"({letter}) choice {letter}" for letter in "ABCDE"[:size]), "end"])
    choices = read_choices(question)
    assert choices is not None
    orders = shuffles(choices, count, key)
    assert orders[0].question == question
    assert orders == shuffles(choices, count + 3, key)[:count]
    most = max(Counter(order.order for order in orders[: math.factorial(size)]).values())
    assert most == 1
    for order in orders:
        for place, line in enumerate(order.question.splitlines()[1:-1]):
            assert order.original("ABCDE"[place]) == line[-1]
            assert line.startswith(f"({'ABCDE'[place]}) ")
        assert order.original("Z") is order.original("") is order.original("AB") is None


def test_choices_beyond_z_end_the_run() -> None:
    choices = read_choices("\n".join(f"({chr(65 + n)}) {n}" for n in range(26)) + "\n([) 26")
    assert choices is not None
    assert len(choices.lines) == 26
    with pytest.raises(ValueError, match="is no lettered choice"):
        choices._replace(lines=("x",)).shuffled((0,))
