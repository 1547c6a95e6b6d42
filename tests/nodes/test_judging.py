"""Critique, verify, unit tests and judge: what they read, and what they do with what they cannot read."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from db.errors import InsufficientCandidates
from nodes.base import Range, Shape, State, exactly
from nodes.critique import Critique
from nodes.testing import Prompt, ScriptedContext, ScriptedEstimator, drafted, try_out
from nodes.unit_test_evaluate import UnitTestEvaluate
from nodes.verify import Verify
from providers.errors import CallTimeout, Overloaded

THREE = State(question="Q", candidates=drafted("a", "b", "c"))
TESTED = replace(THREE, tests=("It is even.", "It is short."))


def verdicts(state: State) -> list[bool | None]:
    return [candidate.verdict for candidate in state.candidates]


def test_each_candidate_gets_its_own_critique_in_one_call() -> None:
    tried = try_out("critique", THREE, ["[1] right\n[2] wrong at step 1: 2 + 2\n[3] right"], model="m")
    assert [c.critique for c in tried.state.candidates] == ["right", "wrong at step 1: 2 + 2", "right"]
    assert tried.context.calls == 1
    assert tried.state.notes == ()


def test_a_candidate_without_a_section_keeps_what_it_had() -> None:
    before = replace(THREE, candidates=tuple(replace(c, critique="old") for c in THREE.candidates))
    tried = try_out("critique", before, ["[1] new\n[3] new"], model="m")
    assert [c.critique for c in tried.state.candidates] == ["new", "old", "new"]
    assert tried.notes == [("unparsed", "no critique of draft:2 in the reply")]
    assert "old" not in tried.context.history[0].text


def test_a_failed_critique_is_noted_and_the_candidates_go_on() -> None:
    tried = try_out("critique", THREE, [CallTimeout("600 s")], model="m")
    assert tried.state.candidates == THREE.candidates
    assert tried.notes == [("call_failed", "critique: timeout: 600 s")]


def test_only_what_is_found_correct_passes() -> None:
    def script(prompt: Prompt, index: int) -> str:
        if prompt.template == "verify_reason":
            return f"reasons on {prompt.variables['candidate']}"
        return "[Correct]" if prompt.variables["candidate"] in ("a", "c") else "Verdict: incorrect"

    tried = try_out("verify", THREE, script, model="m")
    assert tried.texts == ["a", "c"]
    assert tried.state.candidates[0].verdict_reason == "reasons on a"
    assert tried.state.measures == {"verified_fraction": 2 / 3}
    assert tried.context.calls == 6


def test_an_unreadable_verdict_is_no_pass() -> None:
    tried = try_out("verify", THREE, lambda p, i: "[Correct]" if p.variables["candidate"] == "b" else "well", model="m")
    assert tried.texts == ["b"]
    assert tried.notes == [
        ("unparsed", "no verdict in the reply on draft:1; it does not pass"),
        ("unparsed", "no verdict in the reply on draft:3; it does not pass"),
    ]


def test_a_candidate_whose_calls_failed_does_not_pass() -> None:
    def script(prompt: Prompt, index: int) -> str | Overloaded:
        failing = ("verify_reason", "a"), ("verify_verdict", "b")
        return Overloaded("503") if (prompt.template, prompt.variables["candidate"]) in failing else "[Correct]"

    before = replace(THREE, candidates=tuple(replace(c, verdict=True) for c in THREE.candidates))
    tried = try_out("verify", before, script, model="m")
    assert tried.texts == ["c"]
    assert tried.notes == [
        ("call_failed", "reasoning on draft:1: overloaded: 503"),
        ("call_failed", "verdict on draft:2: overloaded: 503"),
    ]


def test_what_goes_on_where_nothing_passes() -> None:
    scored = replace(
        THREE, candidates=tuple(c.scored("j", s) for c, s in zip(THREE.candidates, (1, 3, 3), strict=True))
    )
    everything = try_out("verify", scored, lambda p, i: "[Incorrect]", model="m")
    assert everything.texts == ["a", "b", "c"]
    assert verdicts(everything.state) == [False, False, False]
    assert everything.notes == [("fallback", "no candidate was found correct; all are handed on")]
    assert everything.state.measures == {"verified_fraction": 0.0}
    assert try_out("verify", scored, lambda p, i: "[Incorrect]", model="m", on_none="best").texts == ["b"]
    assert try_out("verify", THREE, lambda p, i: "[Incorrect]", model="m", on_none="best").texts == ["a"]
    with pytest.raises(InsufficientCandidates, match=r"'here' .* none of 3 candidates was found correct"):
        try_out("verify", THREE, lambda p, i: "[Incorrect]", model="m", on_none="fail")


def test_where_every_call_failed_and_nothing_may_pass_the_last_error_is_named() -> None:
    with pytest.raises(
        InsufficientCandidates, match=r"\(3 calls failed, the last: reasoning on draft:3: overloaded: 503\)"
    ):
        try_out("verify", THREE, lambda p, i: Overloaded("503"), model="m", on_none="fail")


def test_equal_candidates_draw_the_same_verdict_samples_whatever_arrives_first() -> None:
    same = State(question="Q", candidates=drafted("a", "a", "a"))

    def script(prompt: Prompt, index: int) -> str:
        return (
            "same reasons" if prompt.template == "verify_reason" else ("[Correct]", "[Incorrect]", "[Correct]")[index]
        )

    found = set()
    for seed in range(20):
        context = ScriptedContext(script, arrival=random.Random(seed))
        after = asyncio.run(Verify(model="m").run(same, context))
        found.add(tuple(candidate.id for candidate in after.candidates))
    assert found == {("draft:1", "draft:3")}


def test_verify_plans_two_calls_each_and_one_to_all_survivors() -> None:
    shape = Shape(question=exactly(10), candidates=exactly(4), candidate_tokens=exactly(5))
    plan = Verify(model="m").plan(shape, ScriptedEstimator(Range(1, 2, 3)))
    assert [call.calls for call in plan.calls] == [exactly(4), exactly(4)]
    assert plan.shape.candidates == Range(1, 2, 4)
    assert plan.shape.verdicts


def test_critique_tokens_are_shared_out() -> None:
    shape = Shape(question=exactly(10), candidates=exactly(4), candidate_tokens=exactly(5))
    plan = Critique(model="m").plan(shape, ScriptedEstimator(Range(1, 100, 200)))
    assert plan.shape.critique_tokens == Range(0, 25, 200)


def test_tests_are_written_read_and_capped() -> None:
    tried = try_out(
        "unit_test_generate", State(question="Q"), ["1. It is even.\n2. It is short.\n3. More."], model="m", count=2
    )
    assert tried.state.tests == ("It is even.", "It is short.")
    assert tried.state.notes == ()
    few = try_out("unit_test_generate", TESTED, ["1. Only one."], model="m", count=5)
    assert few.state.tests == ("Only one.",)
    assert few.notes == [("unparsed", "the reply holds 1 of 5 statements")]
    none = try_out("unit_test_generate", TESTED, [Overloaded("503")], model="m")
    assert none.state.tests == ()
    assert none.notes == [("call_failed", "unit tests: overloaded: 503")]


def test_candidates_are_ordered_by_tests_passed() -> None:
    replies = ["1. [Failed]\n2. [Passed]", "1. [Failed]\n2. [Failed]", "1. [Passed]\n2. [Passed]"]
    tried = try_out("unit_test_evaluate", TESTED, replies, model="m", keep=2)
    assert tried.texts == ["c", "a"]
    assert [c.tests_passed for c in tried.state.candidates] == [(True, True), (False, True)]
    assert [c.scores["here"] for c in tried.state.candidates] == [1.0, 0.5]
    assert tried.state.measures == {"tests_passed": 1.0}
    assert try_out("unit_test_evaluate", TESTED, replies, model="m").texts == ["c"]
    assert try_out("unit_test_evaluate", TESTED, replies, model="m", keep="all").texts == ["c", "a", "b"]


def test_where_no_candidate_passes_every_test() -> None:
    replies = ["1. [Failed]\n2. [Failed]", "1. [Failed]\n2. [Passed]", "1. what?\n2. [Passed]"]
    best = try_out("unit_test_evaluate", TESTED, replies, model="m")
    assert best.texts == ["b"]
    assert ("fallback", "no candidate passes every test; draft:2 is handed on") in best.notes
    assert ("unparsed", "no result of test 1 for draft:3") in best.notes
    assert try_out("unit_test_evaluate", TESTED, replies, model="m", on_none="all").texts == ["b", "c", "a"]
    with pytest.raises(InsufficientCandidates, match="passes every test"):
        try_out("unit_test_evaluate", TESTED, replies, model="m", on_none="fail")


def test_without_tests_nothing_is_asked() -> None:
    tried = try_out("unit_test_evaluate", THREE, model="m")
    assert tried.texts == ["a", "b", "c"]
    assert tried.context.calls == 0
    assert [kind for kind, _ in tried.notes] == ["skipped"]
    assert all(c.scores == {"here": 0.0} for c in tried.state.candidates)
    assert try_out("unit_test_evaluate", THREE, model="m", keep=2).texts == ["a", "b"]


@pytest.mark.parametrize(
    ("tests", "calls"), [(Range(2, 2, 2), (3, 3, 3)), (Range(0, 1, 4), (0, 3, 3)), (exactly(0), (0, 0, 0))]
)
def test_an_evaluation_is_foretold_only_where_there_are_tests(tests: Range, calls: tuple[int, ...]) -> None:
    shape = Shape(question=exactly(9), candidates=exactly(3), candidate_tokens=exactly(5), tests=tests)
    (call,) = UnitTestEvaluate(model="m").plan(shape, ScriptedEstimator(Range(1, 5, 9))).calls
    assert tuple(call.calls) == calls


def test_scores_order_the_candidates_and_equal_ones_keep_their_order() -> None:
    tried = try_out("judge", THREE, ["Score: 7", "Score: 9", "Score: 7"], model="m")
    assert tried.texts == ["b", "a", "c"]
    assert tried.state.measures == {"best_score": 9.0}
    assert try_out("judge", THREE, ["Score: 7", "Score: 9", "Score: 7"], model="m", keep=1).texts == ["b"]


def test_what_has_no_score_comes_last_with_0() -> None:
    tried = try_out("judge", THREE, ["Score: 11", Overloaded("503"), "Score: 1"], model="m")
    assert {c.text: c.scores["here"] for c in tried.state.candidates} == {"c": 1.0, "a": 0.0, "b": 0.0}
    assert tried.texts == ["c", "a", "b"]
    assert tried.notes == [
        ("unparsed", "no score from 1 to 10 in the reply on draft:1"),
        ("call_failed", "judge draft:2: overloaded: 503"),
    ]
