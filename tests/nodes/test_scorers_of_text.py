"""Scorers that ask nobody: by length, by words, and by the model's own probabilities."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nodes import registry
from nodes.base import Candidate, State
from nodes.scorers import get_scorer
from nodes.scorers.self_certainty import certainty
from nodes.testing import ScriptedContext, drafted, in_order
from providers.base import TokenLogprob


def score(name: str, *candidates: Candidate, **settings_: object) -> tuple[list[float | None], list[str]]:
    scorer = get_scorer(name).model_validate(settings_)
    context = ScriptedContext(in_order(()), node="here")
    found = asyncio.run(scorer.score(State(question="Q", candidates=candidates), candidates, context))
    return [None if one is None else one.value for one in found.scores], [note.detail for note in found.notes]


def test_brevity_is_the_ratio_of_lengths() -> None:
    assert score("brevity", *drafted("abcd", "ab", " abcdefgh ")) == ([0.5, 1.0, 0.25], [])
    assert score("brevity", *drafted("abcd", "ab"), power=2)[0] == [0.25, 1.0]
    assert score("brevity", *drafted("abcd", "ab"), power=0)[0] == [1.0, 1.0]


def test_brevity_counts_tokens_where_all_are_known() -> None:
    long, short = drafted("short text, long thought", "a long text without a thought at all")
    counted = [replace(long, completion_tokens=80), replace(short, completion_tokens=20)]
    assert score("brevity", *counted)[0] == [0.25, 1.0]
    assert score("brevity", counted[0], short)[0] == [1.0, len(long.text) / len(short.text)]


def test_an_empty_candidate_has_no_score() -> None:
    assert score("brevity", *drafted(" ", "ab")) == ([None, 1.0], ["no text in draft:1"])
    assert score("brevity", *drafted("")) == ([None], ["no text in draft:1"])
    assert score("markers", *drafted("…", "ab")) == ([None, 0.5], ["no words in draft:1"])


def logit(p: float | None) -> float:
    assert p is not None
    return math.log(p / (1 - p))


def test_markers_by_hand() -> None:
    ten = "a b c d e f g h i"
    values, _ = score("markers", *drafted(f"perhaps {ten}", f"wait {ten}", f"therefore {ten}", f"x {ten}"))
    assert [logit(value) for value in values] == pytest.approx([-0.5 * 10, -0.5 * 10, 0.25 * 10, 0])


def test_a_longer_mark_is_one_mark_and_case_and_quotes_do_not_count() -> None:
    values, _ = score("markers", *drafted("But wait a b", "BUT WAIT a b", "I’m not sure a", "i'm not sure a"), length=0)
    assert logit(values[0]) == pytest.approx(-0.5 * 100 / 4)
    assert values[0] == values[1]
    assert values[2] == values[3]
    assert score("markers", *drafted("waiter thusly", "x y"), length=0)[0] == [0.5, 0.5]


@pytest.mark.parametrize(
    "mark", ["Let me recheck", "let me re-check", "let me reconsider", "Let me rethink", "oops, then so"]
)
def test_a_second_look_is_one_thinking_mark(mark: str) -> None:
    words = len(mark.replace("-", " ").split())
    values, _ = score("markers", *drafted(mark), length=0, discourse=0)
    assert logit(values[0]) == pytest.approx(-0.5 * 100 / words)


def test_length_counts_against_the_median() -> None:
    values, _ = score("markers", *drafted("a", "a b", "a b c d"), length=1)
    assert [logit(value) for value in values] == pytest.approx([math.log(2), 0, -math.log(2)])


@given(st.lists(st.text(alphabet="ab wait perhaps", max_size=30), min_size=1, max_size=4))
@settings(max_examples=25)
def test_text_scores_lie_within_their_bounds(texts: list[str]) -> None:
    for name in ("brevity", "markers"):
        assert all(value is None or 0 < value <= 1 for value in score(name, *drafted(*texts))[0])


def test_mean_logprob_is_handed_on_where_it_is_known() -> None:
    known = replace(drafted("a")[0], mean_logprob=-0.7)
    silent = replace(known, id="draft:2", mean_logprob=None)
    assert score("mean_logprob", known, silent) == ([-0.7, None], ["no log probabilities in draft:2"])


def test_self_certainty_of_a_whole_distribution_is_its_definition() -> None:
    shares = np.array([0.6, 0.3, 0.1])
    token = TokenLogprob("a", math.log(0.6), tuple((t, math.log(p)) for t, p in zip("abc", shares, strict=True)))
    assert certainty(token, 3) == pytest.approx(-float(np.mean(np.log(3 * shares))))
    uniform = TokenLogprob("a", math.log(0.25), tuple((t, math.log(0.25)) for t in "abcd"))
    assert certainty(uniform, 4) == pytest.approx(0, abs=1e-12)


@given(st.lists(st.floats(0.01, 1), min_size=5, max_size=9), st.integers(1, 4))
@settings(max_examples=40)
def test_self_certainty_of_the_likeliest_is_a_lower_bound_that_more_tokens_raise(weights: list[float], k: int) -> None:
    shares = sorted((weight / sum(weights) for weight in weights), reverse=True)
    named = [(str(n), math.log(p)) for n, p in enumerate(shares)]

    def known(count: int) -> float:
        return certainty(TokenLogprob("0", named[0][1], tuple(named[:count])), len(shares))

    assert known(k) <= known(k + 1) + 1e-9
    assert known(k) <= known(len(shares)) + 1e-9


def test_a_chosen_token_that_is_not_among_the_likeliest_is_known_too() -> None:
    top = (("a", math.log(0.5)),)
    chosen = TokenLogprob("b", math.log(0.2), top)
    total = math.log(0.5) + math.log(0.2) + 8 * math.log(0.3 / 8)
    assert certainty(chosen, 10) == pytest.approx(-total / 10 - math.log(10))


def test_probabilities_of_nought_and_roundings_stay_finite() -> None:
    token = TokenLogprob("a", 0.0, (("a", 0.0), ("b", -math.inf), ("c", -9999.0)))
    assert math.isfinite(certainty(token, 1000))
    assert math.isfinite(certainty(token, 2))


def test_the_score_is_the_mean_over_tokens_with_likeliest_ones() -> None:
    one = TokenLogprob("a", math.log(0.9), (("a", math.log(0.9)), ("b", math.log(0.1))))
    two = TokenLogprob("a", math.log(0.5), (("a", math.log(0.5)), ("b", math.log(0.5))))
    bare = TokenLogprob("x", -1.0, ())
    candidate = replace(drafted("a")[0], logprobs=(one, two, bare))
    silent = replace(candidate, id="draft:2", logprobs=(bare,))
    values, notes = score("self_certainty", candidate, silent, vocabulary=2)
    assert values == [pytest.approx((certainty(one, 2) + certainty(two, 2)) / 2), None]
    assert notes == ["no likeliest tokens in draft:2 (generate with top_logprobs: 1 or more)"]


@pytest.mark.parametrize("name", ["mean_logprob", "self_certainty"])
@pytest.mark.parametrize(
    ("technique", "settings"),
    [
        ("adaptive_best_of_n", {}),
        ("cascade", {"model": None, "stages": ["m", "n"], "threshold": 0.5}),
        ("iterative_decode", {}),
        ("resample_until_verified", {"threshold": 0.5}),
        ("sequential_revision", {}),
        ("think_or_not", {}),
    ],
)
def test_what_draws_its_own_samples_takes_no_scorer_of_log_probabilities(
    technique: str, settings: Mapping[str, object], name: str
) -> None:
    given = {key: value for key, value in {"model": "m", **settings}.items() if value is not None}
    for written in (name, {"use": "panel", "members": ["brevity", name]}):
        with pytest.raises(ValidationError, match="reads log probabilities"):
            registry.get(technique).model_validate({**given, "scorer": written})
    registry.get("score").model_validate({"scorer": name})
