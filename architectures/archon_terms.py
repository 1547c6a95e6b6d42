"""Archon's words in ours: component types, providers, and what becomes of each key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["COMPONENTS", "PAIRRM", "PROVIDERS", "Component", "translate"]

PAIRRM: Final = "llm-blender/PairRM"

COMPONENTS: Final[Mapping[str, str]] = {
    "critic": "critique",
    "fuser": "fuse",
    "generator": "generate",
    "ranker": "rank",
    "unit_test_evaluator": "unit_test_evaluate",
    "unit_test_generator": "unit_test_generate",
    "verifier": "verify",
}
"""The technique that stands for each component type."""

PROVIDERS: Final[Mapping[str, str]] = {
    "": "",
    "Anthropic_API": "anthropic/",
    "Bedrock_API": "bedrock/",
    "Google_API": "gemini/",
    "Groq_API": "groq/",
    "OpenAI_API": "openai/",
    "Together_API": "together_ai/",
    "vLLM": "vllm/",
}
"""The prefix of model names that stands for each `model_type`; without one the name is an alias of `models.yaml`."""

_SPELLING: Final[Mapping[str, str]] = {"length_contorl": "length_control"}
_EVERYWHERE: Final = frozenset({"max_tokens", "samples", "temperature"})
_READ: Final[Mapping[str, frozenset[str]]] = {
    "critic": frozenset(),
    "fuser": frozenset({"length_control", "use_critiques"}),
    "generator": frozenset({"no_system"}),
    "ranker": frozenset({"ranker_batch_size", "top_k", "use_critiques"}),
    "unit_test_evaluator": frozenset(
        {"first_k", "first_pass", "remove_unit_tests_from_prompt", "top_k", "unit_test_cap"}
    ),
    "unit_test_generator": frozenset({"unit_test_cap"}),
    "verifier": frozenset({"first_k"}),
}
"""Keys that make a difference in Archon's code, or were meant to, by component type."""

_IDLE: Final = frozenset(
    {
        "batch_num",
        "checkpoint",
        "fuse_generations_count",
        "ranker_batch_size",
        "ranker_config",
        "top_k",
        "top_k_generations",
        "unit_test_cap",
        "use_critiques",
    }
)
"""Keys that stand in published files where Archon's code does not read them."""


class Component(NamedTuple):
    """A component as it stands in a configuration."""

    kind: str
    model: str
    """With the prefix of its provider."""
    provider: str
    settings: Mapping[str, object]
    pairwise: bool


class Translated(NamedTuple):
    """A component in our words."""

    use: str
    settings: dict[str, object]
    notes: list[str]


def translate(component: Component, *, has_tests: bool) -> Translated:
    """Turn a component into a technique with settings; `has_tests`: an earlier layer wrote unit tests."""
    given, notes = _spelled(component)
    settings: dict[str, object] = {"model": component.model}
    settings.update({key: given[key] for key in ("temperature", "max_tokens") if given.get(key) is not None})
    if component.kind in ("generator", "fuser"):
        settings["samples"] = given.get("samples", 1)
    elif given.get("samples", 1) != 1:
        notes.append(f"'samples: {given['samples']}' of the {component.kind} is left out; one reply is used")
    extra, more = _SPECIAL[component.kind](given, has_tests) if component.kind in _SPECIAL else ({}, [])
    settings.update(extra)
    if component.pairwise:
        settings = {key: settings[key] for key in ("model", "keep", "max_tokens") if key in settings} | {
            "method": "pairwise"
        }
    return Translated(COMPONENTS[component.kind], settings, notes + more)


def _spelled(component: Component) -> tuple[dict[str, object], list[str]]:
    """Mend misspelt keys, and name those that nothing reads."""
    given: dict[str, object] = {}
    notes: list[str] = []
    for written, value in component.settings.items():
        key = _SPELLING.get(written, written)
        if key != written:
            notes.append(f"{written!r} is taken for {key!r}")
        if key in _EVERYWHERE or key in _READ[component.kind]:
            given[key] = value
        elif key not in _IDLE:
            notes.append(f"the key {key!r} of the {component.kind} is unknown and left out")
        elif (key, value) not in (("top_k", 1), ("use_critiques", False)):
            notes.append(f"'{key}: {value}' of the {component.kind} is left out; nothing in Archon's code reads it")
    return given, notes


def _generator(given: Mapping[str, object], has_tests: bool) -> tuple[dict[str, object], list[str]]:
    return ({"show_tests": True} if has_tests else {}), []


def _fuser(given: Mapping[str, object], has_tests: bool) -> tuple[dict[str, object], list[str]]:
    notes = (
        ["'length_control' of the fuser is left out; our fuse asks for no length"]
        if given.get("length_control")
        else []
    )
    return _critiques(given), notes


def _ranker(given: Mapping[str, object], has_tests: bool) -> tuple[dict[str, object], list[str]]:
    top = given.get("top_k")
    return {**({"keep": top} if top is not None else {}), **_critiques(given)}, []


def _critiques(given: Mapping[str, object]) -> dict[str, object]:
    return {"use_critiques": bool(given["use_critiques"])} if "use_critiques" in given else {}


def _test_generator(given: Mapping[str, object], has_tests: bool) -> tuple[dict[str, object], list[str]]:
    cap = given.get("unit_test_cap")
    if cap is not None:
        return {"count": cap}, []
    return {}, ["the unit_test_generator has no 'unit_test_cap'; the technique's own count is asked for"]


def _evaluator(given: Mapping[str, object], has_tests: bool) -> tuple[dict[str, object], list[str]]:
    notes = []
    first = given.get("first_k") or (1 if given.get("first_pass") else None)
    if first is not None:
        notes.append(
            f"the evaluator keeps the {first} best; it evaluates every candidate, where Archon's code stops at the "
            f"first {first} that pass all tests"
        )
    if given.get("remove_unit_tests_from_prompt") is False:
        notes.append(
            "the evaluator is shown the unit tests once; 'remove_unit_tests_from_prompt: false' shows them twice"
        )
    keep = first if first is not None else given.get("top_k")
    return {"keep": keep if keep is not None else "all"}, notes


def _verifier(given: Mapping[str, object], has_tests: bool) -> tuple[dict[str, object], list[str]]:
    first = given.get("first_k")
    notes = [f"'first_k: {first}' of the verifier is left out; every candidate that passes goes on"] if first else []
    return {"on_none": "all"}, notes


_SPECIAL = {
    "fuser": _fuser,
    "generator": _generator,
    "ranker": _ranker,
    "unit_test_evaluator": _evaluator,
    "unit_test_generator": _test_generator,
    "verifier": _verifier,
}
