"""The techniques and scorers that ship, by what they are for; each is the module of its name."""

from __future__ import annotations

from typing import Final

__all__ = ["GROUPS", "SCORERS"]

GROUPS: Final = {
    "sampling": (
        "diverse_generate",
        "generate",
        "hedged_generate",
        "scheduled_generate",
        "short_m_at_k",
    ),
    "votes and aggregation": (
        "borda_vote",
        "constraint_merge",
        "fuse",
        "mbr",
        "rpc_vote",
        "tournament",
        "vote",
        "x_mbr",
    ),
    "selection": (
        "chops",
        "judge",
        "pairwise_rank",
        "rank",
        "score",
    ),
    "verification": (
        "constraint_extract",
        "resample_until_verified",
        "unit_test_evaluate",
        "unit_test_generate",
        "verify",
    ),
    "adaptive compute": (
        "adaptive_best_of_n",
        "adaptive_vote",
        "budget_forcing",
        "cascade",
        "compute_optimal",
        "saturation_vote",
        "solve_verify",
        "think_or_not",
    ),
    "refinement": (
        "critique",
        "hint_injection",
        "iterative_decode",
        "refine",
        "segment_summarise",
        "sequential_revision",
    ),
    "decomposition": (
        "decompose_solve",
        "divide_aggregate",
        "rewoo",
        "spawn_join",
    ),
    "routing": (
        "prompt_router",
        "quality_cost_router",
        "skill_router",
        "ucb_select",
    ),
    "prompting": (
        "concept_memory",
        "concept_store",
        "few_shot",
        "iterative_icl",
        "medprompt",
    ),
    "judging debate": ("debate",),
}
"""Names by group, both in the order in which people are shown them."""

SCORERS: Final = {
    "votes and aggregation": ("brevity", "markers"),
    "selection": ("branch_and_rethink", "cross_encoder", "judge", "mean_logprob", "reward", "self_certainty"),
    "adaptive compute": ("self_evaluation",),
    "verification": ("constraint_check", "genrm", "step_check", "tests", "verdict_probability"),
    "judging debate": ("panel",),
}
"""Scorers by the group of what they were proposed for; every technique with a `scorer` takes any of them."""
