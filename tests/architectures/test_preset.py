"""Presets, and their parameters."""

from __future__ import annotations

from typing import Any

import pytest

from architectures import compile_architecture, load, plan, preset, preset_info, preset_names
from db.errors import SpecError
from nodes.catalog import GROUPS
from providers.book import ModelBook
from providers.gateway import Gateway
from providers.scope import Scope
from providers.testing_server import Asking, ModelServer
from tests.architectures.support import book_at


def test_the_seven_are_there_and_say_what_they_are() -> None:
    assert preset_names() == (
        "best-of-n",
        "consensus-then-long",
        "critic-rank-fuse",
        "critique-revise",
        "mixture-of-agents",
        "panel",
        "self-consistency",
        "self-refine",
        "single",
        "verify-then-fuse",
    )
    for name in preset_names():
        info = preset_info(name)
        assert info.description.endswith(".")
        assert info.group in GROUPS
        assert info.when.endswith(".")
        assert info.paper.endswith(".")
        assert all(parameter.help.endswith(".") for parameter in info.parameters.values())
        assert preset(name).name == name


def test_parameters_change_the_architecture() -> None:
    one, other = preset("self-consistency"), preset("self-consistency", model=("a", "b"), samples=3)
    assert one.id != other.id
    settings: dict[str, Any] = other.nodes[0].model_dump()["settings"]
    assert settings["model"] == ("a", "b")
    assert settings["samples"] == 3
    assert preset("self-consistency", samples=8).id == one.id
    assert load("preset:self-consistency", parameters={"samples": 3, "model": ["a", "b"]}).id == other.id


def test_mixture_of_agents_has_three_layers() -> None:
    assert [node.id for node in preset("mixture-of-agents").nodes] == ["generate", "fuse", "fuse-2"]


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(SpecError, match=r"There is no preset 'self-consistent'\. Did you mean 'self-consistency'\?"):
        preset("self-consistent")
    with pytest.raises(SpecError, match=r"has no parameter 'sample'\. Did you mean 'samples'\?"):
        load("preset:best-of-n", parameters={"sample": 3})
    with pytest.raises(SpecError, match=r"preset:best-of-n: layer 1\.generate\.samples: .* but it is 0"):
        preset("best-of-n", samples=0)


@pytest.mark.parametrize("name", preset_names())
async def test_presets_answer(name: str, server: ModelServer, gateway: Gateway) -> None:
    every = {key: "fast" for key in ("model", "judge", "proposers", "fusers", "aggregator", "long", "second", "third")}
    parameters = {key: value for key, value in every.items() if key in preset_info(name).parameters}
    compiled = compile_architecture(preset(name, **parameters), book_at(server.url))
    outcome = await compiled.run("What is 1 + 1?", gateway=gateway, scope=Scope("r", "i"))
    assert "Answer:" in outcome.answer
    assert not outcome.failed


@pytest.mark.parametrize("name", preset_names())
async def test_presets_answer_on_the_models_that_ship_at_the_price_that_was_foretold(name: str) -> None:
    spec, book, scope = preset(name), ModelBook(env={}), Scope("r", "i")
    question = "Mia has 12 pens. She finds 3 bags of 4 pens. How many pens does she have?"
    foretold = plan(spec, book, question).total
    async with Gateway(book, None) as gateway:
        outcome = await compile_architecture(spec, book).run(question, gateway=gateway, scope=scope)
    used = scope.totals()
    assert outcome.answer
    # A verifier that drops candidates leaves a fuse with fewer to read, never with fewer calls; a condition saves one.
    assert foretold.calls.low <= used.calls <= foretold.calls.high
    assert foretold.calls.low == foretold.calls.high or name in ("consensus-then-long", "critique-revise")
    assert foretold.prompt_tokens.low <= used.prompt_tokens <= foretold.prompt_tokens.high
    assert foretold.completion_tokens.low <= used.completion_tokens <= foretold.completion_tokens.high
    assert foretold.dollars is not None
    assert used.cost is not None
    assert foretold.dollars.low <= used.cost <= foretold.dollars.high


@pytest.mark.parametrize(
    ("short", "answer", "calls"),
    [("444", "4", 3), ("454", "7", 4), ("456", "7", 4), ("4?4", "4", 3), ("???", "7", 4)],
)
async def test_a_long_answer_counts_where_the_short_ones_do_not_agree(short: str, answer: str, calls: int) -> None:
    formats = ("Say it.", "Be brief.", "As code.")

    def reply(asking: Asking) -> str:
        for line, said in zip(formats, short, strict=True):
            if asking.prompt.startswith(line):
                return "I cannot say" if said == "?" else f"Answer: {said}"
        return "At length, one comes to this. Answer: 7"

    spec = preset("consensus-then-long", model="fast", long="strong", formats=formats, at_length="Take your time.")
    async with ModelServer(reply=reply) as server, Gateway(book_at(server.url), None) as gateway:
        compiled = compile_architecture(spec, book_at(server.url))
        scope = Scope("r", "i")
        outcome = await compiled.run("How many?", gateway=gateway, scope=scope, answer_kind="numeric")
    assert outcome.candidate.answer == answer
    assert scope.totals().calls == calls
    assert outcome.skipped == (("long",) if calls == 3 else ())
