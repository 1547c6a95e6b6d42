"""Budget forcing: the end of thinking is forced or put off, every part is counted, and nothing passes the budget."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from architectures.context import NodeContext, Run
from nodes.answers import extract
from nodes.base import Context, State
from nodes.budget_forcing import BudgetForcing
from nodes.testing import Prompt, ScriptedContext, in_order, try_out
from providers.base import Asked, Sampling
from providers.book import ModelBook
from providers.errors import Overloaded
from providers.gateway import Gateway
from providers.scope import Scope

STATE = State(question="How many cups?")


class Cutting(ScriptedContext):
    """A context whose replies end at `max_tokens` (bytes), as those of a server do."""

    async def ask(self, *args: object, **named: object) -> Asked:
        asked = await super().ask(*args, **named)  # type: ignore[arg-type]  # handed through as it came
        sampling = named["sampling"]
        assert isinstance(sampling, Sampling)
        most = sampling.max_tokens or 10**9
        samples = []
        for sample in asked.samples:
            whole = sample.completion
            text = whole.text[:most]
            usage = whole.usage._replace(completion_tokens=len(text.encode()))
            reason = "length" if len(whole.text) > most else "stop"
            cut = replace(whole, text=text, usage=usage, finish_reason=reason)  # type: ignore[arg-type]  # a literal
            samples.append(replace(sample, completion=cut))
        return Asked(tuple(samples), asked.failures)


def run(replies: list[str], **settings: object) -> tuple[State, Cutting]:
    context = Cutting(in_order(replies), node="here")
    technique = BudgetForcing.model_validate({"model": "m", **settings})
    return asyncio.run(technique.run(STATE, context)), context


def test_a_reply_that_ends_its_thinking_in_time_is_left_alone() -> None:
    state, context = run(["12 cups\n</think>\nAnswer: 12"], max_thinking=100)
    assert context.calls == 1
    assert state.candidates[0].text == "<think>\n12 cups\n</think>\nAnswer: 12"
    assert state.measures == {"forced": 0, "thinking_tokens": 8, "waited": 0}


def test_thinking_that_meets_the_budget_is_ended_and_the_answer_forced() -> None:
    state, context = run(["3 rows and then on and on", " 12"], max_thinking=10, max_tokens=5)
    first, second = context.history
    assert first.text == "<think>\n"
    assert second.text == "<think>\n3 rows and\n</think>\n\nFinal answer:"
    assert first.sampling is not None
    assert second.sampling is not None
    assert (first.sampling.max_tokens, second.sampling.max_tokens) == (10, 5)
    (candidate,) = state.candidates
    assert candidate.text == second.text + " 12"
    assert candidate.completion_tokens == 10 + 3
    assert extract(candidate.text, "numeric") == "12"
    assert state.measures["forced"] == 1
    assert not state.notes, "a forced end is what the technique is for"


def test_an_answer_that_the_budget_cut_is_written_to_its_end() -> None:
    state, context = run(["ok</think>Answer: 1234", "34"], max_thinking=20)
    assert context.history[1].text == "<think>\nok</think>Answer: 12"
    assert state.candidates[0].text.endswith("Answer: 1234")
    assert state.measures["forced"] == 0


def test_too_little_thinking_goes_on_behind_wait_and_the_first_answer_is_thrown_away() -> None:
    replies = ["7</think>Answer: 7", " no, 12</think>Answer: 12"]
    state, context = run(replies, min_thinking=8, max_thinking=100)
    assert context.history[1].text == "<think>\n7\nWait,"
    (candidate,) = state.candidates
    assert candidate.text == "<think>\n7\nWait, no, 12</think>Answer: 12"
    assert candidate.completion_tokens == sum(map(len, replies)), "what was thrown away is counted"
    assert state.measures == {"forced": 0, "thinking_tokens": 1 + 7, "waited": 1}


def test_it_waits_no_more_often_than_it_may() -> None:
    state, context = run(["a</think>1"] * 3, min_thinking=50, max_thinking=100, waits=2)
    assert context.calls == 3
    assert state.measures["waited"] == 2


def test_a_reply_that_ends_without_closing_is_forced_and_noted() -> None:
    tried = try_out("budget_forcing", STATE, ["It is 12.", " 12"], model="m")
    assert tried.notes == [("unparsed", "no end of thinking in here:1, though it ended; it is forced")]
    assert tried.texts == ["<think>\nIt is 12.\n</think>\n\nFinal answer: 12"]


def test_the_answer_alone_can_be_handed_on() -> None:
    state, _ = run(["It is", " 12", "x"], max_thinking=4, keep_thinking=False)
    assert [candidate.text for candidate in state.candidates] == ["Final answer: 12"]


def test_failed_calls_leave_what_there_is() -> None:
    state, _ = run(["7</think>Answer: 7", Overloaded("busy")], min_thinking=9, max_thinking=99)  # type: ignore[list-item]
    assert state.candidates[0].text == "<think>\n7</think>Answer: 7"
    assert [note.detail for note in state.notes] == ["more thinking for here:1: overloaded: busy"]
    state, _ = run(["3 rows of", Overloaded("busy")], max_thinking=4)  # type: ignore[list-item]
    assert state.candidates[0].text == "<think>\n3 ro"
    assert state.notes[0].detail.startswith("the answer of here:1, which stays unfinished")
    assert state.measures["forced"] == 0


def test_calls_of_one_response_keep_its_sample_index() -> None:
    def script(prompt: Prompt, index: int) -> str:
        return " 12" if "Final" in prompt.text else f"thought {index}"

    tried = try_out("budget_forcing", STATE, script, model="m", samples=3)
    assert [prompt.first for prompt in tried.context.history] == [None, 0, 1, 2]


PARTS = st.lists(
    st.tuples(st.integers(0, 40), st.booleans()).map(lambda one: "x" * one[0] + ("</think>y" if one[1] else "")),
    min_size=20,
    max_size=20,
)


@given(PARTS, st.integers(1, 30), st.integers(0, 30), st.integers(0, 4))
def test_thinking_and_waits_never_pass_their_caps(parts: list[str], most: int, least: int, waits: int) -> None:
    state, context = run(parts, max_thinking=most, min_thinking=min(least, most), waits=waits)
    assert state.measures["waited"] <= waits
    assert state.measures["thinking_tokens"] <= most
    assert context.calls <= 2 + waits
    assert sum(prompt.sampling.max_tokens is None for prompt in context.history if prompt.sampling) <= 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min_thinking": 11, "max_thinking": 10}, "min_thinking is 11, above max_thinking = 10"),
        ({"close": ""}, "close"),
        ({"max_thinking": 0}, "max_thinking"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        BudgetForcing.model_validate({"model": "m", **settings})


def test_it_asks_for_continuation() -> None:
    assert BudgetForcing(model="m").required_of("m") == {"prefix_continuation"}


async def test_an_embedded_model_is_made_to_answer() -> None:
    question = State(question="Ann has 16 plums. Ann wins 4 more. Then Ann eats 3. How many plums has Ann now?")
    settings = {"open": "", "close": "Answer:", "final": "", "temperature": 0, "max_tokens": 8}
    async with Gateway(ModelBook(env={}), None) as gateway:
        context: Context = NodeContext("here", 0, Run(gateway=gateway, scope=Scope("r", "1"), answer_kind="numeric"))
        cut = BudgetForcing.model_validate({"model": "embedded/mini", "max_thinking": 9, **settings})
        free = BudgetForcing.model_validate({"model": "embedded/mini", "max_thinking": 99, **settings})
        short, whole = await cut.run(question, context), await free.run(question, context)
    assert short.measures["forced"] == 1
    assert whole.measures["forced"] == 0
    assert not short.notes + whole.notes
    assert extract(short.candidates[0].text, "numeric") is not None
    assert len(short.candidates[0].text) < len(whole.candidates[0].text)
