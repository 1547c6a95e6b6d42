"""Votes that stop drawing: when each rule is satisfied, and what they hand on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from db.errors import InsufficientCandidates
from nodes.adaptive_vote import AdaptiveVote
from nodes.base import Candidate, State
from nodes.registry import get
from nodes.settling import settle
from nodes.testing import Tried, drafted, try_out
from providers.errors import Overloaded

STATE = State(question="How many?")


def draw(name: str, *answers: object, **settings: object) -> Tried:
    """Let the model give these answers in turn; an error fails the call, a text is given as it is."""

    def reply(answer: object) -> str | Overloaded:
        if isinstance(answer, Overloaded):
            return answer
        return answer if isinstance(answer, str) else f"Answer: {answer}"

    return try_out(
        get(name).model_validate({"model": "a", **settings}),
        STATE,
        [reply(a) for a in answers],
        answer_kind="numeric",
    )


def test_beta_stops_when_the_first_is_surely_ahead_of_the_second() -> None:
    # 1 − 2^−(n + 1) after n equal votes: 0.9375 after three, 0.96875 after four.
    tried = draw("adaptive_vote", 1, 1, 1, 1, samples=40, window=1, threshold=0.95)
    assert tried.state.measures == {"agreement": 1.0, "answers": 4, "drawn": 4, "saved": 36}
    split = draw("adaptive_vote", 1, 1, 2, 1, 1, 1, samples=40, window=1, threshold=0.93)
    assert split.state.measures["drawn"] == 6


def test_dirichlet_wants_more_where_a_third_answer_may_come() -> None:
    two = draw("adaptive_vote", 1, 1, 2, 1, 1, 1, 1, samples=40, window=1, rule="beta", threshold=0.936)
    all_ = draw("adaptive_vote", 1, 1, 2, 1, 1, 1, 1, samples=40, window=1, rule="dirichlet", threshold=0.936)
    assert two.state.measures["drawn"] == 6
    assert all_.state.measures["drawn"] == 7


def test_entropy_stops_where_votes_are_concentrated() -> None:
    assert draw("adaptive_vote", 1, 2, 1, 1, samples=8, rule="entropy", threshold=0.5).state.measures["drawn"] == 4
    assert draw("adaptive_vote", 1, 1, samples=8, rule="entropy", threshold=1).state.measures["drawn"] == 2


def test_unanimous_stops_at_the_first_window_of_one_answer() -> None:
    tried = draw("adaptive_vote", 1, 2, 1, "no idea", 2, 2, samples=12, window=2, rule="unanimous")
    assert tried.state.measures["drawn"] == 6
    assert [p.n for p in tried.context.history] == [2, 2, 2]
    assert tried.notes == [("unparsed", "no answer in here:4")]


def test_what_cannot_be_turned_is_not_drawn() -> None:
    """Four of six for one answer: the two that are left change nothing, whatever the rule asks."""
    tried = draw("adaptive_vote", 1, 2, 1, 1, 1, samples=6, window=1, threshold=1)
    assert tried.state.measures["drawn"] == 5


def test_the_last_window_is_cut_at_the_cap() -> None:
    tried = draw("adaptive_vote", 1, 2, 3, 4, 5, samples=5, window=3, ties="shortest")
    assert [p.n for p in tried.context.history] == [3, 2]
    assert tried.state.measures["saved"] == 0


def test_failed_samples_count_as_drawn_and_the_drawing_goes_on() -> None:
    tried = draw("adaptive_vote", Overloaded("503"), Overloaded("503"), 7, 7, samples=4, window=2, threshold=0.8)
    assert tried.texts == ["Answer: 7"]
    assert tried.state.measures == {"agreement": 1.0, "answers": 2, "drawn": 4, "saved": 0}
    assert [kind for kind, _ in tried.notes] == ["call_failed"] * 2
    with pytest.raises(InsufficientCandidates, match="2 calls failed"):
        draw("adaptive_vote", Overloaded("503"), Overloaded("503"), samples=2)


def test_nobody_answers() -> None:
    tried = draw("adaptive_vote", "hm", "well", samples=2)
    assert tried.texts == ["hm"]
    assert tried.state.measures == {"agreement": 0.0, "answers": 0, "drawn": 2, "saved": 0}
    assert tried.notes[-1] == ("fallback", "no candidate has an answer; here:1 is handed on")


def test_a_window_of_one_is_always_unanimous_and_refused() -> None:
    with pytest.raises(ValidationError, match="unanimous needs a window of 2 or more; one sample always agrees"):
        AdaptiveVote(model="a", rule="unanimous", window=1)


def test_saturation_gives_sure_and_hopeless_questions_up_early() -> None:
    sure = draw("saturation_vote", 1, 1, 1, 1, samples=16, window=4)
    assert sure.state.measures == {"agreement": 1.0, "answers": 4, "drawn": 4, "saturation": 1, "saved": 12}
    hopeless = draw("saturation_vote", "hm", "hm", "hm", "hm", samples=16, window=4)
    assert hopeless.state.measures["saturation"] == 0
    assert hopeless.state.measures["drawn"] == 4


def test_saturation_draws_on_where_a_sample_still_pays() -> None:
    # p = 1/2: a further one gains 0.5 · 0.5^N, which is 0.05 at most from N = 4 on (0.03125); after 4, p is 1/2.
    split = draw("saturation_vote", 1, 2, 1, 2, samples=16, window=2, epsilon=0.05)
    assert split.state.measures["drawn"] == 4
    assert split.state.measures["saturation"] == 4
    # p = 1/4: 0.25 · 0.75^N ≤ 0.05 from N = 6 on.
    wide = draw("saturation_vote", 1, 2, 3, 4, 5, 6, 1, 2, samples=8, window=4, epsilon=0.05)
    assert wide.state.measures["drawn"] == 8
    # A low ceiling makes samples pay less.
    low = draw("saturation_vote", 1, 2, samples=16, window=2, epsilon=0.05, f_max=0.09)
    assert low.state.measures["drawn"] == 2


def test_who_states_no_answer_counts_against_the_chance_of_a_sample() -> None:
    # p = 2/4, not 2/2: N* = 5, so that a second window is drawn; then p = 6/8 and N* = 3.
    tried = draw("saturation_vote", 1, 1, "hm", "hm", 1, 1, 1, 1, samples=16, window=4)
    assert tried.state.measures["drawn"] == 8
    assert tried.state.measures["saturation"] == 3


def test_saturation_goes_on_where_a_whole_window_failed() -> None:
    tried = draw("saturation_vote", Overloaded("503"), Overloaded("503"), 3, 3, samples=4, window=2)
    assert tried.texts == ["Answer: 3"]
    assert tried.state.measures["drawn"] == 4


def test_a_failed_sample_is_none_of_those_that_saturate() -> None:
    # p = 1/2: N* = 5. After two windows eight were drawn, but two have come.
    few = ["Answer: 1", "Answer: 2", *[Overloaded("503")] * 6]
    tried = draw("saturation_vote", *few, *["Answer: 1", "Answer: 2"] * 2, samples=16, window=4)
    assert tried.state.measures == {"agreement": 0.5, "answers": 6, "drawn": 12, "saturation": 5, "saved": 4}


def answered(*pairs: tuple[str, str | None]) -> tuple[Candidate, ...]:
    return tuple(
        replace(c, answer=answer) for c, (_, answer) in zip(drafted(*(t for t, _ in pairs)), pairs, strict=True)
    )


def test_settling_by_weights_and_by_length() -> None:
    candidates = answered(("long one", "1"), ("one", "1"), ("two", "2"), ("?", None))
    assert settle(candidates, "n").candidate.text == "long one"
    assert settle(candidates, "n", ties="shortest").candidate.text == "one"
    weights = {"draft:1": 0.2, "draft:2": 0.3, "draft:3": 0.9, "draft:4": 5.0}
    heavy = settle(candidates, "n", weights=weights)
    assert (heavy.candidate.text, heavy.answers) == ("two", 3)
    assert heavy.agreement == pytest.approx(0.9 / 1.4)
    none = settle(candidates, "n", weights=dict.fromkeys(weights, 0.0))
    assert none.agreement == pytest.approx(2 / 3)
    silent = answered(("quiet", None), ("?", None))
    assert settle(silent, "n", weights={"draft:1": 0.0, "draft:2": 1.0}).candidate.text == "?"
    assert settle(silent, "n", ties="shortest").candidate.text == "?"


def test_what_weighs_but_has_no_vote_leaves_the_voters_equals() -> None:
    candidates = answered(("two", "2"), ("one", "1"), ("one", "1"), ("?", None))
    settled = settle(candidates, "n", weights={"draft:1": 0, "draft:2": 0, "draft:3": 0, "draft:4": 5})
    assert settled.candidate.answer == "1"
    assert settled.agreement == pytest.approx(2 / 3)
