"""Figures of repeated sampling and selection: MATH with recorded rewards, and Game of 24 with GPT-4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from papers_game24 import is_24
from papers_replay import (
    Answered,
    Figure,
    RecordedVerdicts,
    accuracy,
    answer_all,
    made_by,
    replayed,
    reward_server,
    rows,
)

from evals.scorers.extracted import ExtractedScorer
from evals.task import Item, Scorer
from providers.models import ReplaySource

__all__ = ["game24", "math100"]

SAMPLES = 100


async def math100(data: Path, folder: Path) -> list[Figure]:
    """Vote over eight recorded samples, take the one with the highest recorded reward, and weigh votes by rewards."""
    path = data / "math100_qwen_rm8" / "data.jsonl.gz"
    recorded = rows(path)
    items = [Item(id=str(row["idx"]), question=row["question"], gold=row["gold"]) for row in recorded]
    flags = {(str(row["idx"]), one["text"]): bool(one["correct"]) for row in recorded for one in row["samples"]}
    rewards = {(row["question"], one["text"]): float(one["rm_score"]) for row in recorded for one in row["samples"]}
    models = replayed(["qwen"], ReplaySource(path=path, text=("samples", "*", "text")))
    as_recorded = RecordedVerdicts(correct=flags, answer_kind="math")
    ours = ExtractedScorer(kind="math")
    group = "MATH × 100, 8 samples with rewards"
    async with reward_server(lambda question, reply: rewards[question, reply]) as reward:
        models["reward"] = reward
        layers = {name: _eight(*layers) for name, layers in _MATH.items()}
        answered = {name: await answer_all(one, models, items, as_recorded) for name, one in layers.items()}
        regraded = {name: accuracy(await _regraded(answers, ours)) for name, answers in answered.items()}
    figures = [_mean_and_any(group, answered["majority"], flags)]
    for name, key, recomputed in (
        ("majority", "math100_majority", 93.0),
        ("best-of-8 by reward", "math100_best_of_8", 94.0),
        ("majority weighted by reward", "math100_weighted_majority", None),
    ):
        note = f"{regraded[name]:.0f} by our own scorer"
        figures.append([Figure(group, name, accuracy(answered[name]), recomputed, None, key, note, 0)])
    return [figure for part in figures for figure in part]


_REWARD: Mapping[str, object] = {"use": "reward", "model": "reward"}
_MATH: Mapping[str, tuple[object, ...]] = {
    "majority": ("vote",),
    "best-of-8 by reward": ({"score": {"scorer": _REWARD, "keep": 1}},),
    "majority weighted by reward": ({"score": {"scorer": _REWARD}}, {"vote": {"weights": "score"}}),
}


def _eight(*then: object) -> dict[str, object]:
    return {"name": "eight", "layers": [{"generate": {"model": "qwen", "samples": 8}}, *then]}


async def _regraded(answered: Sequence[Answered], scorer: Scorer) -> list[Answered]:
    return [one._replace(score=await scorer.score(one.item, one.outcome.answer)) for one in answered]


def _mean_and_any(group: str, answered: Sequence[Answered], correct: Mapping[tuple[str, str], bool]) -> list[Figure]:
    right = [[correct[one.item.id, text] for text in made_by(one.outcome, "generate")] for one in answered]
    return [
        Figure(group, "mean of a sample", 100 * fmean(fmean(row) for row in right), 91.0, None, "math100_mean", "", 0),
        Figure(group, "any of the 8", 100 * fmean(any(row) for row in right), 96.0, None, "math100_any", "", 0),
    ]


async def game24(data: Path, folder: Path) -> list[Figure]:
    """Take the first of 100 recorded samples that a checker of arithmetic lets pass, and the mean of all."""
    path = data / "game24_gpt4" / "data.jsonl.gz"
    recorded = rows(path)
    figures = []
    for name, label, mean, best, published in (
        ("cot", "chain of thought", 4.03, 49.0, (4.0, 49.0)),
        ("io", "direct", 7.34, 33.0, (7.3, 33.0)),
    ):
        items = [Item(id=str(row["idx"]), question=row["question"], gold="24") for row in recorded]
        flags = {
            (str(row["idx"]), text): bit == "1"
            for row in recorded
            for text, bit in zip(row[name]["samples"], row[name]["correct"], strict=True)
        }
        models = replayed(["gpt-4"], ReplaySource(path=path, text=(name, "samples")))
        layers = [{"generate": {"model": "gpt-4", "samples": SAMPLES}}, {"score": {"scorer": "game24", "keep": 1}}]
        architecture = {"name": "best-of-100", "layers": layers}
        answered = await answer_all(architecture, models, items, RecordedVerdicts(correct=flags))
        drawn = [fmean(is_24(one.item.question, text) for text in made_by(one.outcome, "generate")) for one in answered]
        group = f"Game of 24, GPT-4 × 100, {label}"
        keys = ("game24_mean", "game24_best_of_100") if name == "cot" else ("", "")
        figures += [
            Figure(group, "mean of a sample, by the checker", 100 * fmean(drawn), mean, published[0], keys[0], "", 2),
            Figure(group, "best of 100 by the checker", accuracy(answered), best, published[1], keys[1], "", 0),
        ]
    return figures
