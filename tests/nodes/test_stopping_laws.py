"""Laws of every rule that ends a loop: right by independent formulas, never over the cap, and as sure as it says."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from db.errors import ColonnadeError, InsufficientCandidates
from nodes.base import Range, State
from nodes.registry import get
from nodes.stopping import beta_confidence, concentration, decided, dirichlet_confidence, saturation
from nodes.testing import Prompt, ScriptedContext, ScriptedEstimator, drafted, shape_of, try_out
from providers.errors import Overloaded

LAW = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
VOTES = st.lists(st.integers(0, 12), min_size=1, max_size=5)
STATE = State(question="How many?", candidates=drafted("Answer: 1"), tests=("It is right.",))


@given(VOTES)
@LAW
def test_beta_confidence_is_the_mass_of_the_posterior_above_a_half(votes: list[int]) -> None:
    first, second = (*sorted(votes, reverse=True), 0)[:2]
    assert beta_confidence(votes) == pytest.approx(stats.beta.sf(0.5, first + 1, second + 1), abs=1e-12)
    assert beta_confidence(votes) >= 0.5


def test_beta_confidence_of_many_votes_is_found_in_a_moment() -> None:
    assert beta_confidence([10_000, 9_900]) == pytest.approx(stats.beta.sf(0.5, 10_001, 9_901), abs=1e-9)


@given(st.integers(0, 30), st.integers(0, 30))
@LAW
def test_dirichlet_confidence_of_one_answer_is_the_beta_one(count: int, nothing: int) -> None:
    assert dirichlet_confidence([count]) == pytest.approx(beta_confidence([count]), abs=1e-9)
    assert dirichlet_confidence([]) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("votes", [(3, 1), (2, 2), (5, 4, 1), (9, 3, 3, 2), (1, 1, 1, 1)])
def test_dirichlet_confidence_is_what_draws_from_the_posterior_say(votes: tuple[int, ...]) -> None:
    draws = np.random.default_rng(7).dirichlet([*(count + 1 for count in votes), 1], size=200_000)
    share = float((draws.argmax(axis=1) == 0).mean())
    assert dirichlet_confidence(votes) == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 200_000))
    assert dirichlet_confidence(votes[::-1]) == dirichlet_confidence(votes)


@given(VOTES)
@LAW
def test_a_further_vote_for_the_leader_makes_it_surer(votes: list[int]) -> None:
    lead = votes.index(max(votes))
    more = [count + (place == lead) for place, count in enumerate(votes)]
    for confidence in (beta_confidence, dirichlet_confidence):
        assert confidence(more) >= confidence(votes) - 1e-9


@given(VOTES)
@LAW
def test_concentration_is_one_less_the_relative_entropy(votes: list[int]) -> None:
    total = sum(votes)
    if total < 2:
        assert concentration(votes) == 0.0
        return
    expected = 1 - float(stats.entropy([count for count in votes if count])) / math.log(total)
    assert concentration(votes) == pytest.approx(expected, abs=1e-12)
    assert 0.0 <= concentration(votes) <= 1.0


def test_concentration_at_its_ends() -> None:
    assert concentration([7]) == 1.0
    assert concentration([1] * 6) == 0.0
    assert concentration([]) == 0.0


@given(st.lists(st.integers(0, 4), min_size=0, max_size=3), st.integers(0, 4))
@LAW
def test_decided_is_what_trying_all_endings_says(votes: list[int], left: int) -> None:
    """The lead is decided where no ending makes another answer, seen or not, draw level or pass."""
    if not any(votes):
        assert not decided(votes, left)
        return
    places = [*votes, 0]
    leader = places.index(max(places))
    others = [place for place in range(len(places)) if place != leader]
    held = all(
        all(places[leader] + ending.count(leader) > places[other] + ending.count(other) for other in others)
        for ending in itertools.product(range(len(places)), repeat=left)
    )
    assert decided(votes, left) == held


@given(st.floats(0.01, 1), st.floats(1e-4, 0.9), st.floats(0.05, 1))
@LAW
def test_from_saturation_on_a_further_sample_gains_less(p: float, epsilon: float, f_max: float) -> None:
    def success(samples: float) -> float:
        return float(f_max * (1 - (1 - p) ** samples))

    found = saturation(p, epsilon, f_max)
    assert success(found + 1) - success(found) <= epsilon + 1e-9
    if found > 1:
        assert success(found) - success(found - 1) > epsilon - 1e-9
    elif found == 1:
        assert success(1) > epsilon - 1e-9


def test_saturation_at_its_ends() -> None:
    assert saturation(0.0, 0.01) == 0
    assert saturation(1.0, 0.01) == 1
    assert saturation(0.5, 0.125) == 2
    assert saturation(0.5, 0.0) == math.inf


# What a stream of replies may hold: answers, nothing readable, a failed call.
STREAMS = st.lists(st.sampled_from(["Answer: 1", "Answer: 2", "Answer: 3", "no idea", None]), min_size=1, max_size=8)


def stream(replies: Sequence[str | None]) -> Callable[[Prompt, int], str | ColonnadeError]:
    """Give the replies in turn, from the beginning again where they end; a judge's call gets a number."""
    turn = itertools.cycle(replies)

    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        said = next(turn)
        if said is None:
            return Overloaded("503")
        return f"Score: {1 + len(said) % 10}" if prompt.template == "judge" else said

    return script


JUDGE = {"use": "judge", "model": "j"}
EXAMPLES = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(5)]
CAPPED: tuple[tuple[str, dict[str, object], int], ...] = (
    ("adaptive_vote", {"model": "a", "samples": 7, "window": 2}, 7),
    ("adaptive_vote", {"model": "a", "samples": 5, "window": 9, "threshold": 0.5}, 5),
    ("adaptive_vote", {"model": "a", "samples": 9, "window": 1, "rule": "dirichlet", "threshold": 0.8}, 9),
    ("adaptive_vote", {"model": "a", "samples": 6, "window": 2, "rule": "entropy", "threshold": 0.6}, 6),
    ("adaptive_vote", {"model": "a", "samples": 7, "window": 3, "rule": "unanimous"}, 7),
    ("saturation_vote", {"model": "a", "samples": 7, "window": 2, "epsilon": 0.05}, 7),
    ("saturation_vote", {"model": "a", "samples": 5, "window": 3, "epsilon": 1e-6}, 5),
    ("short_m_at_k", {"model": "a", "k": 5, "m": 2}, 5),
    ("cascade", {"stages": ["a", "b", "c"], "samples": [2, 2, 1], "threshold": 0.9}, 5),
    ("iterative_icl", {"model": "a", "examples": EXAMPLES, "batch": 2, "rounds": 4}, 3),
    ("iterative_icl", {"model": "a", "examples": EXAMPLES, "batch": 1, "rounds": 2}, 2),
    ("iterative_decode", {"model": "a", "samples": 2, "rounds": 3, "scorer": JUDGE, "threshold": 9}, 12),
    ("sequential_revision", {"model": "a", "chains": 2, "turns": 3}, 6),
    ("debate", {"model": ["a", "b"], "agents": 2, "rounds": 3, "until_agreed": True}, 12),
    ("hint_injection", {"model": "a", "expert": "b", "rounds": 3}, 6),
)


@pytest.mark.parametrize(("name", "settings_", "cap"), CAPPED, ids=str)
@given(replies=STREAMS)
@LAW
def test_never_more_than_the_cap(name: str, settings_: dict[str, object], cap: int, replies: list[str | None]) -> None:
    technique = get(name).model_validate(settings_)
    context = ScriptedContext(stream(replies), node="here", answer_kind="numeric")
    planned = technique.plan(shape_of(STATE), ScriptedEstimator(Range(1, 10, 20)))
    try:
        result = asyncio.run(technique.run(STATE, context))
    except InsufficientCandidates:
        assert None in replies
        assert context.calls <= cap
        return
    assert context.calls <= cap
    assert context.calls <= sum(call.calls.high for call in planned.calls)
    assert len(result.candidates) >= 1
    if "drawn" in result.measures and "saved" in result.measures:
        assert result.measures["drawn"] == context.calls
        assert result.measures["drawn"] + result.measures["saved"] == cap
    if "rounds" in result.measures:
        assert 1 <= result.measures["rounds"] <= technique.rounds  # type: ignore[attr-defined]  # those that loop have it


@pytest.mark.parametrize("rule", ["beta", "dirichlet"])
@given(answers=st.lists(st.integers(1, 3), min_size=6, max_size=6), window=st.integers(1, 4))
@LAW
def test_at_threshold_one_the_answer_is_that_of_the_full_vote(rule: str, answers: list[int], window: int) -> None:
    """Then only what can no longer be turned ends the drawing, so the early answer is the full one, ties and all."""
    texts = [f"Answer: {answer}" for answer in answers]
    full = try_out("vote", replace(STATE, candidates=drafted(*texts)), answer_kind="numeric").state
    early = try_out(
        "adaptive_vote",
        STATE,
        lambda prompt, index: texts[index],
        answer_kind="numeric",
        model="a",
        samples=6,
        window=window,
        rule=rule,
        threshold=1,
    ).state
    assert early.candidates[0].answer == full.candidates[0].answer


def ended(stream_: Sequence[int], enough: Callable[[Sequence[int]], bool]) -> tuple[int, int]:
    """Return the leader where a rule ends the drawing, and how many were drawn."""
    counts: Counter[int] = Counter()
    for drawn, answer in enumerate(stream_, 1):
        counts[answer] += 1
        if enough(tuple(counts.values())):
            return counts.most_common(1)[0][0], drawn
    return counts.most_common(1)[0][0], len(stream_)


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95])
@pytest.mark.parametrize(
    ("rule", "answers"),
    [(beta_confidence, 2), (beta_confidence, 4), (dirichlet_confidence, 2), (dirichlet_confidence, 4)],
)
def test_the_stated_error_rate(rule: Callable[[Sequence[int]], float], answers: int, confidence: float) -> None:
    """Over questions whose answers are spread as the prior says, at most 1 − c of the early stops err.

    Once against the truth (the most probable answer), once against the majority of all 24 samples. The first is no
    law of the Beta rule where there are more than two answers, since it looks at two alone.
    """
    source = np.random.default_rng(11)
    questions, cap = 1000, 24
    stops = wrong = turned = 0
    for shares in source.dirichlet([1.0] * answers, size=questions):
        drawn = source.choice(answers, p=shares, size=cap).tolist()
        leader, at = ended(drawn, lambda votes: rule(votes) >= confidence)
        if at == cap:
            continue
        stops += 1
        wrong += leader != int(shares.argmax())
        counts = Counter(drawn)
        turned += counts[leader] < max(counts.values())
    allowed = 1 - confidence + 3 * math.sqrt(confidence * (1 - confidence) / stops)
    assert stops > questions / 3
    assert wrong / stops <= allowed or (rule is beta_confidence and answers > 2)
    assert turned / stops <= allowed


def _sample(replies: Sequence[str], prompt: Prompt, index: int) -> str:
    return replies[index]


def test_the_technique_keeps_the_error_rate_of_its_rule() -> None:
    """The whole node, not the formula alone: two answers, their shares uniform, a window of one."""
    source = random.Random(5)
    wrong, stops, saved = 0, 0, 0.0
    for _ in range(250):
        share = source.random()
        drawn = ["Answer: 1" if source.random() < share else "Answer: 2" for _ in range(24)]
        result = try_out(
            "adaptive_vote",
            STATE,
            partial(_sample, drawn),
            answer_kind="numeric",
            model="a",
            samples=24,
            window=1,
            threshold=0.9,
        ).state
        if result.measures["saved"]:
            stops += 1
            saved += result.measures["saved"]
            wrong += (result.candidates[0].answer == "1") != (share > 0.5)
    assert wrong / stops <= 0.1 + 3 * math.sqrt(0.09 / stops)
    assert saved / 250 > 8
