"""Answers are taken out of replies as their readers would take them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.answers import extract
from nodes.base import AnswerKind
from tests.helpers import cpu_seconds


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"reasoning": "5 and 13", "answer": "18"}', "18"),
        ('```json\n{"reasoning": "x", "answer": 42}\n```', "42"),
        ('{"answer": "18 \\"eggs\\""} and then {"answer": "20"}', "18"),
        ("first \\boxed{3}, then 5", "3"),
        ("16 - 3 = <<16-3=13>>13\n#### 1,042", "1042"),
        ("The answer is $1,234.50.", "1234.5"),
        ("The answer is 5. Wait. The answer is 6.", "6"),
        ("**Answer:** 42", "42"),
        ("Answer:\n42 apples", "42"),
        ("answer: 3 + 4 = 7", "7"),
        ("The final answer is: **$\\frac{3}{4}$**", "0.75"),
        ("The answer to the question of eggs is 9", "9"),
        ("We get 10 - 5 of them, that is 5.", "5"),
        ("it falls to -5", "-5"),
        ("it falls to −5 °C", "-5"),
        ("Answer: 2/6", "1/3"),
        ("Answer: 3 1/2 cups", "3.5"),
        ("Answer: 1.50", "1.5"),
        ("Answer: 1.5e3", "1500"),
        ("Answer: 50%", "50"),
        ("Answer: 5/0", "5"),
        ("Answer: 007", "7"),
        ("Answer: $.75", "0.75"),
        ("There are 12 of 3 kinds of H2O", "3"),
        ("We have 7 of them\nin H2O\nin m²", "7"),
        ("Answer: 42</s></s>", "42"),
        ("Answer: let us count the 9 apples first", "9"),
        ("The answer is easy to find. 5 and 7 are 12", "12"),
        ("nothing at all", None),
        ("", None),
    ],
)
def test_numeric(text: str, answer: str | None) -> None:
    assert extract(text, "numeric") == answer


@pytest.mark.parametrize(
    "text",
    [
        '{"reasoning": "16 or 18", "answer": "Cannot be determined"}',
        '{"reasoning": "16 or 18", "answer": ""}',
        '{"reasoning": "16 or 18", "answer": "20 + 6 + 8 = 34"}',
        '```json\n{\n "reasoning": "a loop that ends at the limit of 4096 tokens and 15',
    ],
)
def test_a_json_reply_is_taken_at_its_word(text: str) -> None:
    assert extract(text, "numeric") is None


def test_a_number_too_long_to_be_read_is_kept_as_it_is() -> None:
    digits = "3" * 5000
    assert extract(f"Answer: {digits}", "numeric") == digits
    assert extract(f"Answer: 0.{digits}", "numeric") == f"0.{digits}"


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (C).", "C"),
        ("C", "C"),
        ("c)", "C"),
        ("Answer: b", "B"),
        ("B) Paris", "B"),
        ("**D.** because", "D"),
        ("\\boxed{\\text{D}}", "D"),
        ("the answer is:\n\n$$\\text{A}$$", "A"),
        ('{"answer": "E"}', "E"),
        ('{"answer": "none of them"}', None),
        ("The answer is option F", "F"),
        ("The answer is (A). No: the answer is (J).", "J"),
        ("First (A), but then rather (B), I'd say", "B"),
        ("The answer is a bit hard to find", None),
        ("Answer: I think it is hard", None),
        ("I think so", None),
        ("Paris", None),
    ],
)
def test_choice(text: str, letter: str | None) -> None:
    assert extract(text, "choice") == letter


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so \\boxed{\\dfrac12}.", "0.5"),
        ("so $\\boxed{\\frac{-2}{6}}$", "-1/3"),
        ("a \\boxed{1} and b \\boxed{x = \\left( 1,\\tfrac{\\pi}{2} \\right)}", "(1,\\frac{\\pi}{2})"),
        ("\\boxed{10{,}000}", "10000"),
        ("\\boxed{\\$36}", "36"),
        ("\\boxed{90^\\circ}", "90"),
        ("\\boxed{5!}", "5!"),
        ("\\boxed 7$", "7"),
        ("\\fbox{\\text{Evelyn}}", "Evelyn"),
        ("\\boxed{\\{1, 2\\}}", "\\{1,2\\}"),
        ("a \\boxed{2} and one that is cut: \\boxed{\\frac{1}{", "2"),
        ("The final answer is $\\sqrt 3$. Good.", "\\sqrt{3}"),
        ('{"answer": "\\\\frac{1}{2}"}', "0.5"),
        ("Answer: $x=5$", "5"),
        ("Answer: 12 \\text{ cm}", "12cm"),
        ("so the final answer is \\(\\frac{2}{3}\\).", "2/3"),
        ("Answer: $\\frac12 x^2$", "\\frac{1}{2}x^2"),
        ("\\boxed{___}", None),
        ("just prose", None),
    ],
)
def test_math(text: str, answer: str | None) -> None:
    assert extract(text, "math") == answer


def test_boxed_wants_a_box() -> None:
    assert extract("so \\boxed{4}", "boxed") == "4"
    assert extract("The answer is 4", "boxed") is None
    assert extract("\\boxed{}", "boxed") is None
    assert extract("it ends in \\boxed", "boxed") is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: 42", "42"),
        ("Answer: 42.0 eggs", "42"),
        ("The answer is  The  Hague. It is in Holland.", "the hague"),
        ("Answer: 2024-03-05", "2024-03-05"),
        ("Answer: 12 hours and 30 minutes", "12 hours and 30 minutes"),
        ("so \\boxed{\\sqrt3}", "\\sqrt{3}"),
        ("so \\boxed{1{,}000}", "1000"),
        ('{"answer": "Yes"}', "yes"),
        ("#### 7", "7"),
        ("five and 5 are mentioned, nothing is stated", None),
        ("Answer:", None),
    ],
)
def test_auto(text: str, answer: str | None) -> None:
    assert extract(text, "auto") == answer


def test_exact_and_text_take_the_whole_reply() -> None:
    assert extract("  Two  Words.\n", "exact") == "Two  Words."
    assert extract("  Two  Words.\n", "text") == "two words"
    assert extract(" \n", "exact") is None
    assert extract(" \n", "text") is None


KINDS: tuple[AnswerKind, ...] = ("auto", "boxed", "choice", "exact", "math", "numeric", "text")


@given(st.text(alphabet=st.sampled_from("0123456789.,/-$% \n{}\\boxedanswer:isABfrc=\"'#")), st.sampled_from(KINDS))
def test_whatever_the_reply_the_answer_is_none_or_not_empty(text: str, kind: AnswerKind) -> None:
    answer = extract(text, kind)
    assert answer is None or answer.strip()


@given(st.text(alphabet=st.sampled_from("0123456789.,/-$% \neE")))
def test_the_normal_form_of_a_number_is_its_own_normal_form(text: str) -> None:
    answer = extract(text, "numeric")
    if answer is not None:
        assert extract(answer, "numeric") == answer


@given(
    st.integers(-(10**12), 10**12),
    st.sampled_from(["{}", "Answer: {:,}", "#### {}", "so \\boxed{{{}}}", '{{"answer": {}}}']),
)
def test_an_integer_is_found_in_every_usual_form(number: int, form: str) -> None:
    assert extract(form.format(number), "numeric") == str(number)


@pytest.mark.parametrize("kind", ["numeric", "choice", "auto"])
def test_extraction_is_cheap(kind: AnswerKind) -> None:
    text = "Let us take 5 and 17, which gives 22 apples; then we double them.\n" * 30 + "Answer: 42"
    cost, unit = (cpu_seconds(partial(_often, what), tries=5) for what in (partial(extract, text, kind), text.split))
    # The aim is 50 us; beside the words of the text, which take about 12, since a busy machine slows both.
    assert cost < 4 * unit, (cost, unit)


def _often(what: Callable[[], object]) -> None:
    for _ in range(200):
        what()


def test_a_reply_that_loops_does_not_take_long() -> None:
    def read() -> None:
        for kind in KINDS:
            extract("\\boxed{" * 2000, kind)
            extract("the answer is " * 2000, kind)
            extract('"answer": ' * 2000, kind)
            extract("1/" * 5000, kind)
            extract("answer of " * 2000, kind)

    assert cpu_seconds(read, enough=5) <= 5
