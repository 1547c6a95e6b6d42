from __future__ import annotations

from dataclasses import replace

import pytest

from db.errors import InsufficientCandidates
from nodes.base import State
from nodes.testing import drafted, try_out
from providers.errors import Overloaded

CRITICISED = State(
    question="Q",
    candidates=tuple(
        replace(c, critique=f"weak {c.text}", verdict=True, answer="1").scored("j", 1) for c in drafted("a", "b")
    ),
    tests=("It is even.",),
)


def test_fused_responses_have_all_candidates_as_parents_and_nothing_of_theirs() -> None:
    tried = try_out("fuse", CRITICISED, ["f", "g"], model=["m", "o"])
    assert tried.texts == ["f", "g"]
    for candidate in tried.state.candidates:
        assert candidate.parents == ("draft:1", "draft:2")
        assert (candidate.critique, candidate.verdict, candidate.answer, dict(candidate.scores)) == (
            None,
            None,
            None,
            {},
        )
    assert tried.state.tests == ("It is even.",)


def test_critiques_are_shown_unless_they_are_not_wanted() -> None:
    assert "weak a" in try_out("fuse", CRITICISED, ["f"], model="m").context.history[0].text
    assert "weak a" not in try_out("fuse", CRITICISED, ["f"], model="m", use_critiques=False).context.history[0].text
    assert "weak a" in try_out("rank", CRITICISED, ["[1]"], model="m").context.history[0].text
    assert "weak a" not in try_out("rank", CRITICISED, ["[1]"], model="m", use_critiques=False).context.history[0].text


def test_each_candidate_is_refined_with_its_own_critique() -> None:
    tried = try_out("refine", CRITICISED, ["a2", "b2"], model="m")
    assert tried.texts == ["a2", "b2"]
    assert [c.parents for c in tried.state.candidates] == [("draft:1",), ("draft:2",)]
    assert [c.critique for c in tried.state.candidates] == [None, None]
    assert "weak a" in tried.context.history[0].text
    assert "weak b" not in tried.context.history[0].text


def test_without_a_critique_refine_asks_for_a_look_of_its_own() -> None:
    tried = try_out("refine", State(question="Q", candidates=drafted("a")), ["a2"], model="m")
    assert "<critique" not in tried.context.history[0].text
    assert tried.texts == ["a2"]


def test_a_candidate_whose_refinement_failed_is_gone_and_noted() -> None:
    tried = try_out("refine", CRITICISED, [Overloaded("503"), "b2"], model="m")
    assert tried.texts == ["b2"]
    assert tried.state.candidates[0].parents == ("draft:2",)
    assert tried.notes == [("call_failed", "refine draft:1: overloaded: 503")]
    with pytest.raises(InsufficientCandidates, match="overloaded: 503"):
        try_out("refine", CRITICISED, [Overloaded("503"), Overloaded("503")], model="m")
