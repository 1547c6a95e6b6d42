"""The comparisons of `effects.py` as data: each technique on the embedded models beside its natural baseline."""

from __future__ import annotations

from collections.abc import Mapping

from effects_base import Comparison
from effects_choosing import CHOOSING
from effects_spending import SPENDING

from nodes.catalog import GROUPS

__all__ = ["ABSENT", "COMPARISONS"]

ABSENT: Mapping[str, str] = {
    "concept_memory": "the models know no prompt with concepts",
    "concept_store": "the models write no concepts",
    "few_shot": "the models know no prompt with examples",
    "iterative_icl": "the models know no prompt with examples",
    "medprompt": "the models know no prompt with examples, and the tasks have no choices",
    "constraint_merge": "merges replies with several fields; here every answer is one number",
    "decompose_solve": "the models ask no sub-questions",
    "divide_aggregate": "the models know no tools",
    "rewoo": "the models know no plans and no tools",
    "segment_summarise": "the models write no summaries of their work",
    "skill_router": "the models name no skills",
    "spawn_join": "the models know no prompt that spawns threads",
    "x_mbr": "the models know one language",
    "branch_and_rethink": "the judge knows no prompt that asks for dimensions",
    "cross_encoder": "needs an endpoint `/v1/score` (vLLM with a sequence classifier)",
    "reward": "needs a reward model (`/pooling`); `verdict_probability` stands in for it",
}
"""Techniques and scorers that have no meaning on the embedded models, with the reason."""


def _is_there(comparison: Comparison) -> bool:
    known = {name for names in GROUPS.values() for name in names}
    layers = [name for layer in comparison.layers for name in ([layer] if isinstance(layer, str) else layer)]
    return known.issuperset(layers)


COMPARISONS: tuple[Comparison, ...] = tuple(
    comparison for comparison in (*CHOOSING, *SPENDING) if _is_there(comparison)
)
"""Those whose techniques are there."""
