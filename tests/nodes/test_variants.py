"""Samples of one question drawn in several ways: by schedule, by prefix, and with a greedy hedge."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from db.errors import ColonnadeError, InsufficientCandidates
from nodes.base import State
from nodes.diverse_generate import DiverseGenerate, prefix_diversity
from nodes.scheduled_generate import ScheduledGenerate
from nodes.testing import Prompt, Tried, try_out
from nodes.variants import Variant, merged, steps
from providers.base import Sampling
from providers.errors import Overloaded

STATE = State(question="How many?")


def echo(prompt: Prompt, index: int) -> str:
    return f"{prompt.model} {index}"


def drawn(tried: Tried) -> list[tuple[str, float | None, float | None, int]]:
    """Return model, temperature, top-p and number of samples of each request."""
    return [
        (p.model, p.sampling.temperature if p.sampling else None, p.sampling.top_p if p.sampling else None, p.n)
        for p in tried.context.history
    ]


def test_a_line_of_temperatures_from_the_first_sample_to_the_last() -> None:
    tried = try_out("scheduled_generate", STATE, echo, model="a", samples=5, temperature=0.2, temperature_to=1.0)
    assert drawn(tried) == [("a", t, None, 1) for t in (0.2, 0.4, 0.6, 0.8, 1.0)]
    assert len(tried.texts) == 5


def test_lists_are_taken_in_turn_and_equal_settings_are_one_request() -> None:
    tried = try_out(
        "scheduled_generate", STATE, echo, model=["a", "b"], samples=5, temperatures=[0.2, 0.9], top_ps=[0.5]
    )
    assert drawn(tried) == [("a", 0.2, 0.5, 3), ("a", 0.9, 0.5, 2), ("b", 0.2, 0.5, 3), ("b", 0.9, 0.5, 2)]


def test_the_first_sample_may_be_greedy_and_the_schedule_runs_over_the_others() -> None:
    tried = try_out(
        "scheduled_generate", STATE, echo, model="a", samples=3, first_greedy=True, temperature=0.5, top_p=0.9
    )
    assert drawn(tried) == [("a", 0.0, None, 1), ("a", 0.5, 0.9, 2)]


def test_no_temperature_is_left_to_the_model() -> None:
    assert drawn(try_out("scheduled_generate", STATE, echo, model="a", temperature=None)) == [("a", None, None, 1)]


@pytest.mark.parametrize(
    ("given_settings", "said"),
    [
        ({"temperature_to": 1.0, "temperatures": [0.1]}, "give either temperature_to or temperatures, not both"),
        ({"top_p_to": 0.9, "top_ps": [0.5]}, "give either top_p_to or top_ps, not both"),
        ({"top_p_to": 0.9}, "top_p_to needs top_p, where the line begins"),
        ({"temperature": None, "temperature_to": 0.9}, "temperature_to needs temperature"),
    ],
)
def test_two_schedules_at_once_are_refused(given_settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ScheduledGenerate.model_validate({"model": "a", **given_settings})


@given(st.floats(0, 2), st.floats(0, 2), st.integers(2, 9))
@settings(max_examples=30)
def test_steps_go_from_end_to_end_in_one_direction(first: float, last: float, count: int) -> None:
    found = steps(first, last, count)
    assert len(found) == count
    assert found[0] == pytest.approx(first, abs=1e-4)
    assert found[-1] == pytest.approx(last, abs=1e-4)
    assert found == sorted(found, reverse=last < first)


def test_log_probabilities_are_demanded_where_they_are_wanted() -> None:
    assert ScheduledGenerate(model="a").required() == frozenset()
    assert ScheduledGenerate(model="a", top_logprobs=0).required() == {"logprobs"}
    assert ScheduledGenerate(model="a", top_logprobs=5).required() == {"logprobs", "top_logprobs"}


def test_equal_variants_are_counted_in_their_order() -> None:
    a, b = Variant("a", Sampling()), Variant("b", Sampling())
    assert merged([a, b, a]) == [(a, 2), (b, 1)]


def test_the_hedge_comes_first_and_is_greedy() -> None:
    tried = try_out("hedged_generate", STATE, echo, model=["a", "b", "a"], samples=2, temperature=0.9, top_p=0.95)
    assert drawn(tried) == [("a", 0.0, None, 1), ("b", 0.0, None, 1), ("a", 0.9, 0.95, 2), ("b", 0.9, 0.95, 2)]
    assert tried.texts == ["a 0", "b 0", "a 0", "a 1", "b 0", "b 1"]
    assert [c.id for c in tried.state.candidates] == [f"here:{n}" for n in range(1, 7)]


def test_a_failed_way_is_noted_and_the_others_go_on() -> None:
    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        greedy = prompt.sampling is not None and prompt.sampling.temperature == 0
        return Overloaded("503") if greedy else "fine"

    tried = try_out("hedged_generate", STATE, script, model="a", samples=2)
    assert tried.texts == ["fine", "fine"]
    assert tried.notes == [("call_failed", "generate with a: overloaded: 503")]
    with pytest.raises(InsufficientCandidates, match="3 calls failed, the last with overloaded: 503"):
        try_out("hedged_generate", STATE, lambda prompt, index: Overloaded("503"), model="a", samples=2)


def test_each_sample_takes_the_next_prefix_and_the_first_none() -> None:
    tried = try_out("diverse_generate", STATE, echo, model="a", samples=4, prefixes=["Draw.", "Guess."])
    assert [p.text for p in tried.context.history] == ["How many?", "Draw.\n\nHow many?", "Guess.\n\nHow many?"]
    assert [p.n for p in tried.context.history] == [1, 2, 1]


def test_a_prefix_as_the_system_message_stands_behind_the_nodes_own() -> None:
    tried = try_out(
        "diverse_generate", STATE, echo, model="a", samples=2, prefixes=["Draw."], place="system", system="Be brief."
    )
    plain, led = tried.context.history
    assert [m.content for m in plain.messages] == ["Be brief.", "How many?"]
    assert [m.content for m in led.messages] == ["Be brief.\n\nDraw.", "How many?"]
    alone = try_out("diverse_generate", STATE, echo, model="a", prefixes=["Draw."], place="system", plain_first=False)
    assert [m.content for m in alone.context.history[0].messages] == ["Draw.", "How many?"]


def test_temperatures_go_along_with_the_prefixes() -> None:
    tried = try_out("diverse_generate", STATE, echo, model="a", samples=3, prefixes=[], temperatures=[0.1, 0.9])
    assert drawn(tried) == [("a", 0.1, None, 2), ("a", 0.9, None, 1)]


def test_prefix_diversity_counts_beginnings_and_not_ends() -> None:
    texts = ["First we add, then stop.", "first WE add; and more", "Second way", "Second way"]
    assert prefix_diversity(texts, 3) == 2 / 4
    assert prefix_diversity(texts, 5) == 3 / 4
    assert prefix_diversity([], 3) == 0.0
    tried = try_out("diverse_generate", STATE, lambda prompt, index: "same", model="a", samples=4)
    assert tried.state.measures["prefix_diversity"] == 1 / 4
    assert DiverseGenerate(model="a").prefixes


def test_an_empty_prefix_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1 character"):
        DiverseGenerate(model="a", prefixes=("  ",))
