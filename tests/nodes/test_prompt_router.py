"""Prompt router: which route a question goes, and what it is asked there."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from db.errors import ColonnadeError, InsufficientCandidates
from nodes.base import State
from nodes.prompt_router import PromptRouter
from nodes.testing import Prompt, Tried, try_out
from providers.errors import Overloaded

CUPS = {"questions": ["How many cups are 3 rows?", "Which king drank?"], "system": "Count."}
KINGS = {"questions": ["Who was king?", "When did the king die?"], "model": ["b", "c"]}


def route(question: str, **settings: object) -> Tried:
    router = PromptRouter.model_validate({"model": "a", "routes": [CUPS, KINGS], **settings})
    return try_out(router, State(question=question), lambda prompt, index: f"{prompt.model} {index}")


def test_the_route_with_the_nearest_example_is_taken() -> None:
    tried = route("How many cups are 5 rows?", samples=2)
    assert tried.state.measures["route"] == 0
    assert [m.content for m in tried.context.history[0].messages] == ["Count.", "How many cups are 5 rows?"]
    assert tried.texts == ["a 0", "a 1"]


def test_a_route_may_have_models_of_its_own_and_the_nodes_system_message() -> None:
    tried = route("Who was the old king?", system="Be brief.")
    assert tried.texts == ["b 0", "c 0"]
    assert [p.messages[0].content for p in tried.context.history] == ["Be brief."] * 2


def test_the_mean_may_decide_otherwise_than_the_nearest() -> None:
    question = "Which king drank?"
    far = {"questions": ["Which king drank?", "Where is Spain?", "What is blue?"], "system": "x"}
    near = {"questions": ["Which king ate?"], "system": "y"}
    assert route(question, routes=[far, near]).state.measures["route"] == 0
    assert route(question, routes=[far, near], decide="mean").state.measures["route"] == 1


def test_a_question_near_to_none_goes_the_first_way() -> None:
    tried = route("Warum?")
    assert tried.state.measures == {"route": 0, "nearness": 0.0}
    assert tried.notes == [("fallback", "the question is near to no route; the first is taken")]


def test_a_lone_route_needs_no_comparison() -> None:
    tried = route("Warum?", routes=[KINGS], by="embeddings", embedding_model="v")
    assert [p.kind for p in tried.context.history] == ["sample", "sample"]
    assert tried.notes == []


def test_vectors_decide_where_they_are_asked_for() -> None:
    tried = route("When did the king die then?", by="embeddings", embedding_model="v")
    assert tried.state.measures["route"] == 1
    assert [p.kind for p in tried.context.history] == ["embed", "embed", "sample", "sample"]
    assert PromptRouter.model_validate(
        {"model": "a", "routes": [CUPS], "by": "embeddings", "embedding_model": "v"}
    ).models() == ("a", "v")


def test_a_model_that_fails_is_noted_and_the_others_go_on() -> None:
    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        return Overloaded("503") if prompt.model == "b" else "fine"

    tried = try_out("prompt_router", State(question="Who was king?"), script, model="a", routes=[CUPS, KINGS])
    assert tried.texts == ["fine"]
    assert tried.notes == [("call_failed", "generate with b: overloaded: 503")]
    with pytest.raises(InsufficientCandidates, match="1 calls failed"):
        try_out("prompt_router", State(question="How many cups?"), lambda p, i: Overloaded("503"), model="a",
                routes=[CUPS, KINGS])  # fmt: skip


def test_every_route_needs_a_model() -> None:
    with pytest.raises(ValidationError, match="a route names no model and the node has none; give `model` to either"):
        PromptRouter.model_validate({"routes": [CUPS, KINGS]})
    lone = PromptRouter.model_validate({"routes": [KINGS]})
    assert lone.models() == ("b", "c")
    assert lone.required_of("b") == frozenset()
    with pytest.raises(ValidationError, match="at least 1 item"):
        PromptRouter.model_validate({"model": "a", "routes": []})
