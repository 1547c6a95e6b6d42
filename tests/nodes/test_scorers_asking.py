"""Scorers that ask a model: what they ask, how replies become scores, and what cannot be read."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from db.errors import ColonnadeError
from nodes.base import ZERO, Note, Range, Shape, State
from nodes.measuring import MeasuringScorer
from nodes.scorers import get_scorer
from nodes.scorers.base import Scored, Scorer
from nodes.scorers.panel import Panel
from nodes.scorers.registry import AnyScorer
from nodes.scorers.step_check import StepCheck, prefixes
from nodes.testing import Prompt, ScriptedContext, ScriptedEstimator, drafted, in_order, try_out
from providers.errors import Overloaded

QUESTION = "How many?"


class Asked(NamedTuple):
    values: list[float | None]
    notes: list[tuple[str, str]]
    context: ScriptedContext
    scored: Scored


def ask(
    scorer: Scorer,
    texts: Iterable[str],
    replies: Iterable[str | ColonnadeError] | Callable[[Prompt, int], str | ColonnadeError],
    tests: tuple[str, ...] = (),
) -> Asked:
    context = ScriptedContext(replies if callable(replies) else in_order(replies), node="here")
    candidates = drafted(*texts)
    scored = asyncio.run(
        scorer.score(State(question=QUESTION, candidates=candidates, tests=tests), candidates, context)
    )
    values = [None if score is None else score.value for score in scored.scores]
    return Asked(values, [(note.kind, note.detail) for note in scored.notes], context, scored)


def make(name: str, **settings_: object) -> Scorer:
    return get_scorer(name).model_validate({"model": "j", **settings_})


@pytest.mark.parametrize(
    ("name", "kind_of_text"),
    [("reward", "the reply"), ("cross_encoder", "the reply"), ("verdict_probability", "in the prompt")],
)
def test_a_measuring_scorer_takes_the_models_own_number(name: str, kind_of_text: str) -> None:
    found = ask(make(name), ["good", "bad [1]"], ["0.75", "-3.5"])
    assert found.values == [0.75, -3.5]
    assert {p.kind for p in found.context.history} == {"score"}
    first = found.context.history[0]
    assert "good" in first.text
    assert (first.messages[-1].role == "assistant") == (kind_of_text == "the reply")
    assert [score.source for score in found.scored.scores if score] == [f"{name} j"] * 2


@pytest.mark.parametrize("name", ["reward", "cross_encoder", "verdict_probability"])
def test_a_measurement_that_fails_is_no_score(name: str) -> None:
    found = ask(make(name), ["a", "b"], [Overloaded("503"), "no number"])
    assert found.values == [None, None]
    assert found.notes == [
        ("call_failed", "score of draft:1: overloaded: 503"),
        ("call_failed", "score of draft:2: malformed: the scripted reply is no number"),
    ]


def test_scores_of_no_bounds_go_to_0_1_by_the_logistic_function() -> None:
    reward = make("reward")
    assert isinstance(reward, MeasuringScorer)
    assert reward.unit(0.0) == 0.5
    assert reward.unit(1e9) == 1.0
    assert reward.unit(-1e9) == 0.0
    assert make("judge").unit(5.5) == 0.5
    assert make("judge").unit(99) == 1.0


def test_genrm_is_the_share_of_chains_that_find_it_correct() -> None:
    verdicts = iter(["[Correct]", "[Incorrect]", "[Correct]", "who knows"])

    def script(prompt: Prompt, index: int) -> str:
        return f"because {index}" if prompt.template == "verify_reason" else next(verdicts)

    found = ask(make("genrm", chains=4), ["a"], script)
    assert found.values == [2 / 3]
    assert found.notes == [("unparsed", "no verdict in reply 4 on draft:1; it does not count")]
    assert [p.n for p in found.context.history] == [4, 1, 1, 1, 1]
    assert "because 2" in found.context.history[3].text


def test_genrm_goes_on_with_the_chains_that_came() -> None:
    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        if prompt.template == "verify_reason":
            return Overloaded("503") if index == 0 else "because"
        return Overloaded("504") if prompt.variables["candidate"] == "b" else "[Correct]"

    found = ask(make("genrm", chains=2), ["a", "b"], script)
    assert found.values == [1.0, None]
    assert [kind for kind, _ in found.notes] == ["call_failed"] * 3
    # Equal reasonings and equal candidates draw samples of their own.
    twice = ask(make("genrm", chains=2), ["a", "a"], lambda p, i: "[Correct]")
    firsts = [p.first for p in twice.context.history if p.template == "verify_verdict"]
    assert sorted(firsts, key=str) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("aggregate", "score"), [("min", 0.2), ("product", 0.9 * 0.2 * 0.8), ("mean", 1.9 / 3), ("last", 0.8)]
)
def test_steps_are_aggregated(aggregate: str, score: float) -> None:
    values = {"one": "0.9", "one\ntwo": "0.2", "one\ntwo\nthree": "0.8"}
    found = ask(
        make("step_check", aggregate=aggregate), ["one\n\ntwo\nthree"], lambda p, i: values[str(p.variables["partial"])]
    )
    assert found.values == [pytest.approx(score)]
    assert len(found.context.history) == (1 if aggregate == "last" else 3)


def test_a_step_that_fails_does_not_count() -> None:
    found = ask(make("step_check"), ["one\ntwo", "", "three"], ["0.9", Overloaded("503"), Overloaded("504")])
    assert found.values == [0.9, None, None]
    assert found.notes == [
        ("call_failed", "step 2 of draft:1: overloaded: 503"),
        ("unparsed", "there is no step in draft:2"),
        ("call_failed", "step 1 of draft:3: overloaded: 504"),
    ]
    with pytest.raises(ValueError, match="There are no steps to aggregate"):
        StepCheck(model="j").aggregated([])


@given(st.lists(st.sampled_from(["a", "b b", ""]), max_size=9), st.integers(1, 5))
@settings(max_examples=40)
def test_prefixes_grow_to_the_whole_and_leave_no_line_out(lines: list[str], most: int) -> None:
    full = [line for line in lines if line]
    found = prefixes("\n".join(lines), most)
    assert len(found) == min(len(full), most)
    assert not full or found[-1] == "\n".join(full)
    for shorter, longer in itertools.pairwise(found):
        assert longer.startswith(shorter + "\n")


def test_a_panel_brings_scores_to_one_scale_and_pools_them() -> None:
    members = [{"use": "judge", "model": "x"}, {"use": "reward", "model": "y"}, {"use": "judge", "model": "z"}]
    said = {"x": "Score: 10", "y": "0", "z": "Score: 1"}
    for pool, value in (("mean", 0.5), ("median", 0.5), ("majority", 1.0)):
        panel = TypeAdapter(AnyScorer).validate_python({"use": "panel", "members": members, "pool": pool})
        found = ask(panel, ["a"], lambda prompt, index: said[prompt.model])
        assert found.values == [value]
        assert found.scored.scores[0] is not None
        assert found.scored.scores[0].source == f"{pool} of judge x, reward y, judge z"
    assert panel.models() == ("x", "y", "z")


def test_a_member_that_cannot_score_is_left_out() -> None:
    panel = Panel.model_validate({"members": [{"use": "judge", "model": "x"}, {"use": "judge", "model": "y"}]})

    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        if prompt.variables["candidate"] == "b":
            return "no mark"
        return Overloaded("503") if prompt.model == "x" else "Score: 10"

    found = ask(panel, ["a", "b"], script)
    assert found.values == [1.0, None]
    assert len(found.notes) == 3


def test_a_panels_needs_are_its_members() -> None:
    checked = {"use": "constraint_check", "model": "x"}
    panel = Panel.model_validate({"members": [checked, {"use": "tests", "model": "x"}, {"use": "tests", "model": "y"}]})
    assert panel.demands() == {"tests"}
    assert panel.required() == frozenset()
    found = ask(panel, ["a"], lambda p, i: "1. [Passed]" if p.template == "unit_test_evaluate" else "Well.\nScore: 60",
                ("t",))  # fmt: skip
    assert found.values == [pytest.approx((1 + 1 + 0.8) / 3)]
    assert found.scored.feedback == ("Well.\nScore: 60",)
    assert Panel.model_validate({"members": ["brevity"], "pool": "majority"}).pooled([0.9, 0.1]) == 0.5
    with pytest.raises(ValueError, match="There are no scores to pool"):
        panel.pooled([])


def test_tests_are_the_share_that_passes() -> None:
    tests = ("is 12", "multiplies")
    found = ask(
        make("tests"), ["a", "b", "c", "d"],
        ["1. [Passed]\n2. [Failed]", "1. [Passed]\n2. [Passed]", "who knows", Overloaded("503")], tests,
    )  # fmt: skip
    assert found.values == [0.5, 1.0, None, None]
    assert [kind for kind, _ in found.notes] == ["unparsed", "call_failed"]
    assert ask(make("tests"), ["a"], ["1. [Passed]"], tests).values == [0.5]  # what is not read is not passed
    none = ask(make("tests"), ["a"], [])
    assert (none.values, none.notes) == ([None], [("skipped", "there are no unit tests; no candidate is judged")])


@pytest.mark.parametrize(
    ("reply", "value", "unread"),
    [
        ("All kept, 3 out of 10 days early.\nScore: 95", 95.0, None),
        ("**Score: -40**", -40.0, None),
        ("100", 100.0, None),
        ("Score: 101", None, "no score from -100 to 100"),
        ("1. [Passed]\n2. [Failed]", 0.0, None),
        ("1. [Passed]", 0.0, "no result of constraint 2"),
        ("it took 3 days", None, "no score from -100 to 100"),
    ],
)
def test_constraints_are_checked_with_feedback(reply: str, value: float | None, unread: str | None) -> None:
    found = ask(make("constraint_check"), ["a"], [reply], ("one", "two"))
    assert found.values == [value]
    assert found.notes == ([("unparsed", f"{unread} in the reply on draft:1")] if unread else [])
    assert found.scored.feedback == ((reply,) if value is not None else (None,))


def test_feedback_becomes_the_critique_and_failures_are_noted() -> None:
    state = State(question=QUESTION, candidates=drafted("a", "b"), tests=("one",))
    tried = try_out(
        "score", state, ["Good.\nScore: 90", Overloaded("503")], scorer={"use": "constraint_check", "model": "j"}
    )
    assert [(c.text, c.critique, c.scores["here"]) for c in tried.state.candidates] == [
        ("a", "Good.\nScore: 90", 90.0),
        ("b", None, -100.0),
    ]
    assert tried.notes == [("call_failed", "constraints on draft:2: overloaded: 503")]
    none = ask(make("constraint_check"), ["a"], [])
    assert (none.values, none.notes[0][0]) == ([None], "skipped")


def test_the_second_look_reads_the_first_and_gives_the_mark() -> None:
    def script(prompt: Prompt, index: int) -> str:
        if prompt.template == "branch":
            return f"1. Mind the sum of {prompt.text[:0]}it."
        assert "Mind the sum" in prompt.text
        return "It holds.\nScore: 8"

    found = ask(make("branch_and_rethink", dimensions=2), ["a", "a", "b"], script)
    assert found.values == [8.0, 8.0, 8.0]
    assert [p.first for p in found.context.history if p.template == "rethink"] == [0, 1, 0]
    assert "2" in found.context.history[0].text


def test_a_look_that_fails_is_no_score() -> None:
    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        text = prompt.text
        if "aaa" in text and prompt.template == "branch":
            return Overloaded("503")
        if prompt.template == "branch":
            return "1. Sum."
        return Overloaded("504") if "bbb" in text else "no mark"

    found = ask(make("branch_and_rethink"), ["aaa", "bbb", "ccc"], script)
    assert found.values == [None, None, None]
    assert found.notes == [
        ("call_failed", "first look at draft:1: overloaded: 503"),
        ("call_failed", "second look at draft:2: overloaded: 504"),
        ("unparsed", "no score from 1 to 10 for draft:3"),
    ]


def test_listwise_reads_a_mark_for_each() -> None:
    found = ask(
        make("branch_and_rethink", listwise=True), ["a", "b", "c"],
        ["1. Sum.", "[1] Fine.\nScore: 9\n[2] Well.\n[3] Bad.\nScore: 2"],
    )  # fmt: skip
    assert found.values == [9.0, None, 2.0]
    assert found.notes == [("unparsed", "no score from 1 to 10 for draft:2")]
    assert found.context.calls == 2
    assert ask(make("branch_and_rethink", listwise=True), ["a", "b"], ["1. x", "none"]).values == [None, None]


def test_a_scorer_in_a_setting_says_what_is_wrong_with_it() -> None:
    adapter: TypeAdapter[Scorer] = TypeAdapter(AnyScorer)
    for value, said in (
        ("reword", "There is no scorer 'reword'. Did you mean 'reward'"),
        ({"use": "genrm", "model": "j", "chains": 0}, "in scorer 'genrm': chains: "),
        ({"model": "j"}, "a scorer is a name, or a mapping with 'use'"),
        ({"use": "step_check", "model": "j", "max_steps": 0}, "in scorer 'step_check': max_steps"),
        ({"use": "panel", "members": ["judge"]}, "in scorer 'panel': members.0: in scorer 'judge': model: Field"),
    ):
        with pytest.raises(ValidationError, match=said):
            adapter.validate_python(value)
    assert adapter.validate_python(make("reward")) == make("reward")


@pytest.mark.parametrize("name", ["tests", "constraint_check"])
@pytest.mark.parametrize(
    ("tests", "calls"), [(Range(2, 2, 2), (3, 3, 3)), (Range(0, 1, 4), (0, 3, 3)), (ZERO, (0, 0, 0))]
)
def test_calls_are_foretold_only_where_there_are_tests(name: str, tests: Range, calls: tuple[int, ...]) -> None:
    shape = Shape(question=Range(9, 9, 9), candidates=Range(3, 3, 3), candidate_tokens=Range(5, 5, 5), tests=tests)
    (call,) = make(name).plan(shape, ScriptedEstimator(Range(1, 5, 9)))
    assert tuple(call.calls) == calls


def test_the_plan_of_a_listwise_judge_and_of_a_panels_feedback() -> None:
    shape = Shape(question=Range(9, 9, 9), candidates=Range(3, 3, 3), candidate_tokens=Range(5, 5, 5))
    estimator = ScriptedEstimator(Range(1, 5, 9))
    assert [call.calls.high for call in make("branch_and_rethink", listwise=True).plan(shape, estimator)] == [1, 1]
    checked = {"use": "constraint_check", "model": "x"}
    one, two = (Panel.model_validate({"members": [checked] * count}).feedback_tokens(estimator) for count in (1, 2))
    assert one == Range(1, 6, 11)
    assert two == Range(1, 12, 22)
    assert Panel.model_validate({"members": ["brevity"]}).feedback_tokens(estimator) is None


def test_a_scorers_note_names_the_node() -> None:
    assert ask(make("judge"), ["a"], ["no mark"]).scored.notes == [
        Note("here", "unparsed", "no score from 1 to 10 in the reply on draft:1")
    ]
