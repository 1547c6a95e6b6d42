"""Think or not: quick answers first, thinking where they are unsure."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from architectures.context import NodeContext, Run
from nodes.base import Context, State
from nodes.testing import Prompt, Tried, try_out
from nodes.think_or_not import ThinkOrNot
from providers.book import ModelBook
from providers.errors import Overloaded
from providers.gateway import Gateway
from providers.scope import Scope

STATE = State(question="How many cups?")
EMPTY = "<think>\n\n</think>\n\n"


def answered(*replies: object, **settings: object) -> Tried:
    return try_out("think_or_not", STATE, replies, answer_kind="numeric", model="m", **settings)  # type: ignore[arg-type]


def test_agreement_ends_it_without_a_thought() -> None:
    tried = answered("Answer: 12", "12", "Answer: 12")
    assert [(prompt.n, prompt.text) for prompt in tried.context.history] == [(3, EMPTY)]
    assert tried.texts == ["Answer: 12"]
    assert tried.state.measures == {"agreement": 1, "confidence": 1, "drawn": 3, "thought": 0}
    assert tried.state.candidates[0].scores == {"here": 1}


def test_doubt_brings_on_plain_samples_that_alone_decide() -> None:
    tried = answered("Answer: 12", "Answer: 12", "Answer: 7", "Long thought. Answer: 7", thoughts=1)
    quick, deep = tried.context.history
    assert quick.text == EMPTY
    assert deep.text == "How many cups?", "what `generate` asks, so that samples are shared"
    assert tried.texts == ["Long thought. Answer: 7"]
    measures = tried.state.measures
    assert (measures["confidence"], measures["agreement"], measures["thought"], measures["drawn"]) == (2 / 3, 1, 1, 4)


def test_the_threshold_decides_what_is_sure_enough() -> None:
    assert len(answered("1", "1", "2", threshold=0.6).context.history) == 1
    assert len(answered("1", "1", "2", "1", threshold=0.7).context.history) == 2


def test_a_failed_or_silent_quick_answer_counts_against_the_confidence() -> None:
    tried = answered("Answer: 12", Overloaded("busy"), "no idea", "Answer: 12", threshold=0.5)
    assert tried.state.measures["confidence"] == 1 / 3
    assert tried.state.measures["thought"] == 1
    assert {kind for kind, _ in tried.notes} == {"call_failed", "unparsed"}


def test_without_a_thought_that_came_through_the_quick_answer_stands() -> None:
    tried = answered("1", "2", Overloaded("busy"), samples=2)
    assert tried.texts == ["1"]
    assert ("fallback", "all thinking failed; the quick answer is handed on") in tried.notes
    assert tried.state.measures["thought"] == 1


def test_a_scorer_may_judge_the_quick_answer() -> None:
    scorer = {"use": "judge", "model": "j"}
    sure = answered("12", "Score: 10", samples=1, scorer=scorer, threshold=0.8)
    assert [prompt.template for prompt in sure.context.history] == ["generate", "judge"]
    unsure = answered("12", "Score: 5", "thought: 13", samples=1, scorer=scorer, threshold=0.8)
    assert unsure.texts == ["thought: 13"]
    assert unsure.state.measures["confidence"] == pytest.approx(4 / 9)
    unread = answered("12", "well", "thought: 13", samples=1, scorer=scorer, threshold=0)
    assert unread.state.measures["thought"] == 1, "what could not be scored is no pass"


def test_thinking_may_be_left_out_by_a_prompt() -> None:
    tried = answered("1", "1", samples=2, thinking="prompt", instruction="/no_think", system="Be brief.")
    (prompt,) = tried.context.history
    assert [message.role for message in prompt.messages] == ["system", "user"]
    assert prompt.messages[0].content == "Be brief.\n\n/no_think"
    prefill, prompted = ThinkOrNot(model="m"), ThinkOrNot(model="m", thinking="prompt")
    assert prefill.required() == {"prefix_continuation"}
    assert prompted.required() == frozenset()
    judged = ThinkOrNot.model_validate({"model": "m", "scorer": {"use": "judge", "model": "j"}})
    assert judged.required_of("j") == frozenset()


def test_the_opening_belongs_to_the_answer() -> None:
    def script(prompt: Prompt, index: int) -> str:
        assert prompt.text == EMPTY + "Answer:"
        return " 12"

    tried = try_out("think_or_not", STATE, script, model="m", opening="Answer:", samples=2)
    assert tried.texts == ["Answer: 12"]
    assert tried.state.candidates[0].answer == "12"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"samples": 1}, "one quick answer always agrees with itself; set samples to 2 or more, or give a scorer"),
        ({"no_thinking": ""}, "needs a text in no_thinking or opening"),
        ({"threshold": 1.1}, "threshold"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ThinkOrNot.model_validate({"model": "m", **settings})


async def test_an_embedded_model_guesses_in_unison_and_the_judge_makes_it_work_the_steps() -> None:
    question = State(question="Ben has 23 nails. Ben wins 32 more. Ben loses 31. How many nails has Ben now?")
    settings = {"model": "embedded/mini", "no_thinking": "", "opening": "Answer:", "quick_tokens": 8, "max_tokens": 60}
    judge = {"use": "genrm", "model": "embedded/judge", "chains": 1, "temperature": 0}
    async with Gateway(ModelBook(env={}), None) as gateway:
        context: Context = NodeContext("here", 0, Run(gateway=gateway, scope=Scope("r", "1"), answer_kind="numeric"))
        quick = await ThinkOrNot.model_validate({**settings, "threshold": 0}).run(question, context)
        judged = await ThinkOrNot.model_validate({**settings, "scorer": judge}).run(question, context)
    assert quick.candidates[0].text.startswith("Answer:")
    assert quick.candidates[0].answer != "24"
    assert judged.measures["confidence"] == 0
    assert judged.measures["thought"] == 1
    assert "=" in judged.candidates[0].text
    assert not [note for note in judged.notes if note.kind == "call_failed"]
