"""Presets, and their parameters."""

from __future__ import annotations

from typing import Any

import pytest

from architectures import compile_architecture, load, preset, preset_info, preset_names
from db.errors import SpecError
from providers.gateway import Gateway
from providers.scope import Scope
from providers.testing_server import ModelServer
from tests.architectures.support import book_at


def test_the_six_are_there_and_say_what_they_are() -> None:
    assert preset_names() == (
        "best-of-n",
        "critic-rank-fuse",
        "mixture-of-agents",
        "self-consistency",
        "single",
        "verify-then-fuse",
    )
    for name in preset_names():
        info = preset_info(name)
        assert info.description.endswith(".")
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
    every = {key: "fast" for key in ("model", "judge", "proposers", "fusers", "aggregator")}
    parameters = {key: value for key, value in every.items() if key in preset_info(name).parameters}
    compiled = compile_architecture(preset(name, **parameters), book_at(server.url))
    outcome = await compiled.run("What is 1 + 1?", gateway=gateway, scope=Scope("r", "i"))
    assert "Answer:" in outcome.answer
    assert not outcome.failed
