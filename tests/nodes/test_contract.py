from __future__ import annotations

from collections.abc import Callable

import pytest

from nodes.contract import CONTRACT
from nodes.probe import Probe, example_nodes, probes
from nodes.registry import BUILT_IN, get
from nodes.scorers import describe_scorer, scorer_names

VARIANTS: tuple[tuple[str, dict[str, object]], ...] = (
    ("critique", {"model": "a", "temperature": 0.0, "system": "Be strict."}),
    ("fuse", {"model": ["a", "b"], "samples": 2, "use_critiques": False}),
    ("generate", {"model": "a"}),
    ("generate", {"model": ["a", "b", "a"], "samples": 2}),
    (
        "generate",
        {
            "model": "a",
            "show_tests": True,
            "examples": [{"question": "1+1?", "answer": "2"}],
            "stop": ["\n\n"],
            "seed": 3,
        },
    ),
    ("judge", {"model": "a"}),
    ("score", {"scorer": "mean_logprob", "keep": 2}),
    ("rank", {"model": "a", "method": "pairwise", "keep": 2}),
    ("rank", {"model": "a", "use_critiques": False}),
    ("unit_test_evaluate", {"model": "a", "keep": "all"}),
    ("unit_test_evaluate", {"model": "a", "keep": 2}),
    ("unit_test_generate", {"model": "a", "count": 10}),
    ("verify", {"model": "a", "on_none": "best"}),
    ("verify", {"model": "a", "on_none": "fail"}),
    ("vote", {"ties": "shortest"}),
    ("vote", {"ties": "score", "weights": "score", "kind": "numeric"}),
)


def all_probes() -> list[Probe]:
    examples = [probe for name in BUILT_IN for probe in probes(name)]
    examples += [
        Probe(technique=node)
        for name in scorer_names()
        for node in example_nodes(describe_scorer(name))
        if hasattr(node, "scorer")
    ]
    return examples + [Probe(technique=get(name).model_validate(settings)) for name, settings in VARIANTS]


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("probe", all_probes(), ids=str)
def test_contract(check: Callable[[Probe], None], probe: Probe) -> None:
    check(probe)


def test_every_built_in_technique_is_probed() -> None:
    assert {probe.name for probe in all_probes()} == set(BUILT_IN)
