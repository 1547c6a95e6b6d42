"""The contract on more configurations of the techniques that verify than their examples show."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodes.contract import CONTRACT
from nodes.probe import Probe
from nodes.registry import get

JUDGE = {"use": "judge", "model": "j"}

VARIANTS: tuple[tuple[str, dict[str, object]], ...] = (
    ("resample_until_verified", {"model": "a", "scorer": JUDGE, "threshold": 11, "samples": 3}),
    ("resample_until_verified", {"model": "a", "scorer": JUDGE, "threshold": 1, "samples": 3, "on_none": "fail"}),
    ("resample_until_verified", {"model": "a", "scorer": "brevity", "threshold": 2, "samples": 2, "on_none": "best"}),
    ("resample_until_verified", {"model": "a", "scorer": {"use": "genrm", "model": "a", "chains": 2}, "samples": 1}),
    (
        "resample_until_verified",
        {"model": "a", "scorer": JUDGE, "threshold": 11, "rates": [{"p_tp": 0.5, "p_fp": 0.1}], "cost": 0.1},
    ),
)


def _probe(name: str, settings: dict[str, object]) -> Probe:
    return Probe(technique=get(name).model_validate(settings))


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("probe", [_probe(*variant) for variant in VARIANTS], ids=str)
def test_contract(check: Callable[[Probe], None], probe: Probe) -> None:
    check(probe)
