"""The contract over the techniques of routing and prompting, in more settings than their examples have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from nodes.base import State
from nodes.contract import CONTRACT
from nodes.probe import Probe, probes
from nodes.registry import BUILT_IN, get
from nodes.testing import Prompt

NAMES = tuple(
    name
    for name in (
        "concept_memory",
        "concept_store",
        "few_shot",
        "iterative_icl",
        "medprompt",
        "prompt_router",
        "quality_cost_router",
        "skill_router",
        "ucb_select",
    )
    if name in BUILT_IN
)

EXAMPLES = [
    {"question": "A tray holds 2 rows of 5 cups. How many?", "reasoning": "2 rows of 5. That is 10.", "answer": "10"},
    {"question": "What is 7 + 8?", "answer": "15"},
    {"question": "How many rows of 3 hold 12 cups?", "reasoning": "12 cups.\n12 over 3 is 4.", "answer": "4"},
]

ROUTES = [
    {"questions": ["Who was king?", "When did he die?"], "system": "Name your source."},
    {"questions": ["How many cups are 3 rows?"], "model": ["c", "c", "a"]},
]

PROFILES = [
    {"model": "b", "skills": {"counting": 6, "calendar": -6}},
    {"model": "c", "skills": {"counting": 1, "sums of rows": 4}},
]

ARMS = [
    {"name": "one", "about": "Short.", "steps": [{"generate": {"model": "a"}}], "pulls": 40, "reward": 0.6},
    {"name": "vote", "steps": [{"generate": {"model": ["a", "b"], "samples": 2}}, "vote"]},
    {"name": "mend", "prior": 0.9, "steps": [{"generate": {"model": "c"}}, {"refine": {"model": "c"}}], "pulls": 3},
]

VARIANTS: tuple[tuple[str, dict[str, object]], ...] = (
    ("few_shot", {"model": "a", "examples": EXAMPLES, "shots": 0}),
    ("few_shot", {"model": "a", "examples": EXAMPLES, "choose": "fixed", "shots": 2}),
    ("few_shot", {"model": ["a", "b"], "samples": 2, "examples": EXAMPLES, "budget": 20, "drop": "usefulness"}),
    ("few_shot", {"model": "a", "examples": EXAMPLES, "budget": 0}),
    ("few_shot", {"model": "a", "examples": EXAMPLES, "by": "embeddings", "embedding_model": "vectors"}),
    ("iterative_icl", {"model": "a", "examples": EXAMPLES, "batch": 2, "rounds": 5, "confidence": "mean"}),
    ("iterative_icl", {"model": "a", "examples": EXAMPLES, "by": "embeddings", "embedding_model": "vectors"}),
    ("medprompt", {"model": "a", "examples": EXAMPLES, "ensemble": 1, "shots": 0}),
    ("medprompt", {"model": "a", "examples": EXAMPLES, "by": "embeddings", "embedding_model": "vectors"}),
    ("prompt_router", {"model": "a", "routes": [{"questions": ["How many cups?"], "system": "Count."}]}),
    ("prompt_router", {"model": ["a", "b"], "samples": 2, "decide": "mean", "routes": ROUTES}),
    ("prompt_router", {"model": "a", "by": "embeddings", "embedding_model": "vectors", "routes": ROUTES}),
    ("quality_cost_router", {"weak": "a", "strong": "b", "router": "nano-mini", "threshold": 0.9, "samples": 3}),
    ("quality_cost_router", {"weak": "a", "strong": "b", "router": "nano-mini", "share": 1, "samples": 2}),
    ("quality_cost_router", {"weak": "a", "strong": "a", "router": "nano-mini", "share": 0.3}),
    ("skill_router", {"model": "a", "profiles": PROFILES, "experts": 5, "draws": 1, "keep": 1}),
    ("skill_router", {"model": "a", "profiles": PROFILES[:1], "aggregate": [{"rank": {"model": "b"}}], "experts": 2}),
    ("skill_router", {"model": "a", "profiles": PROFILES, "by": "embeddings", "embedding_model": "vectors"}),
    (
        "skill_router",
        {"model": "a", "profiles": PROFILES, "aggregate": [{"judge": {"model": "b"}}, {"fuse": {"model": "c"}}]},
    ),
    ("ucb_select", {"arms": ARMS, "pulls": 1}),
    ("ucb_select", {"arms": ARMS, "pulls": 1, "prior_model": "p"}),
    ("ucb_select", {"arms": ARMS, "pulls": 5, "accept": 1, "scorer": {"use": "judge", "model": "j"}, "memory": 0}),
    ("ucb_select", {"arms": ARMS[:1], "pulls": 3, "accept": 1, "scorer": "brevity", "prior_model": "p"}),
)

CHOICES = "Which of these is a prime?\n(A) 4\n(B) 7\n(C) 9"


def all_probes() -> list[Probe]:
    examples = [probe for name in NAMES for probe in probes(name)]
    chosen = get("medprompt").model_validate({"model": "a", "examples": EXAMPLES})
    return [
        *examples,
        *(Probe(technique=get(name).model_validate(settings)) for name, settings in VARIANTS),
        Probe(technique=chosen, state=State(question=CHOICES), script=answer_with_a_choice),
    ]


def answer_with_a_choice(prompt: Prompt, index: int) -> str:
    """Answer rightly, whatever the order of the choices."""
    letter = next(line[1] for line in prompt.text.splitlines() if line.endswith(") 7"))
    return f"A prime has no divisor.\nAnswer: {letter}"


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("probe", all_probes(), ids=str)
def test_contract(check: Callable[[Probe], None], probe: Probe) -> None:
    check(probe)


MEMORY = [
    {"item": "1", "situation": "Things stand in rows.", "concept": "Multiply the rows by what one row holds."},
    {"item": "2", "situation": "", "concept": "Check how many cups there are."},
    {"item": "3", "situation": "A train leaves.", "concept": "Divide way by speed."},
]


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("more", [{}, {"by": "embeddings", "embedding_model": "vectors", "samples": 2}], ids=str)
def test_the_contract_with_a_memory(check: Callable[[Probe], None], more: dict[str, object], tmp_path: Path) -> None:
    file = tmp_path / "memory.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in MEMORY))
    check(Probe(technique=get("concept_memory").model_validate({"model": "a", "file": str(file), **more})))
