"""The contract on more configurations of the techniques of adaptive compute than their examples show."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodes.contract import CONTRACT
from nodes.probe import Probe, probes
from nodes.registry import BUILT_IN, get

TECHNIQUES = (
    "adaptive_best_of_n",
    "adaptive_vote",
    "budget_forcing",
    "cascade",
    "compute_optimal",
    "saturation_vote",
    "short_m_at_k",
    "solve_verify",
    "think_or_not",
)

LISTWISE = {"use": "branch_and_rethink", "model": "b", "listwise": True}

VARIANTS: tuple[tuple[str, dict[str, object]], ...] = (
    ("adaptive_best_of_n", {"model": "a", "samples": 5, "batch": 2, "threshold": 1}),
    ("adaptive_best_of_n", {"model": "a", "samples": 5, "batch": 3, "prune_after": 8, "anneal": True}),
    ("adaptive_best_of_n", {"model": "a", "samples": 4, "batch": 4, "prune_after": 8, "prune_keep": 0.25}),
    ("adaptive_best_of_n", {"model": "a", "samples": 3, "scorer": {"use": "judge", "model": "b"}, "anneal": True}),
    ("adaptive_best_of_n", {"model": "a", "samples": 5, "batch": 2, "threshold": 1, "scorer": LISTWISE}),
    ("adaptive_best_of_n", {"model": "a", "samples": 3, "threshold": 1, "scorer": LISTWISE}),
    ("adaptive_vote", {"model": "a", "samples": 7, "window": 3, "rule": "dirichlet"}),
    ("adaptive_vote", {"model": "a", "samples": 5, "window": 2, "rule": "unanimous", "ties": "shortest"}),
    ("adaptive_vote", {"model": "a", "samples": 4, "window": 1, "rule": "entropy", "threshold": 1}),
    ("adaptive_vote", {"model": "a", "samples": 1, "window": 8}),
    ("budget_forcing", {"model": "a", "close": "</reason>", "samples": 3, "keep_thinking": False}),
    ("budget_forcing", {"model": "a", "open": "", "min_thinking": 200, "max_thinking": 200, "waits": 3, "samples": 2}),
    ("budget_forcing", {"model": "a", "open": "", "close": "cups", "final": "", "min_thinking": 90, "waits": 1}),
    ("cascade", {"stages": ["a"], "samples": 2}),
    ("cascade", {"stages": ["a", "b", "a"], "samples": 2, "threshold": [1.5, 0.5]}),
    ("cascade", {"stages": ["a", "b"], "samples": [1, 2], "scorer": {"use": "judge", "model": "c"}}),
    ("compute_optimal", {"model": "a"}),
    ("compute_optimal", {"model": "a", "pilot": 3, "thresholds": [], "table": [{"revisions": 2}]}),
    (
        "compute_optimal",
        {
            "model": "a",
            "reviser": "b",
            "pilot": 3,
            "estimate": "weighted",
            "scorer": {"use": "judge", "model": "c"},
            "thresholds": [0.9, 0.1],
            "table": [{"choose": "weighted"}, {"samples": 2, "revisions": 1, "choose": "best"}, {"samples": 1}],
        },
    ),
    (
        "compute_optimal",
        {
            "model": "a",
            "pilot": 1,
            "scorer": {"use": "genrm", "model": "a", "chains": 2},
            "thresholds": [1.5],
            "table": [{}, {"samples": 3, "choose": "best"}],
        },
    ),
    (
        "compute_optimal",
        {
            "model": "a",
            "pilot": 2,
            "estimate": "score",
            "scorer": LISTWISE,
            "thresholds": [1.5],
            "table": [{}, {"samples": 2, "revisions": 1, "choose": "best"}],
        },
    ),
    (
        "compute_optimal",
        {
            "model": "a",
            "scorer": LISTWISE,
            "thresholds": [1.5],
            "table": [{}, {"samples": 3, "revisions": 2, "choose": "weighted"}],
        },
    ),
    ("saturation_vote", {"model": "a", "samples": 9, "window": 2, "epsilon": 0.5}),
    ("short_m_at_k", {"model": "a", "k": 3, "m": 3}),
    ("short_m_at_k", {"model": "a", "k": 4, "m": 1, "kind": "numeric"}),
    ("think_or_not", {"model": "a", "samples": 2, "opening": "Answer:", "no_thinking": ""}),
    ("think_or_not", {"model": "a", "samples": 1, "scorer": {"use": "judge", "model": "b"}, "thoughts": 3}),
    ("think_or_not", {"model": "a", "thinking": "prompt", "system": "Be brief.", "quick_tokens": 50}),
    ("solve_verify", {"model": "a", "budget": 5, "verify_from": 6}),
    ("solve_verify", {"model": "a", "budget": 12, "verify_from": 2, "cost_ratio": 0.5, "choose": "best"}),
    ("solve_verify", {"model": "a", "budget": 1, "verify_from": 1}),
)


def all_probes() -> list[Probe]:
    examples = [probe for name in TECHNIQUES if name in BUILT_IN for probe in probes(name)]
    return examples + [Probe(technique=get(name).model_validate(settings)) for name, settings in VARIANTS]


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("probe", all_probes(), ids=str)
def test_contract(check: Callable[[Probe], None], probe: Probe) -> None:
    check(probe)
