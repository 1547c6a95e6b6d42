"""The contract, over the settings of samplers, votes and choices that the docstrings' examples leave out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodes.contract import CONTRACT
from nodes.probe import Probe
from nodes.registry import get

VARIANTS: tuple[tuple[str, dict[str, object]], ...] = (
    ("borda_vote", {"p": 2.0, "ties": "score"}),
    ("diverse_generate", {"model": ["a", "b"], "samples": 3, "place": "system", "system": "Be brief."}),
    ("diverse_generate", {"model": "a", "samples": 4, "prefixes": [], "temperatures": [0.2, 0.9]}),
    ("diverse_generate", {"model": "a", "samples": 3, "prefixes": ["Go."], "plain_first": False}),
    ("hedged_generate", {"model": ["a", "b", "a"], "samples": 2, "top_logprobs": 0}),
    ("mbr", {"utility": "answer", "keep": None}),
    ("mbr", {"utility": "judge", "judge": "strong", "keep": 2}),
    ("mbr", {"utility": "rouge_l"}),
    ("rpc_vote", {"prune": False}),
    ("rpc_vote", {"probability": "path", "min_paths": 2}),
    ("scheduled_generate", {"model": "a", "samples": 5, "temperatures": [0.2, 0.9], "top_ps": [0.5, 0.9, 1.0]}),
    ("scheduled_generate", {"model": ["a", "b"], "samples": 1, "first_greedy": True}),
    ("score", {"scorer": {"use": "brevity", "power": 2}}),
    ("score", {"scorer": "markers", "keep": 1}),
    ("score", {"scorer": {"use": "self_certainty", "vocabulary": 3}}),
    ("tournament", {"model": "a", "method": "swiss", "keep": None}),
    ("tournament", {"model": "a", "comparisons": 3, "both_orders": False, "use_critiques": False}),
    ("x_mbr", {"model": "a", "utility": "answer", "extra": 2}),
    ("x_mbr", {"model": "a", "judge": "a", "language": "French", "keep": None}),
)
PROBES = [Probe(technique=get(name).model_validate(settings)) for name, settings in VARIANTS]


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("probe", PROBES, ids=str)
def test_contract(check: Callable[[Probe], None], probe: Probe) -> None:
    if check.__name__ != "check_example":
        check(probe)
