"""Comparisons of sampling, votes, selection and scorers."""

from __future__ import annotations

from effects_base import EIGHT, JUDGE, MINI, NANO, SURE, Bar, Comparison, T, asking, drawn, majority, scored, verified

__all__ = ["CHOOSING"]

TOKENS = (drawn(8, top_logprobs=20), "vote")
PATHS = (drawn(16, top_logprobs=0), "vote")
TESTED = ({"unit_test_generate": {"model": JUDGE, "count": 5}}, drawn(8))
SAME = "the same samples"

_SAMPLING = (
    Comparison("vote", "majority of 16", majority(16), ("one sample", (drawn(1),)), note="16 times the cost"),
    *(
        Comparison(
            "generate",
            "majority of 4 of nano and 4 of mini",
            (drawn(4, [NANO, MINI]), "vote"),
            family,
            note="models that err differently",
        )
        for family in ("majority", "nano majority")
    ),
    Comparison(
        "diverse_generate",
        "nano and mini in turn at 0.6, 0.8, 1.0; 8 samples, vote",
        (
            {
                "diverse_generate": {
                    "model": [NANO, MINI],
                    "samples": 4,
                    "prefixes": [],
                    "temperatures": [0.6, 0.8, 1.0],
                }
            },
            "vote",
        ),
        "majority",
        note="no prefixes: the models know one prompt",
    ),
    Comparison(
        "hedged_generate",
        "one greedy and 7 samples, vote",
        ({"hedged_generate": {"model": MINI, "samples": 7, "temperature": T}}, "vote"),
        EIGHT,
    ),
    Comparison(
        "scheduled_generate",
        "8 samples from 0.2 to 1.2, vote",
        ({"scheduled_generate": {"model": MINI, "samples": 8, "temperature": 0.2, "temperature_to": 1.2}}, "vote"),
        EIGHT,
    ),
    Comparison(
        "short_m_at_k",
        "short-3@8",
        ({"short_m_at_k": {"model": MINI, "k": 8, "m": 3, "temperature": T}},),
        EIGHT,
        note="all eight are kept here, so the shortest three vote; the time is measured apart",
    ),
)

_VOTES = (
    Comparison("rpc_vote", "16 samples", (drawn(16, top_logprobs=0), "rpc_vote"), (SAME, PATHS), Bar(points=0.0)),
    Comparison(
        "rpc_vote",
        "16 samples, no pruning",
        (drawn(16, top_logprobs=0), {"rpc_vote": {"prune": False}}),
        (SAME, PATHS),
    ),
    Comparison(
        "rpc_vote",
        "16 samples, probability of the whole path",
        (drawn(16, top_logprobs=0), {"rpc_vote": {"probability": "path"}}),
        (SAME, PATHS),
    ),
    Comparison(
        "vote",
        "8 samples, weighted by verdict probability",
        (drawn(8), {"score": {"scorer": SURE}}, {"vote": {"weights": "score"}}),
        "majority",
        Bar(points=0.0),
    ),
    Comparison(
        "borda_vote",
        "8 samples, ranks of self-certainty",
        (
            drawn(8, top_logprobs=20),
            {"score": {"scorer": {"use": "self_certainty", "vocabulary": 768}}},
            {"borda_vote": {"p": 0.5}},
        ),
        (SAME, TOKENS),
    ),
    Comparison(
        "borda_vote",
        "8 samples, ranks of verdict probability, p = 2",
        (drawn(8), {"score": {"scorer": SURE}}, {"borda_vote": {"p": 2.0}}),
        "majority",
    ),
    Comparison("mbr", "8 samples, token F1", (drawn(8), {"mbr": {"utility": "token_f1"}}), EIGHT),
    Comparison("tournament", "knockout of 8", (drawn(8), {"tournament": {"model": JUDGE}}), "majority"),
    Comparison("chops", "first of 8", (drawn(8), {"chops": {"model": JUDGE}}), "majority"),
    Comparison(
        "pairwise_rank",
        "8 samples, 12 pairs in both orders",
        (drawn(8), {"pairwise_rank": {"model": JUDGE, "comparisons": 12, "keep": 1}}),
        "majority",
    ),
    Comparison("fuse", "fuse of 8", (drawn(8), {"fuse": {"model": JUDGE}}), "majority"),
)

_SELECTION = (
    Comparison("judge", "best of 8 by marks", (drawn(8), {"judge": {"model": JUDGE, "keep": 1}}), "majority"),
    Comparison("rank", "first of 8, list-wise", (drawn(8), {"rank": {"model": JUDGE, "keep": 1}}), "majority"),
    Comparison(
        "rank",
        "first of 4, pairwise",
        (drawn(4), {"rank": {"model": JUDGE, "keep": 1, "method": "pairwise"}}),
        "majority",
    ),
    Comparison("score", "best of 8 by verdict probability", scored(8, SURE), "majority"),
)

_SCORERS = (
    Comparison("verdict_probability", "best of 8", scored(8, SURE), "majority"),
    Comparison("step_check", "best of 8, weakest step", scored(8, asking("step_check")), "majority"),
    Comparison("step_check", "best of 8, weakest step", scored(8, asking("step_check")), "surest"),
    Comparison(
        "genrm",
        "4 samples, 3 verifications each, weighted vote",
        (drawn(4), {"score": {"scorer": asking("genrm", chains=3, temperature=T)}}, {"vote": {"weights": "score"}}),
        ("verified, the same 4 samples", verified(4)),
        Bar(points=0.0),
        note="the same samples, three times the verifications",
    ),
    Comparison(
        "genrm",
        "4 samples, 3 verifications each, weighted vote",
        (drawn(4), {"score": {"scorer": asking("genrm", chains=3, temperature=T)}}, {"vote": {"weights": "score"}}),
        "verified",
        note="equal dollars go into more samples instead",
    ),
    Comparison("judge", "scorer, best of 8 by marks", scored(8, asking("judge")), "majority"),
    Comparison(
        "tests",
        "scorer, best of 8 by 5 unit tests",
        (*TESTED, {"score": {"scorer": asking("tests"), "keep": 1}}),
        "majority",
    ),
    Comparison(
        "constraint_check",
        "best of 8 by 5 unit tests taken as constraints",
        (*TESTED, {"score": {"scorer": asking("constraint_check"), "keep": 1}}),
        "majority",
    ),
    Comparison(
        "panel",
        "best of 8 by step check and verdict probability",
        scored(8, {"use": "panel", "members": [SURE, asking("step_check")]}),
        "surest",
    ),
    Comparison(
        "self_evaluation",
        "best of 8, by the judge",
        scored(8, asking("self_evaluation")),
        ("best of 8 by verdict probability", scored(8, SURE)),
    ),
    Comparison("brevity", "best of 8", scored(8, "brevity"), EIGHT),
    Comparison("markers", "best of 8", scored(8, "markers"), EIGHT),
    Comparison(
        "mean_logprob",
        "best of 16",
        (drawn(16, top_logprobs=0), {"score": {"scorer": "mean_logprob", "keep": 1}}),
        (SAME, PATHS),
    ),
    Comparison(
        "self_certainty",
        "best of 8",
        (
            drawn(8, top_logprobs=20),
            {"score": {"scorer": {"use": "self_certainty", "vocabulary": 768}, "keep": 1}},
        ),
        (SAME, TOKENS),
    ),
)

CHOOSING = (*_SAMPLING, *_VOTES, *_SELECTION, *_SCORERS)
