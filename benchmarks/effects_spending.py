"""Comparisons of verification, adaptive compute, refinement and routing."""

from __future__ import annotations

from effects_base import JUDGE, MINI, NANO, SIXTEEN, SURE, Bar, Comparison, T, asking, drawn, verified

__all__ = ["SPENDING"]

TESTED = ({"unit_test_generate": {"model": JUDGE, "count": 5}}, drawn(8))

_VERIFICATION = (
    Comparison("verify", "majority of the verified of 8", verified(8), "majority"),
    Comparison(
        "resample_until_verified",
        "up to 8, one verification each, the best where none passes",
        (
            {
                "resample_until_verified": {
                    "model": MINI,
                    "samples": 8,
                    "scorer": asking("genrm", chains=1, temperature=T),
                    "on_none": "best",
                    "temperature": T,
                }
            },
        ),
        "verified",
    ),
    Comparison(
        "constraint_extract",
        "5 constraints, best of 8 by them",
        (
            {"constraint_extract": {"model": JUDGE, "count": 5}},
            drawn(8),
            {"score": {"scorer": asking("constraint_check"), "keep": 1}},
        ),
        "majority",
    ),
    Comparison(
        "unit_test_generate",
        "5 tests, the best of 8",
        (*TESTED, {"unit_test_evaluate": {"model": JUDGE, "keep": 1}}),
        "majority",
    ),
    Comparison(
        "unit_test_evaluate",
        "5 tests, vote of those of 8 that pass all",
        (*TESTED, {"unit_test_evaluate": {"model": JUDGE}}, "vote"),
        "majority",
    ),
)

_ADAPTIVE = (
    Comparison(
        "adaptive_vote",
        "beta at 0.95, windows of 1, cap 16",
        ({"adaptive_vote": {"model": MINI, "samples": 16, "window": 1, "threshold": 0.95, "temperature": T}},),
        SIXTEEN,
        Bar(points=-0.01, calls=0.55),
    ),
    Comparison(
        "adaptive_vote",
        "a unanimous window of 4, cap 16",
        ({"adaptive_vote": {"model": MINI, "samples": 16, "window": 4, "rule": "unanimous", "temperature": T}},),
        SIXTEEN,
    ),
    Comparison(
        "saturation_vote",
        "epsilon 0.02, windows of 4, cap 16",
        ({"saturation_vote": {"model": MINI, "samples": 16, "window": 4, "temperature": T}},),
        SIXTEEN,
    ),
    Comparison(
        "compute_optimal",
        "pilot of 2, 6 more where its best score is below 0.8, best by verdict probability",
        (
            {
                "compute_optimal": {
                    "model": MINI,
                    "temperature": T,
                    "scorer": SURE,
                    "pilot": 2,
                    "estimate": "best",
                    "thresholds": [0.8],
                    "table": [{"choose": "best"}, {"samples": 6, "choose": "best"}],
                }
            },
        ),
        "surest",
        Bar(points=0.03),
        note="uniform allocation with the same scorer",
    ),
    Comparison(
        "compute_optimal",
        "pilot of 4, up to 12 more by agreement, vote",
        ({"compute_optimal": {"model": MINI, "temperature": T}},),
        "majority",
        note="uniform allocation of votes",
    ),
    Comparison(
        "adaptive_best_of_n",
        "up to 16 one by one, until verdict probability is 0.8",
        ({"adaptive_best_of_n": {"model": MINI, "scorer": SURE, "samples": 16, "threshold": 0.8, "temperature": T}},),
        "surest",
    ),
    Comparison(
        "solve_verify",
        "budget of 32 samples, a verification costs 3",
        (
            {
                "solve_verify": {
                    "model": MINI,
                    "verifier": JUDGE,
                    "budget": 32,
                    "cost_ratio": 3,
                    "verify_from": 16,
                    "temperature": T,
                    "verifier_temperature": T,
                }
            },
        ),
        "majority",
    ),
    Comparison(
        "think_or_not",
        "3 answers without steps, unless agreed on 4 with steps",
        (
            {
                "think_or_not": {
                    "model": MINI,
                    "samples": 3,
                    "thoughts": 4,
                    "no_thinking": "",
                    "opening": "Answer:",
                    "temperature": T,
                }
            },
        ),
        "majority",
    ),
    Comparison(
        "budget_forcing",
        "8 samples, forced to answer after 40 tokens, vote",
        (
            {
                "budget_forcing": {
                    "model": MINI,
                    "samples": 8,
                    "max_thinking": 40,
                    "open": "",
                    "close": "Answer:",
                    "final": "",
                    "temperature": T,
                }
            },
            "vote",
        ),
        "majority",
    ),
    *(
        Comparison(
            "cascade",
            "4 of nano, unless agreed on 8 of mini",
            ({"cascade": {"stages": [NANO, MINI], "samples": [4, 8], "threshold": 1.0, "temperature": T}},),
            family,
        )
        for family in ("majority", "nano majority")
    ),
)

_REFINEMENT = (
    Comparison(
        "critique",
        "one sample, critique, refine",
        (drawn(1), {"critique": {"model": JUDGE}}, {"refine": {"model": JUDGE}}),
        "majority",
    ),
    Comparison("refine", "one sample, refined", (drawn(1), {"refine": {"model": JUDGE}}), "majority"),
    Comparison(
        "hint_injection",
        "4 samples, the judge's critique as hint, the judge redoes",
        (drawn(4), {"hint_injection": {"model": JUDGE, "expert": JUDGE}}, "vote"),
        "majority",
        note="the solvers know no prompt with a hint, so the judge answers again",
    ),
    Comparison(
        "iterative_decode",
        "4 samples, 2 rounds by verdict probability",
        ({"iterative_decode": {"model": MINI, "reviser": JUDGE, "scorer": SURE, "samples": 4, "rounds": 2}},),
        "surest",
    ),
    Comparison(
        "sequential_revision",
        "2 chains of 3 turns, vote",
        ({"sequential_revision": {"model": MINI, "reviser": JUDGE, "chains": 2, "turns": 3}},),
        "majority",
    ),
    Comparison(
        "debate",
        "3 agents, 2 rounds",
        ({"debate": {"model": MINI, "reviser": JUDGE, "agents": 3, "rounds": 2}},),
        "majority",
    ),
)

_ROUTER = {
    "prompt_router": {
        "routes": [
            {
                "model": [NANO, MINI],
                "questions": ["Tom has 12 apples and buys 5 more. He gives 3 away. How many apples has he?"],
            },
            {
                "model": MINI,
                "questions": ["A trip begins on 3 May and lasts two weeks and 4 days. On which day does it end?"],
            },
        ],
        "samples": 4,
        "temperature": T,
    }
}
_ROUTING = (
    Comparison(
        "prompt_router",
        "word problems to nano and mini, dates to mini; 4 samples of each, vote",
        (_ROUTER, "vote"),
        ("nano and mini for both", (drawn(4, [NANO, MINI]), "vote")),
        note="items of both tasks",
        tasks=("arithmetic", "dates"),
    ),
    *(
        Comparison(
            "quality_cost_router",
            "half of the questions to mini, half to nano; 8 samples, vote",
            (
                {
                    "quality_cost_router": {
                        "weak": NANO,
                        "strong": MINI,
                        "router": "nano-mini",
                        "share": 0.5,
                        "samples": 8,
                        "temperature": T,
                    }
                },
                "vote",
            ),
            family,
        )
        for family in ("majority", "nano majority")
    ),
)

_ARMS = {
    "ucb_select": {
        "pulls": 3,
        "accept": 0.8,
        "scorer": SURE,
        "arms": [
            {"name": "nano", "prior": 0.9, "steps": [drawn(4, NANO), "vote"]},
            {"name": "mini", "prior": 0.8, "steps": [drawn(4), "vote"]},
            {"name": "ranked", "prior": 0.7, "steps": [drawn(8), {"rank": {"model": JUDGE, "keep": 1}}]},
        ],
    }
}
_UCB = (
    Comparison(
        "ucb_select",
        "vote of 4 of nano, vote of 4 of mini, first of 8 ranked; until verdict probability is 0.8",
        (_ARMS,),
        "surest",
    ),
)

SPENDING = (*_VERIFICATION, *_ADAPTIVE, *_REFINEMENT, *_ROUTING, *_UCB)
