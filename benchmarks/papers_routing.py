"""Figures of routing between Mixtral-8x7B and GPT-4 (RouteLLM, arXiv 2406.18665): learned, by lots, and by an oracle.

APGR is the mean of the performance gap recovered over all shares of strong calls, by the exact area under the curve
(RouteLLM averages over ten shares); CPT(50 %) is the least share of strong calls that recovers half of the gap. A
question's score comes from a router that was trained on the other folds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
from papers_replay import Figure, Row, rows

from evals.routing import Outcome, RoutingCurve, oracle_scores, routing_curve, train_router

__all__ = ["SOURCES", "held_out_scores", "routing"]

WEAK, STRONG = "mixtral-8x7b-instruct", "gpt-4-1106-preview"
INNER_FOLDS = 2
"""Within the training folds, to choose how freely weights may grow."""


class Source(NamedTuple):
    """A data set with what is known of it."""

    label: str
    file: str
    outcome: Callable[[Row], Outcome]
    folds: int
    recomputed: tuple[float, float]
    published: tuple[float, float]
    """Accuracy of the weak and of the strong model."""


def _gsm8k(row: Row) -> Outcome:
    outputs = row["outputs"]
    return Outcome(row["question"], float(outputs[WEAK]["correct"]), float(outputs[STRONG]["correct"]))


def _mmlu(row: Row) -> Outcome:
    return Outcome(row["question"], float(row["mixtral"]), float(row["gpt4"]))


SOURCES = (
    Source("GSM8K", "gsm8k", _gsm8k, 5, (63.84, 85.67), (63.8, 85.7)),
    # Each further fold of 14,042 questions takes some seconds.
    Source("MMLU", "mmlu", _mmlu, 2, (68.08, 80.58), (68.1, 80.6)),
)


async def routing(data: Path, _: Path, sources: Sequence[Source] = SOURCES) -> list[Figure]:
    """Draw the curves of three routers on recorded outcomes; no model is called."""
    figures, areas = [], []
    for source in sources:
        outcomes = [source.outcome(row) for row in rows(data / "routellm_pairs" / f"{source.file}.jsonl.gz")]
        learned = routing_curve(held_out_scores(outcomes, source.folds), outcomes)
        areas.append(learned.apgr)
        figures += [*_models(source, outcomes), *_routers(source, outcomes, learned)]
    note = f"the mean over {' and '.join(source.label for source in sources)}; 0.5 for a router that draws lots"
    area = fmean(areas)
    return [
        *figures,
        Figure("RouteLLM, together", "APGR, learned router", area, key="routellm_area", note=note, digits=3),
    ]


def held_out_scores(outcomes: Sequence[Outcome], folds: int, *, seed: int = 0) -> list[float]:
    """Return for each question what a router predicts that was trained on the other folds; equal ones share a fold."""
    questions = list(dict.fromkeys(outcome.question for outcome in outcomes))
    drawn = np.random.default_rng(seed).permutation(len(questions)) % folds
    fold = dict(zip(questions, drawn.tolist(), strict=True))
    routers = [
        train_router([one for one in outcomes if fold[one.question] != number], folds=INNER_FOLDS, seed=seed).model
        for number in range(folds)
    ]
    return [routers[fold[outcome.question]].predict(outcome.question) for outcome in outcomes]


def _models(source: Source, outcomes: Sequence[Outcome]) -> list[Figure]:
    found = fmean(outcome.weak for outcome in outcomes), fmean(outcome.strong for outcome in outcomes)
    known = zip(("Mixtral-8x7B", "GPT-4-1106"), found, source.recomputed, source.published, strict=True)
    return [
        Figure(_group(source, outcomes), f"{name} alone", 100 * ours, recomputed, published, digits=2)
        for name, ours, recomputed, published in known
    ]


def _routers(source: Source, outcomes: Sequence[Outcome], learned: RoutingCurve) -> list[Figure]:
    group, key = _group(source, outcomes), f"routellm_{source.file}"
    lots = routing_curve([0.0] * len(outcomes), outcomes, resamples=0)
    oracle = routing_curve(oracle_scores(outcomes), outcomes, resamples=0)
    figures = []
    for name, curve in (("learned router, cross-validated", learned), ("lots", lots), ("oracle", oracle)):
        low, high = curve.apgr_interval
        note = f"95 % interval {low:.3f} to {high:.3f}; {source.folds} folds; " if curve is learned else ""
        note += f"area {100 * curve.area:.2f}; {100 * curve.accuracy_at(0.5):.1f} % right at half the strong calls"
        area_key, share_key = (f"{key}_area", f"{key}_cpt_50") if curve is learned else ("", "")
        figures.append(Figure(group, f"APGR, {name}", curve.apgr, None, None, area_key, note, 3))
        share, more = curve.share_for(0.5), curve.share_for(0.8)
        assert share is not None  # all strong calls recover the whole gap
        assert more is not None
        note = f"% of questions that go to GPT-4; CPT(80 %) {100 * more:.1f}"
        figures.append(Figure(group, f"CPT(50 %), {name}", 100 * share, None, None, share_key, note))
    return figures


def _group(source: Source, outcomes: Sequence[Outcome]) -> str:
    return f"RouteLLM, {source.label}, {len(outcomes):,} questions"
