"""Minimum Bayes risk within and across languages, and the utilities that compare texts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from db.errors import ColonnadeError
from nodes.base import State
from nodes.mbr import MBR
from nodes.similarity import METRICS, chrf, rouge_l, token_f1
from nodes.testing import Prompt, drafted, try_out
from nodes.x_mbr import XMBR, is_english
from providers.errors import Overloaded

TEXTS = st.text(alphabet="ab c.é", max_size=14)


def state(*texts: str, question: str = "How many cups are there?") -> State:
    return State(question=question, candidates=drafted(*texts))


def test_metrics_by_hand() -> None:
    assert token_f1("The cat sat", "the CAT ran off") == 2 * 2 / 7
    assert rouge_l("a b c d", "b a d") == 2 * 2 / 7  # "a d" or "b d"
    assert chrf("ab", "ab") == 1.0
    # Orders 1 and 2: precisions 2/3, 1/2; recalls 1, 1. F2 = 5PR / (4P + R).
    assert chrf("abx", "ab") == pytest.approx(5 * (7 / 12) / (4 * 7 / 12 + 1))
    assert chrf("", "") == chrf(" ", "") == 1.0
    assert chrf("", "x") == chrf("a", "b") == 0.0
    assert token_f1("…", "…") == rouge_l("…", "…") == 1.0
    assert token_f1("…", "a") == rouge_l("…", "a") == 0.0


@pytest.mark.parametrize("name", sorted(METRICS))
@given(text=TEXTS, other=TEXTS)
@settings(max_examples=40)
def test_a_metric_lies_in_0_1_and_is_1_for_the_text_itself(name: str, text: str, other: str) -> None:
    metric = METRICS[name]  # type: ignore[index]  # a key of the mapping itself
    assert 0.0 <= metric(text, other) <= 1.0
    assert metric(text, text) == pytest.approx(1.0)
    if name != "chrf":
        assert metric(text, other) == metric(other, text)


def longest(one: list[str], other: list[str]) -> int:
    if not one or not other:
        return 0
    if one[-1] == other[-1]:
        return 1 + longest(one[:-1], other[:-1])
    return max(longest(one[:-1], other), longest(one, other[:-1]))


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=6), st.lists(st.sampled_from("abc"), min_size=1, max_size=6)
)
@settings(max_examples=40)
def test_rouge_l_by_the_recursion(one: list[str], other: list[str]) -> None:
    found = rouge_l(" ".join(one), " ".join(other))
    assert found == 2 * longest(one, other) / (len(one) + len(other))


def test_the_typical_text_is_chosen_with_its_mean_utility() -> None:
    tried = try_out("mbr", state("red cups here", "red cups", "red cups there", "blue"), keep=None)
    assert tried.texts[0] == "red cups"
    assert tried.texts[-1] == "blue"
    mean = (token_f1("red cups", "red cups here") + token_f1("red cups", "red cups there") + 0) / 3
    assert tried.state.measures["expected_utility"] == pytest.approx(mean)
    assert tried.context.calls == 0


def test_by_answers_it_is_a_majority_vote() -> None:
    tried = try_out(
        "mbr", state("so 3", "Answer: 4", "it is 4", "no idea"), utility="answer", answer_kind="numeric", keep=2
    )
    assert tried.texts == ["Answer: 4", "it is 4"]
    assert tried.state.measures["expected_utility"] == 1 / 3
    assert tried.notes == [("unparsed", "no answer in draft:4")]


def test_no_agreement_at_all_is_noted() -> None:
    tried = try_out("mbr", state("red", "blue"))
    assert tried.texts == ["red"]
    assert tried.notes == [("fallback", "no candidate agrees with any reference; the order is kept")]


def test_a_lone_candidate_goes_on() -> None:
    tried = try_out("mbr", state("red"))
    assert tried.state.candidates[0].scores == {"here": 1.0}
    assert tried.notes == [("skipped", "a lone candidate has nothing to be compared with")]


def test_a_judge_compares_every_ordered_pair_and_what_it_does_not_tell_is_left_out() -> None:
    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        pair = (prompt.variables["candidate"], prompt.variables["reference"])
        match pair:
            case ("a", "b"):
                return Overloaded("503")
            case ("a", "c"):
                return "Score: 10"
            case ("b", "a"):
                return "who knows"
            case ("b", "c"):
                return "Score: 5.5"
        return "Score: 1"

    tried = try_out("mbr", state("a", "b", "c"), script, utility="judge", judge="j", keep=None)
    assert tried.context.calls == 6
    assert [c.scores["here"] for c in tried.state.candidates] == [1.0, 0.5, 0.0]
    assert tried.notes == [
        ("call_failed", "comparison of draft:1 with reference 2: overloaded: 503"),
        ("unparsed", "comparison of draft:2 with reference 1: no score from 1 to 10"),
    ]


@pytest.mark.parametrize("given_settings", [{"utility": "judge"}, {"utility": "chrf", "judge": "j"}])
def test_a_judge_and_its_utility_belong_together(given_settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="give a model as judge with utility: judge, and with no other utility"):
        MBR.model_validate(given_settings)


def test_references_in_another_language_decide_and_are_not_handed_on() -> None:
    """Two candidates that disagree; the responses in the other language break the tie."""
    tried = try_out(
        "x_mbr",
        state("Antwort: 3", "Antwort: 4", question="Wie viele Tassen sind es?"),
        ["Answer: 4", "It is 4", Overloaded("503")],
        model="m",
        utility="answer",
        answer_kind="numeric",
        keep=None,
    )
    assert tried.texts == ["Antwort: 4", "Antwort: 3"]
    assert tried.context.history[0].variables["language"] == "English"
    assert tried.notes == [("call_failed", "response in another language with m: overloaded: 503")]


def test_an_extra_without_an_answer_is_noted_by_its_number() -> None:
    tried = try_out(
        "x_mbr", state("3", "4"), ["none", "4"], model="m", extra=2, utility="answer", answer_kind="numeric"
    )
    assert tried.notes == [("unparsed", "no answer in extra 1")]


def test_without_extras_it_is_mbr() -> None:
    replies = [Overloaded("503")] * 3
    candidates = state("red cups here", "red cups", "blue")
    crossed = try_out("x_mbr", candidates, replies, model="m", utility="token_f1")
    assert crossed.state.candidates == try_out("mbr", candidates).state.candidates


def test_a_judge_compares_with_the_extras_as_well() -> None:
    def script(prompt: Prompt, index: int) -> str:
        return f"Extra {index}" if prompt.template == "x_mbr_generate" else "Score: 4"

    tried = try_out("x_mbr", state("a", "b"), script, model="m", judge="j", extra=2, language="Welsh")
    assert [p.template for p in tried.context.history].count("mbr_utility") == 2 * (1 + 2)
    assert tried.context.history[0].variables["language"] == "Welsh"
    assert XMBR(model="m", judge="j").models() == ("m", "j")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How many cups are on the tray?", True),
        ("Wie viele Tassen stehen auf dem Tablett?", False),
        ("托盘上有多少个杯子？", False),
        ("12 + 4 = ?", False),
        ("", False),
    ],
)
def test_is_english(text: str, expected: bool) -> None:
    assert is_english(text) is expected


def test_an_english_question_is_asked_in_chinese() -> None:
    tried = try_out("x_mbr", state("a"), ["x"], model="m", extra=1, utility="chrf")
    assert tried.context.history[0].variables["language"] == "Chinese"
