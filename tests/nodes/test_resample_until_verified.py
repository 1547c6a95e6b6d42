"""Resampling until verified: it stops at the first that passes, never above the cap, and a failed verdict is none."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from architectures.context import NodeContext, Run
from db.errors import InsufficientCandidates
from nodes.base import Context, State
from nodes.resample_until_verified import ResampleUntilVerified
from nodes.testing import Prompt, Tried, try_out
from providers.book import ModelBook
from providers.errors import Overloaded
from providers.gateway import Gateway
from providers.scope import Scope

STATE = State(question="How many cups?")
JUDGE = {"use": "judge", "model": "j"}


def resampled(*replies: object, **settings: object) -> Tried:
    given: dict[str, object] = {"model": "m", "scorer": JUDGE, "threshold": 8, "samples": 3, **settings}
    return try_out("resample_until_verified", STATE, replies, **given)  # type: ignore[arg-type]


def test_the_first_that_passes_ends_it() -> None:
    tried = resampled("7", "Score: 3", "12", "Score: 8")
    assert [prompt.template for prompt in tried.context.history] == ["generate", "judge"] * 2
    (candidate,) = tried.state.candidates
    assert (candidate.id, candidate.text, candidate.verdict) == ("here:2", "12", True)
    assert candidate.scores == {"here": 8}
    assert tried.state.measures == {"abstained": 0, "cap": 3, "drawn": 2}
    assert not tried.state.notes


def test_it_abstains_with_the_best_and_says_so() -> None:
    tried = resampled("7", "Score: 3", "8", "Score: 7", "9", "Score: 2")
    assert tried.texts == ["8"]
    assert tried.state.candidates[0].verdict is False
    assert tried.state.measures == {"abstained": 1, "cap": 3, "drawn": 3}
    assert tried.notes == [("fallback", "none of 3 responses passed; here:2 is handed on, and the node abstains")]


def test_the_best_may_be_believed_or_nothing_handed_on() -> None:
    tried = resampled("7", "Score: 3", samples=1, on_none="best")
    assert tried.state.measures["abstained"] == 0
    assert tried.state.candidates[0].verdict is False
    with pytest.raises(InsufficientCandidates, match=r"'here' has nothing left to hand on: none of 1 responses passed"):
        resampled("7", "Score: 3", samples=1, on_none="fail")


def test_what_cannot_be_read_or_failed_is_no_pass_and_no_verdict() -> None:
    tried = resampled("7", "fine", "8", Overloaded("busy"), Overloaded("gone"), samples=3)
    assert tried.state.candidates[0].verdict is None
    assert tried.state.measures == {"abstained": 1, "cap": 3, "drawn": 3}
    assert [kind for kind, _ in tried.notes] == ["unparsed", "call_failed", "call_failed", "fallback"]
    with pytest.raises(InsufficientCandidates, match=r"2 calls failed, the last with overloaded: gone"):
        resampled(Overloaded("busy"), Overloaded("gone"), samples=2)


def test_the_verdict_in_two_calls_verifies() -> None:
    tried = resampled(
        "7",
        "It is wrong.",
        "[Incorrect]",
        "12",
        "It is right.",
        "[Correct]",
        scorer={"use": "genrm", "model": "v", "chains": 1},
        threshold=None,
    )
    assert tried.texts == ["12"]
    assert [prompt.template for prompt in tried.context.history[:3]] == ["generate", "verify_reason", "verify_verdict"]


def test_draws_are_the_samples_of_generate() -> None:
    def script(prompt: Prompt, index: int) -> str:
        return "Score: 1" if prompt.template == "judge" else f"sample {index}"

    tried = try_out("resample_until_verified", STATE, script, model="m", scorer=JUDGE, threshold=9, samples=4)
    asked = [prompt.text for prompt in tried.context.history if prompt.template == "judge"]
    assert [f"sample {index}" in text for index, text in enumerate(asked)] == [True] * 4


RATES = [{"p_tp": 0.6, "p_fp": 0.02, "weight": 3}, {"p_tp": 0.05, "p_fp": 0.2}]


def test_rates_set_the_cap() -> None:
    settings = {"model": "m", "scorer": JUDGE, "threshold": 8, "samples": 50, "rates": RATES}
    assert ResampleUntilVerified.model_validate({**settings, "penalty": 1}).cap == 4
    assert ResampleUntilVerified.model_validate({**settings, "penalty": 0.1}).cap > 40
    assert ResampleUntilVerified.model_validate({**settings, "penalty": 1, "samples": 2}).cap == 2
    tried = resampled(*["x", "Score: 1"] * 4, samples=50, rates=RATES, penalty=1)
    assert tried.state.measures["drawn"] == 4


@given(st.integers(0, 2**32), st.integers(1, 12), st.floats(0, 1))
def test_never_above_the_cap_and_what_passes_is_the_last_drawn(seed: int, samples: int, chance: float) -> None:
    lots = random.Random(seed)
    marks = [9 if lots.random() < chance else 2 for _ in range(samples)]
    replies = [reply for number, mark in enumerate(marks) for reply in (f"text {number}", f"Score: {mark}")]
    tried = resampled(*replies, samples=samples)
    drawn = marks.index(9) + 1 if 9 in marks else samples
    assert tried.state.measures["drawn"] == drawn
    assert tried.state.measures["abstained"] == (9 not in marks)
    assert tried.context.calls == 2 * drawn


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"threshold": None}, "the scorer's score is no probability; set threshold"),
        ({"penalty": 2}, "benefit, penalty and cost weigh `rates`"),
        ({"rates": [{"p_tp": 0.1, "p_fp": 0.3}], "penalty": 1}, "not even one draw pays"),
        ({"rates": [{"p_tp": 0.7, "p_fp": 0.4}]}, r"p_tp \+ p_fp is 1.1, above 1"),
        ({"rates": []}, "rates"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ResampleUntilVerified.model_validate({"model": "m", "scorer": JUDGE, "threshold": 8, **settings})


def test_it_needs_what_its_scorer_needs() -> None:
    panel = {"use": "panel", "members": [{"use": "tests", "model": "j"}, JUDGE]}
    technique = ResampleUntilVerified.model_validate({"model": "m", "scorer": panel, "threshold": 0.5})
    assert technique.demands() == {"tests"}


async def test_the_embedded_judge_lets_a_right_answer_of_nano_pass() -> None:
    question = State(question="Ben has 23 nails. Ben wins 32 more. Ben loses 31. How many nails has Ben now?")
    judge = {"use": "genrm", "model": "embedded/judge", "chains": 1, "temperature": 0}
    technique = ResampleUntilVerified.model_validate({"model": "embedded/nano", "scorer": judge, "samples": 6})
    async with Gateway(ModelBook(env={}), None) as gateway:
        context: Context = NodeContext("here", 0, Run(gateway=gateway, scope=Scope("r", "1"), answer_kind="numeric"))
        result = await technique.run(question, context)
    assert result.candidates[0].verdict is True
    assert result.candidates[0].text.endswith("Answer: 24")
    assert not result.notes
