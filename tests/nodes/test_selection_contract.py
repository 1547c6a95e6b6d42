"""The contract, over the settings of selection and merging that the docstrings' examples leave out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from nodes.contract import CONTRACT
from nodes.probe import Probe, sample_state
from nodes.registry import get
from nodes.testing import drafted

VARIANTS: tuple[tuple[str, dict[str, object]], ...] = (
    ("chops", {"model": "a", "keep": 3, "use_critiques": False, "system": "Be brief."}),
    ("chops", {"model": "a", "keep": 9, "temperature": 0.5}),
    ("constraint_extract", {"model": "a", "count": 1, "system": "Be brief."}),
    ("constraint_extract", {"model": "a", "add": True}),
    ("constraint_merge", {}),
    ("constraint_merge", {"constraints": [{"one_of": ["answer", [7, 34]]}], "fields": ["answer"]}),
    ("constraint_merge", {"constraints": [{"less": [50, "answer"]}], "complete": True, "exact_up_to": 0}),
    ("constraint_merge", {"constraints": [{"less": [50, "answer"]}], "other_error": 0.2}),
    ("pairwise_rank", {"model": "a"}),
    ("pairwise_rank", {"model": "a", "by": "cross_encoder", "comparisons": 4, "keep": 2}),
    ("pairwise_rank", {"model": "a", "both_orders": False, "correction": "bradley_terry", "use_critiques": False}),
    ("pairwise_rank", {"model": "a", "by": "cross_encoder", "scale": "probability", "correction": "none"}),
)
PROBES = [Probe(technique=get(name).model_validate(settings)) for name, settings in VARIANTS]

INVOICES = replace(
    sample_state(),
    candidates=drafted(
        'Here it is: {"net": 100, "tax": 19, "total": 119, "note": "as \\"agreed\\""}',
        '```json\n{"net": 100, "tax": 19.0, "total": 120, "currency": "EUR"}\n```',
        "Net: 90\nTax: 19\nTotal: 119\nCurrency: USD",
        "I cannot read the invoice.",
    ),
)
PROBES += [
    Probe(technique=get("constraint_merge").model_validate({"constraints": constraints, **more}), state=INVOICES)
    for constraints, more in (
        ([{"sum": ["net", "tax"], "equals": "total"}], {"errors": [{"model": "fast", "field": "tax", "rate": 0.4}]}),
        ([{"requires": ["net", "vat_id"]}, {"at_most": ["net", 90]}], {"inconsistency": 0.5, "exact_up_to": 0}),
    )
]


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("probe", PROBES, ids=str)
def test_contract(check: Callable[[Probe], None], probe: Probe) -> None:
    if check.__name__ != "check_example":
        check(probe)
