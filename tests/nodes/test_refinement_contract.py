"""The contract of the techniques that refine, decompose and debate, in more configurations than their examples have."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodes.contract import CONTRACT
from nodes.probe import Probe
from nodes.registry import get

JUDGE = {"use": "judge", "model": "j"}

VARIANTS: tuple[tuple[str, dict[str, object]], ...] = (
    ("debate", {"model": "a", "rounds": 1}),
    ("debate", {"model": "a", "agents": 4, "rounds": 3, "final": "keep"}),
    ("debate", {"model": ["a", "b", "a"], "agents": 1, "reviser": "c", "until_agreed": True, "rounds": 3}),
    ("hint_injection", {"model": "a", "expert": "b", "mode": "continue", "rounds": 2}),
    ("hint_injection", {"model": "a", "expert": "a", "rounds": 3, "hint_tokens": 40}),
    ("iterative_decode", {"model": "a", "samples": 1, "rounds": 3, "scorer": JUDGE, "keep": 2}),
    ("iterative_decode", {"model": "a", "reviser": "b", "rounds": 2, "scorer": JUDGE, "show": "best"}),
    ("iterative_decode", {"model": "a", "rounds": 1, "scorer": JUDGE}),
    ("segment_summarise", {"model": "a", "max_segments": 1, "samples": 2}),
    ("segment_summarise", {"model": "a", "max_segments": 2, "samples": 3, "summariser": "b"}),
    ("segment_summarise", {"model": "a", "max_segments": 5, "summary_tokens": 9, "system": "Be brief."}),
    ("sequential_revision", {"model": "a", "chains": 3, "turns": 5, "memory": 3, "reviser": "b", "final": "all"}),
    ("sequential_revision", {"model": "a", "final": "last", "turns": 1}),
    ("sequential_revision", {"model": "a", "final": "best", "scorer": JUDGE}),
    ("sequential_revision", {"model": "a", "final": "vote", "scorer": JUDGE, "chains": 1}),
)


def _probe(name: str, settings: dict[str, object]) -> Probe:
    return Probe(technique=get(name).model_validate(settings))


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("probe", [_probe(*variant) for variant in VARIANTS], ids=str)
def test_contract(check: Callable[[Probe], None], probe: Probe) -> None:
    check(probe)
