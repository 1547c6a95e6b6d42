from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.base import Shape, State, exactly
from nodes.rank import Rank
from nodes.testing import Prompt, ScriptedEstimator, drafted, try_out
from providers.errors import ContextLengthExceeded, Overloaded

THREE = State(question="Q", candidates=drafted("a", "b", "c"))


def scores(state: State) -> dict[str, float]:
    return {candidate.text: candidate.scores["here"] for candidate in state.candidates}


def test_the_best_come_first_and_so_many_are_kept() -> None:
    tried = try_out("rank", THREE, ["[1] is weak.\nRanking: [3] > [1] > [2]"], model="m", keep=2)
    assert tried.texts == ["c", "a"]
    assert scores(tried.state) == {"c": 1.0, "a": 0.5}
    assert tried.state.notes == ()
    assert tried.context.history[0].variables["keep"] == 2


@given(st.permutations(["a", "b", "c", "d", "e"]))
def test_any_order_is_followed(order: list[str]) -> None:
    before = State(question="Q", candidates=drafted("a", "b", "c", "d", "e"))
    reply = "Ranking: " + " > ".join(f"[{'abcde'.index(text) + 1}]" for text in order)
    tried = try_out("rank", before, [reply], model="m")
    assert tried.texts == order
    assert list(scores(tried.state).values()) == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_an_unreadable_ranking_keeps_the_order_and_says_so() -> None:
    tried = try_out("rank", THREE, ["They are all good."], model="m", keep=2)
    assert tried.texts == ["a", "b"]
    assert scores(tried.state) == {"a": 0.5, "b": 0.5}
    assert tried.notes == [("unparsed", "the reply gives no ranking; the order is kept and all scores are equal")]


def test_a_failed_ranking_keeps_the_order_and_says_so() -> None:
    tried = try_out("rank", THREE, [ContextLengthExceeded("too long")], model="m")
    assert tried.texts == ["a", "b", "c"]
    assert [kind for kind, _ in tried.notes] == ["call_failed", "fallback"]
    assert "context_length: too long" in tried.notes[0][1]


def test_repeated_missing_and_foreign_numbers() -> None:
    before = State(question="Q", candidates=drafted("a", "b", "c", "d"))
    tried = try_out("rank", before, ["Ranking: [3] > [3] > [9] > [2]"], model="m")
    assert tried.texts == ["c", "b", "a", "d"]
    assert scores(tried.state) == pytest.approx({"c": 1.0, "b": 2 / 3, "a": 1 / 6, "d": 1 / 6})
    assert tried.notes == [("fallback", "the ranking names 2 of 4 candidates; the others follow in their order")]


def test_a_ranking_that_names_all_that_are_kept_is_enough() -> None:
    tried = try_out("rank", THREE, ["Ranking: [2]"], model="m", keep=1)
    assert tried.texts == ["b"]
    assert tried.state.notes == ()


@pytest.mark.parametrize("method", ["listwise", "pairwise"])
def test_a_lone_candidate_is_not_asked_about(method: str) -> None:
    tried = try_out("rank", State(question="Q", candidates=drafted("a")), model="m", method=method)
    assert tried.context.calls == 0
    assert scores(tried.state) == {"a": 1.0}
    assert [kind for kind, _ in tried.notes] == ["skipped"]
    plan = Rank.model_validate({"model": "m", "method": method}).plan(
        Shape(question=exactly(1), candidates=exactly(1)), ScriptedEstimator(exactly(1))
    )
    assert plan.calls == ()


def test_pairs_are_asked_in_both_orders_and_wins_are_counted() -> None:
    def prefers_later_letters(prompt: Prompt, index: int) -> str:
        return "Better: [1]" if str(prompt.variables["first"]) > str(prompt.variables["second"]) else "Better: [2]"

    tried = try_out("rank", THREE, prefers_later_letters, model="m", method="pairwise")
    asked = [(p.variables["first"], p.variables["second"]) for p in tried.context.history]
    assert asked == [order for a, b in combinations("abc", 2) for order in ((a, b), (b, a))]
    assert tried.texts == ["c", "b", "a"]
    assert scores(tried.state) == {"c": 1.0, "b": 0.5, "a": 0.0}


def test_a_judge_that_favours_a_place_leaves_a_tie() -> None:
    tried = try_out("rank", THREE, lambda prompt, index: "Better: [1]", model="m", method="pairwise")
    assert tried.texts == ["a", "b", "c"]
    assert set(scores(tried.state).values()) == {0.5}


def test_unreadable_and_failed_comparisons_are_ties_and_noted() -> None:
    two = State(question="Q", candidates=drafted("a", "b"))
    tried = try_out("rank", two, ["hm", "Better: [1]"], model="m", method="pairwise")
    assert scores(tried.state) == {"b": 0.75, "a": 0.25}
    assert tried.notes == [("unparsed", "comparison of draft:1 with draft:2: taken as a tie")]
    tried = try_out("rank", two, [Overloaded("503"), "Better: tie"], model="m", method="pairwise")
    assert [kind for kind, _ in tried.notes] == ["call_failed", "fallback"]
    assert set(scores(tried.state).values()) == {0.5}


def test_compact_models_compare_pairs_by_their_ranking_prompt() -> None:
    two = State(question="Q", candidates=drafted("a", "b"))
    replies = ["[1] wrong [2] right\nRanking: [2] > [1]", "[1] right [2] wrong\nRanking: [1] > [2]"]
    tried = try_out("rank", two, replies, model="m", method="pairwise", style="compact")
    assert tried.texts == ["b", "a"]
    assert (
        tried.context.history[0].text == try_out("rank", two, ["x"], model="m", style="compact").context.history[0].text
    )
