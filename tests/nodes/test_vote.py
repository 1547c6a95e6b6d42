from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.base import State
from nodes.testing import drafted, try_out

ANSWERS = st.lists(st.integers(1, 4), min_size=1, max_size=12)


def state(*texts: str) -> State:
    return State(question="Q", candidates=drafted(*texts))


def test_the_plurality_wins_on_the_normal_form() -> None:
    tried = try_out("vote", state("Answer: 7", "Answer: 1,200", "so 1200.00"), answer_kind="numeric")
    assert tried.texts == ["Answer: 1,200"]
    assert tried.state.candidates[0].answer == "1200"
    assert tried.state.measures == {"agreement": 2 / 3, "answers": 3, "distinct_answers": 2}
    assert tried.state.candidates[0].scores == {"here": 2 / 3}


@given(ANSWERS)
def test_the_winner_has_the_most_votes_and_agreement_is_its_share(answers: list[int]) -> None:
    tried = try_out("vote", state(*(f"Answer: {answer}" for answer in answers)), answer_kind="numeric")
    counts = Counter(answers)
    (winner,) = tried.state.candidates
    assert counts[int(winner.answer or 0)] == max(counts.values())
    assert tried.state.measures["agreement"] == max(counts.values()) / len(answers)
    first_of_the_best = next(a for a in answers if counts[a] == max(counts.values()))
    assert winner.answer == str(first_of_the_best)


@given(ANSWERS, st.randoms(use_true_random=False))
def test_the_order_matters_only_for_ties(answers: list[int], shuffle: object) -> None:
    counts = Counter(answers).most_common()
    if len(counts) > 1 and counts[0][1] == counts[1][1]:
        return
    shuffled = sorted(answers)
    one = try_out("vote", state(*(f"Answer: {a}" for a in answers)), answer_kind="numeric").state.candidates[0].answer
    other = (
        try_out("vote", state(*(f"Answer: {a}" for a in shuffled)), answer_kind="numeric").state.candidates[0].answer
    )
    assert one == other == str(counts[0][0])


def test_ties_by_first_shortest_and_score() -> None:
    before = state("long winded. Answer: 1", "Answer: 2", "well, Answer: 1", "hm... Answer: 2")
    scored = replace(
        before, candidates=tuple(c.scored("j", s) for c, s in zip(before.candidates, (1, 2, 9, 3), strict=True))
    )
    assert try_out("vote", scored, ties="first").texts == ["long winded. Answer: 1"]
    assert try_out("vote", scored, ties="shortest").texts == ["Answer: 2"]
    assert try_out("vote", scored, ties="score").texts == ["well, Answer: 1"]
    assert try_out("vote", before, ties="score").texts == ["long winded. Answer: 1"]


def test_votes_weighed_by_the_latest_score() -> None:
    before = state("Answer: 1", "Answer: 1", "Answer: 2")
    scores = ((0.1, 9.0), (0.2, 9.0), (5.0, 0.0))
    scored = replace(
        before,
        candidates=tuple(
            c.scored("old", o).scored("new", n) for c, (n, o) in zip(before.candidates, scores, strict=True)
        ),
    )
    tried = try_out("vote", scored, weights="score")
    assert tried.texts == ["Answer: 2"]
    assert tried.state.measures["agreement"] == pytest.approx(5.0 / 5.3)
    assert try_out("vote", scored).texts == ["Answer: 1"]


def test_without_scores_weighed_votes_are_counted_and_a_note_says_so() -> None:
    tried = try_out("vote", state("Answer: 2", "Answer: 1", "Answer: 1"), weights="score")
    assert tried.texts == ["Answer: 1"]
    assert tried.notes == [("fallback", "no voter has a score above 0; all votes weigh the same")]


def test_who_gives_no_answer_does_not_vote() -> None:
    tried = try_out("vote", state("no idea", "Answer: 2", "none"), answer_kind="numeric")
    assert tried.texts == ["Answer: 2"]
    assert tried.state.measures == {"agreement": 1.0, "answers": 1, "distinct_answers": 1}
    assert tried.notes == [("unparsed", "no answer in draft:1, draft:3")]


def test_where_nobody_answers_the_first_goes_on_with_no_agreement() -> None:
    tried = try_out("vote", state("no idea", "none"), answer_kind="numeric")
    assert tried.texts == ["no idea"]
    assert tried.state.measures == {"agreement": 0.0, "answers": 0, "distinct_answers": 0}
    assert [kind for kind, _ in tried.notes] == ["unparsed", "fallback"]


def test_the_kind_of_answer_can_be_set() -> None:
    before = state("(A) because 3 > 2", "Answer: A", "B")
    assert try_out("vote", before, kind="choice", answer_kind="numeric").state.candidates[0].answer == "A"
