"""The contract of the techniques that divide a question, in more configurations than their examples have."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path

import pytest

from nodes.base import Range
from nodes.contract import CONTRACT
from nodes.probe import Probe, probes
from nodes.registry import BUILT_IN, get
from nodes.testing import ScriptedEstimator, shape_of

NAMES = tuple(name for name in ("decompose_solve", "divide_aggregate", "rewoo", "spawn_join") if name in BUILT_IN)

VARIANTS: tuple[tuple[str, dict[str, object]], ...] = (
    ("spawn_join", {"model": "a"}),
    ("spawn_join", {"model": "a", "child": "b", "depth": 2, "width": 2, "joins": 1, "samples": 2}),
    ("spawn_join", {"model": "a", "depth": 3, "width": 2, "joins": 2, "result_bytes": 40}),
    ("spawn_join", {"model": "a", "width": 1, "joins": 1, "samples": 3}),
    ("decompose_solve", {"model": "a", "decomposer": "a", "order": "references", "samples": 2}),
    ("decompose_solve", {"model": "a", "decomposer": "b", "show_attempt": False, "max_questions": 2}),
    ("decompose_solve", {"model": "a", "decomposer": "b", "max_questions": 1, "answer_bytes": 200, "samples": 3}),
    ("decompose_solve", {"model": "a", "decomposer": "b", "show_attempt": False, "order": "references", "samples": 2}),
    ("divide_aggregate", {"model": "a"}),
    ("divide_aggregate", {"model": "a", "tools": ["calculator"], "llm": False, "samples": 2}),
    ("divide_aggregate", {"model": "a", "worker": "b", "solver": "c", "max_rounds": 1, "samples": 3}),
    ("divide_aggregate", {"model": "a", "worker": "b", "max_calls": 1, "evidence_bytes": 200}),
    ("rewoo", {"model": "a"}),
    ("rewoo", {"model": "a", "tools": ["calculator"], "llm": False, "samples": 3, "temperature": 0.8}),
    ("rewoo", {"model": "a", "worker": "b", "solver": "c", "max_steps": 2, "evidence_bytes": 200, "samples": 2}),
    ("rewoo", {"model": "a", "tools": [{"use": "calculator", "name": "sums", "about": "adds up"}], "max_steps": 1}),
)


def all_probes() -> list[Probe]:
    examples = [probe for name in NAMES for probe in probes(name)]
    return examples + [Probe(technique=get(name).model_validate(settings)) for name, settings in VARIANTS]


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("probe", all_probes(), ids=str)
def test_contract(check: Callable[[Probe], None], probe: Probe) -> None:
    check(probe)


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", [name for name in NAMES if name in ("divide_aggregate", "rewoo")])
def test_the_contract_with_a_file_to_look_things_up_in(
    check: Callable[[Probe], None], name: str, tmp_path: Path
) -> None:
    file = tmp_path / "facts.txt"
    file.write_text("A tray holds 3 rows of 4 cups.\n\nA cup holds 2 dl.")
    tools = [{"use": "lookup", "file": str(file)}, "calculator"]
    check(Probe(technique=get(name).model_validate({"model": "a", "tools": tools})))


@pytest.mark.parametrize("probe", all_probes(), ids=str)
def test_a_plan_for_a_model_without_a_limit_has_numbers(probe: Probe) -> None:
    plan = probe.technique.plan(shape_of(probe.state), ScriptedEstimator(Range(1, 100, inf)))
    for call in plan.calls:
        for low, likely, high in (call.calls, call.requests, call.prompt_tokens, call.completion_tokens):
            assert low <= likely <= high
