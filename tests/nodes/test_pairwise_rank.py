from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nodes.base import Shape, State, exactly
from nodes.pairwise_rank import PairwiseRank
from nodes.sampled_pairs import pair_count, sampled_pairs
from nodes.testing import Prompt, ScriptedEstimator, drafted, try_out
from providers.errors import Overloaded

THREE = State(question="Q", candidates=drafted("a", "b", "c"))


def scores(state: State) -> dict[str, float]:
    return {candidate.text: candidate.scores["here"] for candidate in state.candidates}


def later_is_better(prompt: Prompt, index: int) -> str:
    return "Better: [1]" if str(prompt.variables["first"]) > str(prompt.variables["second"]) else "Better: [2]"


def logit_of(strengths: dict[str, float], effect: float = 0.0) -> Callable[[Prompt, int], str]:
    def script(prompt: Prompt, index: int) -> str:
        first, second = str(prompt.variables["first"]), str(prompt.variables["second"])
        return str(strengths[first] - strengths[second] + effect)

    return script


@pytest.mark.parametrize("correction", ["none", "swap", "bradley_terry"])
def test_the_better_of_pairs_comes_first_whatever_the_correction(correction: str) -> None:
    tried = try_out("pairwise_rank", THREE, later_is_better, model="m", correction=correction, keep=2)
    assert tried.texts == ["c", "b"]
    assert tried.context.calls == 6
    assert tried.state.measures["position_bias"] == pytest.approx(0, abs=1e-6)
    assert tried.state.notes == ()


def test_it_counts_as_rank_counts_where_both_orders_are_averaged() -> None:
    ranked = try_out("rank", THREE, later_is_better, model="m", method="pairwise")
    tried = try_out("pairwise_rank", THREE, later_is_better, model="m")
    assert scores(tried.state) == scores(ranked.state) == {"c": 1.0, "b": 0.5, "a": 0.0}
    assert {p.text for p in tried.context.history} == {p.text for p in ranked.context.history}


def test_a_judge_that_favours_the_first_place_decides_nothing_and_is_measured() -> None:
    tried = try_out("pairwise_rank", THREE, lambda prompt, index: "Better: [1]", model="m")
    assert set(scores(tried.state).values()) == {0.5}
    assert tried.texts == ["a", "b", "c"]
    assert tried.state.measures["position_bias"] == 1.0


def test_a_strong_place_is_taken_out_by_the_fit_from_one_order_of_each_pair() -> None:
    state = State(question="Q", candidates=drafted("a", "b", "c", "d", "e"))
    strengths = {"a": 0.0, "b": 0.4, "c": 0.8, "d": 1.2, "e": 1.6}
    ranker = PairwiseRank(model="m", by="cross_encoder", both_orders=False, correction="bradley_terry")
    fitted = try_out(ranker, state, logit_of(strengths, 3.0))
    assert fitted.texts == ["e", "d", "c", "b", "a"]
    assert fitted.context.calls == 10
    assert fitted.state.measures["position_bias"] > 0.7


def test_the_numbers_of_a_cross_encoder_are_logits_or_probabilities_of_the_first() -> None:
    two = State(question="Q", candidates=drafted("a", "b"))
    tried = try_out("pairwise_rank", two, logit_of({"a": 0, "b": 2}), model="m", by="cross_encoder")
    assert scores(tried.state)["b"] == pytest.approx(1 / (1 + math.exp(-2)))
    prompt = tried.context.history[0]
    assert (prompt.kind, prompt.template) == ("score", "pair_score")
    shown = [message.content for message in prompt.messages]
    assert shown in (["Q\n\nResponse 1:\na\n\nResponse 2:", "b"], ["Q\n\nResponse 1:\nb\n\nResponse 2:", "a"])
    tried = try_out("pairwise_rank", two, ["0.9", "0.5"], model="m", by="cross_encoder", scale="probability")
    assert sorted(scores(tried.state).values()) == pytest.approx([0.3, 0.7])
    tried = try_out("pairwise_rank", two, ["1.5", "0.5"], model="m", by="cross_encoder", scale="probability")
    assert [kind for kind, _ in tried.notes] == ["unparsed"]
    assert "1.5 is no probability" in tried.notes[0][1]


def test_few_comparisons_and_the_fit_put_all_in_order() -> None:
    texts = "abcdefgh"
    state = State(question="Q", candidates=drafted(*texts))
    strengths = {text: float(place) for place, text in enumerate(texts)}
    tried = try_out(
        "pairwise_rank",
        state,
        logit_of(strengths),
        model="m",
        by="cross_encoder",
        comparisons=14,
        correction="bradley_terry",
    )
    assert tried.context.calls == 28
    assert tried.texts[0] == "h"
    assert tried.texts[-1] == "a"


def test_who_met_no_other_is_named() -> None:
    tried = try_out("pairwise_rank", THREE, later_is_better, model="m", comparisons=1)
    (detail,) = [detail for kind, detail in tried.notes if kind == "skipped"]
    assert detail.startswith("compared with no other")
    assert sorted(scores(tried.state).values()) == [0.25, 0.5, 0.75]


def test_failed_and_unreadable_comparisons_do_not_count_and_are_noted() -> None:
    two = State(question="Q", candidates=drafted("a", "b"))
    for correction, sure in (("none", 1.0), ("swap", 0.75)):
        tried = try_out("pairwise_rank", two, ["hm", "Better: [1]"], model="m", correction=correction)
        assert sorted(scores(tried.state).values()) == [1 - sure, sure]
        assert [kind for kind, _ in tried.notes] == ["unparsed"]
    tried = try_out("pairwise_rank", two, [Overloaded("503"), Overloaded("503")], model="m", keep=1)
    assert tried.texts == ["a"]
    assert scores(tried.state) == {"a": 0.5}
    assert [kind for kind, _ in tried.notes] == ["call_failed", "call_failed", "fallback"]


def test_a_lone_candidate_is_not_asked_about() -> None:
    tried = try_out("pairwise_rank", State(question="Q", candidates=drafted("a")), model="m")
    assert (tried.context.calls, scores(tried.state)) == (0, {"a": 1.0})
    plan = PairwiseRank(model="m").plan(
        Shape(question=exactly(1), candidates=exactly(1)), ScriptedEstimator(exactly(1))
    )
    assert plan.calls == ()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"both_orders": False}, "`swap` needs `both_orders`"),
        ({"by": "cross_encoder", "temperature": 0.5, "system": "x"}, "leave out `temperature`, `system`"),
        ({"comparisons": 0}, "greater than or equal to 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PairwiseRank.model_validate({"model": "m", **settings})


@given(st.integers(0, 12), st.integers(1, 70), st.text(max_size=5))
def test_pairs_are_different_spread_evenly_and_linked(count: int, most: int, key: str) -> None:
    every = sampled_pairs(count, None, key)
    assert len({frozenset(pair) for pair in every}) == len(every) == count * (count - 1) // 2
    pairs = sampled_pairs(count, most, key)
    assert pairs == every[:most]
    assert len(pairs) == pair_count(count, most)
    turns = Counter(place for pair in pairs for place in pair)
    assert not count or max(turns.values(), default=0) - min(turns[place] for place in range(count)) <= 2
    linked = {0}
    for _ in range(count):
        linked |= {place for pair in pairs if linked & set(pair) for place in pair}
    assert len(pairs) < count - 1 or not count or linked == set(range(count))
