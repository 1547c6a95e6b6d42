"""Worked examples: which are shown, how they are cut to a budget, and the loop that shows more of them."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from db.errors import ColonnadeError, DataError, InsufficientCandidates
from nodes.base import State
from nodes.few_shot import FewShot
from nodes.iterative_icl import IterativeIcl, confidence_of
from nodes.shots import Shot, pruned, read_examples
from nodes.testing import Prompt, ScriptedContext, Tried, try_out
from providers.base import Asked, TokenLogprob
from providers.errors import Overloaded

STATE = State(question="How many cups are 3 rows of 4 cups?")
CUPS = {"question": "How many cups are 2 rows of 5 cups?", "reasoning": "2 times 5. That is 10.", "answer": "10"}
ROWS = {"question": "How many rows hold 12 plates?", "answer": "3"}
KING = {"question": "Who was king then?", "reasoning": "He was.", "answer": "John"}
EXAMPLES = [KING, ROWS, CUPS]


def say(prompt: Prompt, index: int) -> str:
    return f"Answer: {index}"


def roles(tried: Tried, request: int = 0) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in tried.context.history[request].messages]


def test_the_nearest_examples_are_shown_and_the_nearest_last() -> None:
    tried = try_out("few_shot", STATE, say, model="a", shots=2, examples=EXAMPLES)
    text = tried.context.history[0].text
    all_of_it = "\n".join(content for _, content in roles(tried))
    assert "king" not in all_of_it
    assert all_of_it.index("12 plates") < all_of_it.index("2 rows of 5") < all_of_it.index("3 rows of 4")
    assert "3 rows of 4" in text
    assert tried.state.measures["shots"] == 2


def test_fixed_examples_stand_in_their_order_and_no_vectors_are_asked_for() -> None:
    tried = try_out(
        "few_shot", STATE, say, model="a", shots=2, choose="fixed", examples=EXAMPLES, by="embeddings",
        embedding_model="v",
    )  # fmt: skip
    all_of_it = "\n".join(content for _, content in roles(tried))
    assert all_of_it.index("king") < all_of_it.index("12 plates")
    assert [p.kind for p in tried.context.history] == ["sample"]


def test_without_examples_the_prompt_is_that_of_generate() -> None:
    plain = try_out("generate", STATE, say, model="a").context.history[0].messages
    for more in ({"shots": 0}, {"budget": 0}):
        bare = FewShot.model_validate({"model": "a", "examples": EXAMPLES, **more})
        assert try_out(bare, STATE, say).context.history[0].messages == plain


def test_reasoning_is_left_out_where_it_is_not_wanted() -> None:
    shown = try_out("few_shot", STATE, say, model="a", examples=[CUPS])
    bare = try_out("few_shot", STATE, say, model="a", examples=[CUPS], use_reasoning=False)
    assert any("2 times 5" in content for _, content in roles(shown))
    assert not any("2 times 5" in content for _, content in roles(bare))


def test_vectors_choose_and_words_stand_in_where_they_fail() -> None:
    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        return Overloaded("503") if prompt.kind == "embed" else "Answer: 1"

    settings_ = {"model": "a", "shots": 1, "examples": EXAMPLES, "by": "embeddings", "embedding_model": "v1"}
    chosen = try_out(FewShot.model_validate(settings_), STATE, say)
    assert "2 rows of 5" in "".join(content for _, content in roles(chosen, -1))
    failed = try_out(FewShot.model_validate({**settings_, "embedding_model": "v2"}), STATE, script)
    assert "2 rows of 5" in "".join(content for _, content in roles(failed, -1))
    assert [kind for kind, _ in failed.notes] == ["call_failed", "fallback"]


def test_examples_come_from_exactly_one_source(tmp_path: Path) -> None:
    for more in ({}, {"examples": EXAMPLES, "file": "x.jsonl", "file_sha256": "0"}):
        with pytest.raises(ValidationError, match="from exactly one of them"):
            FewShot.model_validate({"model": "a", **more})


def test_a_file_is_pinned_by_its_digest(tmp_path: Path) -> None:
    file = tmp_path / "shots.jsonl"
    file.write_text("\n".join(map(json.dumps, EXAMPLES)) + "\n\n")
    node = FewShot.model_validate({"model": "a", "file": str(file)})
    assert node.file_sha256
    assert node.pool() == FewShot.model_validate({"model": "a", "examples": EXAMPLES}).pool()
    file.write_text(json.dumps(CUPS))
    with pytest.raises(DataError, match="has changed since this architecture was made"):
        node.pool()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"question": "a", "answer": "b"}\n{', "line 2: not valid JSON"),
        ('{"question": "a"}', "line 1: answer: Field required; an example has the texts"),
        ("[]", "line 1: the line: "),
        ("\n", "the file holds no example"),
    ],
)
def test_a_broken_file_says_which_line(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "shots.jsonl"
    file.write_text(content)
    with pytest.raises(DataError, match=said):
        read_examples(str(file))


SHOTS = [
    Shot("cups in rows", "Two rows stand there. Birds sing. So multiply the rows. That is it.", "10"),
    Shot("rows of cups", "", "4"),
    Shot("kings of old", "He was king.", "John"),
]


def test_whole_examples_go_first_the_farthest_or_the_least_useful() -> None:
    budget = sum(shot.tokens for shot in SHOTS) - 1
    assert pruned(SHOTS, [3, 2, 1], budget) == SHOTS[:2]
    alike = [SHOTS[0], SHOTS[0]._replace(question="cups in the rows"), SHOTS[2]]
    by_use = pruned(alike, [3.0, 2.9, 2.0], sum(shot.tokens for shot in alike) - 1, drop="usefulness")
    assert by_use == [alike[0], alike[2]]  # the second says what the first says


def test_then_the_reasoning_is_shortened_by_the_sentence_that_has_least_to_do_with_it() -> None:
    (left,) = pruned(SHOTS[:1], [1.0], SHOTS[0].tokens - 1)
    assert left.reasoning == "Two rows stand there. So multiply the rows. That is it."
    (bare,) = pruned(SHOTS[:1], [1.0], 8)
    assert bare.reasoning == ""
    assert pruned(SHOTS[:1], [1.0], 1) == []


@given(st.integers(0, 60), st.sampled_from(["distance", "usefulness"]), st.integers(1, 4))
@settings(max_examples=40)
def test_a_budget_is_kept_and_order_is_kept(budget: int, drop: str, least: int) -> None:
    left = pruned(SHOTS, [3.0, 2.0, 1.0], budget, drop="distance" if drop == "distance" else "usefulness", least=least)
    assert sum(shot.tokens for shot in left) <= budget
    questions = [shot.question for shot in SHOTS]
    places = [questions.index(shot.question) for shot in left]
    assert places == sorted(places)
    assert pruned(SHOTS, [3.0, 2.0, 1.0], None) == SHOTS


class Unsure(ScriptedContext):
    """A context whose replies carry the log probabilities of their tokens, by the model's turn."""

    def __init__(self, replies: Sequence[tuple[str, float | None] | ColonnadeError]) -> None:
        self.turns = list(replies)
        super().__init__(lambda prompt, index: self._text(), node="here", answer_kind="numeric")

    def _text(self) -> str | ColonnadeError:
        said = self.turns.pop(0)
        self.sure = None if isinstance(said, ColonnadeError) else said[1]
        return said if isinstance(said, ColonnadeError) else said[0]

    async def ask(self, model: str, template: str, variables: Mapping[str, object], **more: object) -> Asked:
        asked = await super().ask(model, template, variables, **more)  # type: ignore[arg-type]  # handed on as it came
        if self.sure is None:
            return asked
        tokens = (TokenLogprob("Answer: ", -9.0, ()), TokenLogprob("7", math.log(self.sure), ()))
        samples = tuple(
            replace(sample, completion=replace(sample.completion, logprobs=tokens)) for sample in asked.samples
        )
        return Asked(samples, asked.failures)


def until_sure(*replies: tuple[str, float | None] | ColonnadeError, **settings_: object) -> Tried:
    technique = IterativeIcl.model_validate({"model": "a", "examples": EXAMPLES, "batch": 1, **settings_})
    context = Unsure(replies)
    return Tried(asyncio.run(technique.run(STATE, context)), context)


def test_further_examples_are_shown_while_the_model_is_not_sure() -> None:
    tried = until_sure(("x", 0.3), ("y", 0.9), threshold=0.7)
    assert tried.texts == ["y"]
    assert tried.state.measures == {"confidence": pytest.approx(0.9), "rounds": 2}
    shown = ["".join(m.content for m in p.messages) for p in tried.context.history]
    assert "2 rows of 5" in shown[0]
    assert "12 plates" in shown[1]
    assert "2 rows of 5" not in shown[1]


def test_the_most_confident_is_taken_where_none_is_sure_enough() -> None:
    tried = until_sure(("x", 0.3), ("y", 0.5), ("z", 0.4), rounds=3)
    assert tried.texts == ["y"]
    assert tried.state.measures["rounds"] == 3


def test_failures_and_missing_log_probabilities_are_noted() -> None:
    tried = until_sure(Overloaded("503"), ("y", None), ("z", 0.1))
    assert tried.texts == ["z"]
    assert tried.notes == [
        ("call_failed", "generate with batch 1 of examples: overloaded: 503"),
        ("unparsed", "no log probabilities in here:2; taken as 0"),
    ]
    with pytest.raises(InsufficientCandidates, match="2 calls failed"):
        until_sure(Overloaded("503"), Overloaded("503"), rounds=2)


def tokens(*pairs: tuple[str, float]) -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob(text, math.log(p), ()) for text, p in pairs)


def test_confidence_is_that_of_the_answers_tokens() -> None:
    said = tokens(("So", 0.1), (" the answer", 0.2), (" is", 0.9), (" 4", 0.5), ("2", 0.8), (".", 0.01))
    assert confidence_of(said, "least") == pytest.approx(0.5)
    assert confidence_of(said, "mean") == pytest.approx((0.9 * 0.5 * 0.8) ** (1 / 3))
    # A token that ends with the mark is no part of the answer, one that goes on behind it is.
    assert confidence_of(tokens(("Answer: ", 0.1), ("7", 0.6)), "least") == pytest.approx(0.6)
    assert confidence_of(tokens(("Answer:7", 0.1), ("8", 0.6)), "least") == pytest.approx(0.1)
    assert confidence_of(tokens(("12", 0.4), (" cups", 0.6)), "least") == pytest.approx(0.4)
    assert confidence_of(tokens(("…", 0.4)), "least") == pytest.approx(0.4)
    assert confidence_of((), "least") is confidence_of(None, "mean") is None


def test_models_and_what_they_need() -> None:
    given_settings = {"model": "a", "examples": EXAMPLES, "by": "embeddings", "embedding_model": "v"}
    loop, few = IterativeIcl.model_validate(given_settings), FewShot.model_validate(given_settings)
    assert loop.models() == few.models() == ("a", "v")
    assert loop.required_of("a") == {"logprobs"}
    assert loop.required_of("v") == few.required_of("a") == few.required_of("v") == frozenset()
    assert FewShot.model_validate({**given_settings, "shots": 0}).models() == ("a",)
