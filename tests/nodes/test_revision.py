"""Iterative decoding and sequential revision: what each round sees, when it ends, what is handed on."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from db.errors import ColonnadeError, InsufficientCandidates
from nodes.base import State
from nodes.iterative_decode import IterativeDecode
from nodes.registry import get
from nodes.sequential_revision import SequentialRevision
from nodes.testing import Prompt, Tried, try_out
from providers.errors import Overloaded

STATE = State(question="How many?")
JUDGE = {"use": "judge", "model": "j"}


def mark(text: str) -> str:
    """Judge by the number in the text."""
    found = re.findall(r"\d+", text)
    return f"Score: {found[-1]}" if found else "no idea"


def write(name: str, *replies: str | ColonnadeError, **settings: object) -> Tried:
    """Give the replies in turn; the judge marks them by their number."""
    queue = list(replies)

    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        return mark(str(prompt.variables["candidate"])) if prompt.template == "judge" else queue.pop(0)

    tried = try_out(get(name).model_validate({"model": "a", **settings}), STATE, script, answer_kind="numeric")
    assert not queue
    return tried


def shown(tried: Tried, template: str) -> list[list[str]]:
    return [
        re.findall(r'<candidate number="\d+">\n(.*?)\n</candidate>', p.text, re.DOTALL)
        for p in tried.context.history
        if p.template == template
    ]


def test_a_round_sees_the_best_and_the_worst_with_their_scores() -> None:
    tried = write("iterative_decode", "r 3", "r 8", "r 5", "r 6", "r 2", "r 9", samples=3, rounds=2, scorer=JUDGE)
    assert shown(tried, "iterative_decode") == [["r 8", "r 3"]]
    prompt = next(p for p in tried.context.history if p.template == "iterative_decode")
    assert prompt.n == 3
    assert prompt.variables["scores"] == ["8", "3"]
    assert tried.texts == ["r 9"]
    assert tried.state.measures == {"best_score": 9.0, "rounds": 2}
    assert tried.state.candidates[0].parents == ("here:2", "here:1")


def test_the_best_alone_may_be_shown_and_several_kept() -> None:
    tried = write(
        "iterative_decode", "r 3", "r 8", "r 4", "r 7", samples=2, rounds=2, scorer=JUDGE, show="best", keep=3
    )
    assert shown(tried, "iterative_decode") == [["r 8"]]
    assert tried.texts == ["r 8", "r 7", "r 4"]


def test_of_equals_the_worst_is_another_one_than_the_best() -> None:
    tried = write("iterative_decode", "x 5", "y 5", "z 5", "w 5", samples=2, rounds=2, scorer=JUDGE)
    assert shown(tried, "iterative_decode") == [["x 5", "y 5"]]


def test_the_threshold_ends_the_rounds() -> None:
    tried = write("iterative_decode", "r 3", "r 9", samples=1, rounds=5, scorer=JUDGE, threshold=9)
    assert tried.state.measures == {"best_score": 9.0, "rounds": 2}
    assert shown(tried, "iterative_decode") == [["r 3"]]


def test_what_cannot_be_scored_has_the_worst_score() -> None:
    tried = write("iterative_decode", "nothing", "r 4", samples=2, rounds=1, scorer=JUDGE, keep=2)
    assert [c.scores["here"] for c in tried.state.candidates] == [4.0, 0.0]
    assert tried.notes == [("unparsed", "no score from 1 to 10 in the reply on here:1")]


def test_a_scorers_feedback_is_not_handed_on_as_a_critique() -> None:
    node = IterativeDecode.model_validate(
        {"model": "a", "samples": 1, "rounds": 1, "scorer": {"use": "constraint_check", "model": "j"}}
    )
    replies = {"generate": "r 4", "constraint_check": "All is kept.\nScore: 90"}
    tried = try_out(node, State(question="Q", tests=("It is even.",)), lambda prompt, index: replies[prompt.template])
    assert tried.state.candidates[0].scores == {"here": 90.0}
    assert tried.state.candidates[0].critique is None


def test_a_round_that_fails_is_noted_and_the_next_one_tries_again() -> None:
    tried = write("iterative_decode", Overloaded("503"), "r 4", Overloaded("504"), samples=1, rounds=3, scorer=JUDGE)
    assert tried.texts == ["r 4"]
    assert [c.id for c in tried.state.candidates] == ["here:2"]
    assert tried.notes == [
        ("call_failed", "generate with a: overloaded: 503"),
        ("call_failed", "a better response with a: overloaded: 504"),
    ]
    with pytest.raises(InsufficientCandidates, match="2 calls failed, the last with overloaded: 504"):
        write("iterative_decode", Overloaded("503"), Overloaded("504"), samples=1, rounds=2, scorer=JUDGE)


def test_the_scorers_models_and_needs_are_the_nodes() -> None:
    node = IterativeDecode.model_validate({"model": "a", "reviser": "b", "scorer": {"use": "tests", "model": "j"}})
    assert node.models() == ("a", "b", "j")
    assert node.demands() == {"tests"}
    assert node.required_of("j") == node.required_of("a") == frozenset()


def test_chains_revise_their_own_last_responses() -> None:
    tried = write(
        "sequential_revision", "a 1", "b 2", "a 3", "b 4", "a 5", "b 6", chains=2, turns=3, memory=2, final="all"
    )
    assert shown(tried, "revise") == [["a 1"], ["b 2"], ["a 1", "a 3"], ["b 2", "b 4"]]
    assert tried.texts == ["a 1", "b 2", "a 3", "b 4", "a 5", "b 6"]
    assert [c.parents for c in tried.state.candidates] == [
        (), (), ("here:1",), ("here:2",), ("here:3",), ("here:4",),
    ]  # fmt: skip
    assert tried.state.measures["changed"] == 1.0


def test_the_vote_over_all_turns_hands_on_the_latest_of_the_winner() -> None:
    tried = write("sequential_revision", "x 4", "y 5", "z 4", "w 6", chains=2, turns=2)
    assert tried.texts == ["z 4"]
    assert tried.state.measures == {"agreement": 0.5, "changed": 0.5}


def test_a_scorer_weighs_the_votes_or_picks_the_best() -> None:
    # Marks 2 and 2 weigh 1/9 each, the mark 9 weighs 8/9.
    assert write("sequential_revision", "x 2", "y 2", "z 9", chains=3, turns=1, scorer=JUDGE).texts == ["z 9"]
    best = write("sequential_revision", "x 2", "y 8", "z 3", "w 4", chains=1, turns=4, final="best", scorer=JUDGE)
    assert best.texts == ["y 8"]
    level = write("sequential_revision", "x 1", "y 1", chains=2, turns=1, scorer=JUDGE)
    assert level.notes == [("fallback", "no voter has a score above 0; all votes weigh the same")]


def test_the_last_of_each_chain() -> None:
    assert write("sequential_revision", "1", "2", "3", "4", chains=2, turns=2, final="last").texts == ["3", "4"]


def test_a_chain_whose_call_fails_keeps_what_it_has_and_is_asked_again() -> None:
    tried = write(
        "sequential_revision", "a1", "b2", Overloaded("503"), "b4", "a5", "b6", chains=2, turns=3, final="last"
    )
    assert shown(tried, "revise") == [["a1"], ["b2"], ["a1"], ["b4"]]
    assert tried.texts == ["a5", "b6"]
    assert tried.notes == [("call_failed", "revision of here:1: overloaded: 503")]


def test_where_no_first_response_comes_the_next_turn_draws_again() -> None:
    tried = write("sequential_revision", Overloaded("503"), "a2", chains=1, turns=2, final="last")
    assert tried.texts == ["a2"]
    assert [p.template for p in tried.context.history] == ["generate", "generate"]
    with pytest.raises(InsufficientCandidates, match="2 calls failed"):
        write("sequential_revision", Overloaded("503"), Overloaded("503"), chains=1, turns=2)


def test_no_response_states_an_answer() -> None:
    tried = write("sequential_revision", "hm", "well", chains=1, turns=2)
    assert tried.texts == ["well"]
    assert tried.state.measures == {"agreement": 0.0, "changed": 0.0}
    assert tried.notes[-1] == ("fallback", "no response states an answer; the last one is handed on")


@pytest.mark.parametrize(
    ("given_settings", "said"),
    [
        ({"final": "best"}, "`final: best` needs a `scorer`"),
        ({"final": "last", "scorer": JUDGE}, "`final: last` makes no use of a `scorer`; leave it out"),
    ],
)
def test_a_scorer_without_a_use_is_refused(given_settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SequentialRevision.model_validate({"model": "a", **given_settings})


def test_needs_of_a_revisions_scorer() -> None:
    node = SequentialRevision.model_validate({"model": "a", "scorer": {"use": "tests", "model": "j"}})
    assert node.demands() == {"tests"}
    assert node.models() == ("a", "j")
    assert node.required_of("j") == frozenset()
    assert SequentialRevision(model="a").demands() == frozenset()
