"""Presets with a number of layers, and a panel of judges."""

from __future__ import annotations

import pytest

from architectures import compile_architecture, load, plan, preset
from db.errors import SpecError
from providers.book import ModelBook
from providers.gateway import Gateway
from providers.scope import Scope
from providers.testing_server import Asking, ModelServer
from tests.architectures.support import book_at


@pytest.mark.parametrize("rounds", [0, 1, 4])
async def test_each_layer_of_a_mixture_sees_all_answers_of_the_one_before(rounds: int) -> None:
    prompts: list[str] = []

    def reply(asking: Asking) -> str:
        prompts.append(asking.prompt)
        return f"Text {len(prompts)}."

    spec = preset("mixture-of-agents", proposers=("a", "b"), fusers=("a", "b"), aggregator="a", rounds=rounds)
    assert [node.id for node in spec.nodes] == ["generate", "fuse", *(f"fuse-{n}" for n in range(2, rounds + 2))]
    foretold = plan(spec, book_at("http://127.0.0.1:9/v1", "a", "b"), "Q").total
    async with ModelServer(reply=reply) as server, Gateway(book_at(server.url, "a", "b"), None) as gateway:
        scope = Scope("r", "i")
        compiled = compile_architecture(spec, book_at(server.url, "a", "b"))
        outcome = await compiled.run("Q", gateway=gateway, scope=scope)
    calls = 4 * (1 + rounds) + 1
    assert scope.totals().calls == calls == foretold.calls.low == foretold.calls.high
    # The last prompt shows the four answers of the layer before, and no other.
    last = prompts[-1]
    assert sum(f"Text {n}." in last for n in range(calls - 4, calls)) == 4
    assert sum(f"Text {n}.\n" in last for n in range(1, calls - 4)) == 0
    assert outcome.answer == f"Text {calls}."


def test_the_layers_are_those_that_one_would_write() -> None:
    fuse = {"fuse": {"model": "m", "samples": 2, "temperature": 0.8}}
    first = {"generate": {"model": "m", "samples": 2, "temperature": 0.8}}
    written = load({"layers": [first, fuse, fuse, {"fuse": {"model": "m"}}]})
    assert preset("mixture-of-agents", proposers="m", fusers="m", aggregator="m", rounds=2).id == written.id


@pytest.mark.parametrize("rounds", [-1, 1000, True, "2", 1.5])
def test_a_number_of_layers_that_cannot_be_is_refused(rounds: object) -> None:
    with pytest.raises(SpecError, match=r"The parameter 'rounds' is a number of layers from 0 to \d+, not "):
        preset("mixture-of-agents", rounds=rounds)


async def test_a_panel_chooses_what_its_members_together_like_best() -> None:
    marks = {"first": {"one": 9, "two": 8, "three": 1}, "second": {"one": 2, "two": 8, "three": 10}}

    def reply(asking: Asking) -> str:
        if asking.model in marks:
            (said,) = [text for text in marks[asking.model] if f"Sample {text}" in asking.prompt]
            return f"Score: {marks[asking.model][said]}"
        if asking.model == "third":
            return "[Incorrect]" if "Sample three" in asking.prompt else "[Correct]"
        return f"Sample {('one', 'two', 'three')[asking.sample]}"

    names = ("model", "first", "second", "third")
    spec = preset("panel", model="model", judge="first", second="second", third="third", samples=3)
    async with ModelServer(reply=reply, models=names) as server:
        book = ModelBook({name: book_at(server.url, name, model=name).resolve(name) for name in names}, env={})
        async with Gateway(book, None) as gateway:
            outcome = await compile_architecture(spec, book).run("Q", gateway=gateway, scope=Scope("r", "i"))
    assert outcome.answer == "Sample two"
    assert outcome.candidate.sources["score"].startswith("mean of judge first, judge second, genrm third")
