"""Tournaments: pairings of both kinds, matches in both orders, and what a failed comparison does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db.errors import ColonnadeError
from nodes.base import State
from nodes.pairings import Pair, knockout_round, matches, rounds, swiss_round
from nodes.testing import Prompt, drafted, try_out
from providers.errors import Overloaded


def better(value: Callable[[str], float]) -> Callable[[Prompt, int], str]:
    """Judge by a value of the texts."""

    def script(prompt: Prompt, index: int) -> str:
        first, second = value(str(prompt.variables["first"])), value(str(prompt.variables["second"]))
        return "Better: tie" if first == second else f"Better: [{1 if first > second else 2}]"

    return script


def state(*texts: str) -> State:
    return State(question="Q", candidates=drafted(*texts))


@given(st.integers(1, 40))
def test_a_knockout_takes_one_match_less_than_players_in_the_fewest_rounds(count: int) -> None:
    alive, played, held = list(range(count)), 0, 0
    while len(alive) > 1:
        pairs = knockout_round(alive)
        assert all(pair.better < pair.other for pair in pairs)
        met = [player for pair in pairs for player in pair]
        assert len(set(met)) == len(met)
        losers = {pair.other for pair in pairs}
        alive = [player for player in alive if player not in losers]
        assert math.log2(len(alive)).is_integer()
        played, held = played + len(pairs), held + 1
    assert played == matches(count, "knockout") == count - 1
    assert held == rounds(count)


def test_the_best_two_meet_in_the_final_and_the_best_rest_in_the_first_round() -> None:
    assert knockout_round(list(range(8))) == [Pair(0, 7), Pair(1, 6), Pair(2, 5), Pair(3, 4)]
    assert knockout_round(list(range(5))) == [Pair(3, 4)]
    assert knockout_round([0]) == []


@given(st.integers(2, 12), st.randoms(use_true_random=False))
def test_in_a_swiss_tournament_all_play_and_none_rests_twice(count: int, source: object) -> None:
    points = [0] * count
    met: set[Pair] = set()
    rested: set[int] = set()
    for _ in range(rounds(count)):
        pairs = swiss_round(points, met, rested)
        playing = [player for pair in pairs for player in pair]
        assert len(set(playing)) == len(playing) == count - count % 2
        resting = set(range(count)) - set(playing)
        assert not resting & rested
        for pair in pairs:
            points[source.choice(pair)] += 1  # type: ignore[attr-defined]  # hypothesis types it as an object
        met.update(pairs)
        rested |= resting
    assert matches(count, "swiss") == count // 2 * rounds(count)


@given(st.sampled_from([4, 6, 8, 10, 16]), st.randoms(use_true_random=False))
def test_in_a_swiss_tournament_of_an_even_number_nobody_meets_again(count: int, source: object) -> None:
    """Each has then met less than half of the others, so that there is always a round of new pairs (Dirac)."""
    points = [0] * count
    met: set[Pair] = set()
    for _ in range(rounds(count)):
        pairs = swiss_round(points, met, set())
        assert not met.intersection(pairs)
        for pair in pairs:
            points[source.choice(pair)] += 1  # type: ignore[attr-defined]  # hypothesis types it as an object
        met.update(pairs)


def test_the_last_pairs_are_made_anew_where_they_would_meet_again() -> None:
    met = {Pair(0, 1), Pair(0, 2), Pair(1, 4), Pair(2, 3), Pair(3, 5), Pair(4, 5)}
    assert swiss_round([1, 1, 2, 0, 1, 1], met, set()) == [Pair(1, 2), Pair(0, 5), Pair(3, 4)]


def test_whoever_has_met_all_others_meets_one_again() -> None:
    assert swiss_round([1, 1], {Pair(0, 1)}, set()) == [Pair(0, 1)]
    assert swiss_round([0, 0, 0], set(), {0, 1, 2}) == [Pair(0, 1)]
    assert matches(1, "swiss") == rounds(1) == 0


@pytest.mark.parametrize("method", ["knockout", "swiss"])
@given(values=st.lists(st.integers(0, 99), min_size=1, max_size=9, unique=True))
@settings(max_examples=20)
def test_a_truthful_judge_makes_the_best_win(method: str, values: list[int]) -> None:
    tried = try_out("tournament", state(*map(str, values)), better(float), model="j", method=method, keep=None)
    assert tried.texts[0] == str(max(values))
    assert tried.state.candidates[0].scores["here"] == 1.0
    assert len(tried.texts) == len(values)
    assert tried.context.calls == 2 * matches(len(values), "swiss" if method == "swiss" else "knockout")


def test_a_judge_that_favours_the_first_place_decides_nothing() -> None:
    """Both orders cancel out, and a tie goes to the better seed."""
    seeded = replace(
        state("a", "b", "c"),
        candidates=tuple(c.scored("s", score) for c, score in zip(drafted("a", "b", "c"), (1, 3, 2), strict=True)),
    )
    tried = try_out("tournament", seeded, lambda prompt, index: "Better: [1]", model="j", keep=None)
    assert tried.texts[0] == "b"
    assert tried.notes == []
    alone = try_out("tournament", seeded, lambda prompt, index: "Better: [2]", model="j", both_orders=False)
    assert alone.texts == ["a"]  # one order leaves the judge its liking for a place
    assert alone.context.calls == 2


def test_comparisons_of_a_match_are_counted() -> None:
    tried = try_out(
        "tournament",
        state("a", "b"),
        ["Better: [2]", "Better: [2]", "Better: [1]"],
        model="j",
        comparisons=3,
        both_orders=False,
    )
    assert tried.texts == ["b"]
    assert [p.n for p in tried.context.history] == [3]


def test_a_failed_and_an_unreadable_comparison_are_ties() -> None:
    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        return Overloaded("503") if prompt.variables["first"] == "a" else "both are fine by me"

    tried = try_out("tournament", state("a", "b"), script, model="j")
    assert tried.texts == ["a"]
    assert tried.notes == [
        ("call_failed", "match of draft:1 and draft:2: overloaded: 503"),
        ("unparsed", "match of draft:2 and draft:1: taken as a tie"),
    ]


def test_a_lone_candidate_is_not_asked_about() -> None:
    tried = try_out("tournament", state("a"), model="j")
    assert tried.state.candidates[0].scores == {"here": 1.0}
    assert tried.notes == [("skipped", "a lone candidate needs no tournament")]


def test_critiques_are_shown_where_they_are_wanted() -> None:
    criticised = replace(state(), candidates=tuple(replace(c, critique=f"weak {c.text}") for c in drafted("a", "b")))
    shown = try_out("tournament", criticised, lambda p, i: "Better: [1]", model="j").context.history[0].text
    hidden = try_out("tournament", criticised, lambda p, i: "Better: [1]", model="j", use_critiques=False)
    assert "weak a" in shown
    assert "weak a" not in hidden.context.history[0].text
