"""Debates: what agents see of one another, when they end, and who drops out."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from db.errors import ColonnadeError, InsufficientCandidates
from nodes.base import State
from nodes.debate import Debate
from nodes.testing import Prompt, Tried, try_out
from providers.errors import Overloaded

STATE = State(question="How many?")


def debate(first: list[str | ColonnadeError], later: list[str | ColonnadeError], **settings: object) -> Tried:
    """Give the first answers by the order of asking, then the later ones."""
    queues = {"generate": list(first), "debate": list(later)}

    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        return queues[prompt.template].pop(0)

    tried = try_out(Debate.model_validate(settings), STATE, script, answer_kind="numeric")
    assert not any(queues.values())
    return tried


def seen(tried: Tried) -> list[list[str]]:
    """Return what each later prompt shows, in order."""
    return [
        re.findall(r'<candidate number="\d+">\n(.*?)\n</candidate>', p.text, re.DOTALL)
        for p in tried.context.history
        if p.template == "debate"
    ]


def test_each_agent_sees_its_own_answer_first_and_then_the_others() -> None:
    tried = debate(["A: 1", "B: 2", "C: 3"], ["A: 2", "B: 2", "C: 3"], model="a", agents=3, rounds=2)
    assert seen(tried) == [["A: 1", "B: 2", "C: 3"], ["B: 2", "A: 1", "C: 3"], ["C: 3", "A: 1", "B: 2"]]
    assert tried.texts == ["A: 2"]
    assert tried.state.measures == {"agreement": 2 / 3, "rounds": 2}
    assert tried.state.candidates[0].parents == ("here:1", "here:2", "here:3")
    assert tried.state.candidates[0].id == "here:4"


def test_keep_hands_on_the_last_response_of_every_agent() -> None:
    tried = debate(["1", "2"], ["3", "4", "5", "6"], model=["a", "b"], agents=1, rounds=3, final="keep")
    assert tried.texts == ["5", "6"]
    assert [c.model for c in tried.state.candidates] == ["a", "b"]


def test_a_debate_may_end_when_all_agree() -> None:
    tried = debate(["x 4", "y 5"], ["x 4", "y 4"], model="a", agents=2, rounds=5, until_agreed=True)
    assert tried.state.measures == {"agreement": 1.0, "rounds": 2}


def test_who_states_no_answer_does_not_agree() -> None:
    tried = debate(["4", "none"], ["4", "4"], model="a", agents=2, rounds=3, until_agreed=True)
    assert tried.state.measures["rounds"] == 2


def test_an_agent_whose_call_fails_stands_by_its_answer_and_is_asked_again() -> None:
    tried = debate(["1", "2"], [Overloaded("503"), "2b", "1c", "2c"], model="a", agents=2, rounds=3, final="keep")
    assert seen(tried)[2] == ["1", "2b"]
    assert tried.texts == ["1c", "2c"]
    assert tried.notes == [("call_failed", "answer of agent 1 (a): overloaded: 503")]


def test_an_agent_that_never_answers_is_left_out() -> None:
    tried = debate([Overloaded("503"), "2", "3"], ["2", "2"], model=["a", "b", "c"], agents=1, rounds=2)
    assert seen(tried) == [["2", "3"], ["3", "2"]]
    assert tried.texts == ["2"]
    assert tried.notes == [("call_failed", "first answer of a: overloaded: 503")]


def test_a_lone_agent_has_nobody_to_debate_with() -> None:
    tried = debate([Overloaded("503"), "2"], [], model=["a", "b"], agents=1, rounds=3)
    assert tried.texts == ["2"]
    assert tried.state.measures == {"agreement": 1.0, "rounds": 1}
    assert tried.notes[-1] == ("skipped", "fewer than two agents have answered; the debate ends")
    with pytest.raises(InsufficientCandidates, match="2 calls failed"):
        debate([Overloaded("503"), Overloaded("504")], [], model="a", agents=2)


def test_nobody_states_an_answer() -> None:
    tried = debate(["hm", "well"], [], model="a", agents=2, rounds=1)
    assert tried.texts == ["hm"]
    assert tried.state.measures == {"agreement": 0.0, "rounds": 1}
    assert tried.notes[-1] == ("fallback", "no agent states an answer")


def test_a_reviser_speaks_for_all_after_the_first_round() -> None:
    tried = debate(["1", "2"], ["3", "3"], model=["a", "b"], agents=1, reviser="r")
    assert [p.model for p in tried.context.history] == ["a", "b", "r", "r"]
    assert Debate(model="a", reviser="r").models() == ("a", "r")
    assert Debate(model="a", reviser="r", rounds=1).models() == ("a",)


def test_one_agent_is_no_debate() -> None:
    with pytest.raises(ValidationError, match="a debate needs at least 2 agents; raise `agents` or name more models"):
        Debate(model="a", agents=1)
