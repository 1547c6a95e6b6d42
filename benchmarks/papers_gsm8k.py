"""Figures of real models together on GSM8K: votes of several, and a cascade, each beside the best single model.

Dollars are estimates: the data hold texts and no token counts, so four bytes count as a token, of the recorded prompt
and of the reply; prices are those of 2025-09 in `prices`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from papers_replay import (
    Answered,
    Figure,
    RecordedVerdicts,
    Row,
    accuracy,
    answer_all,
    made_by,
    replayed,
    rows,
    span,
    write_recording,
)

from evals.paired import paired_difference
from evals.task import Item
from providers.base import Usage
from providers.models import ReplaySource
from providers.prices import Price, cost
from providers.wire import estimate_tokens

__all__ = ["CHEAP", "FLAGSHIPS", "STRONG", "gsm8k_models"]

GROUP = "GSM8K, 1,319 questions, 18 models"
FLAGSHIPS = (
    "claude-3-5-sonnet-20241022",
    "gpt-4o-2024-08-06",
    "Meta-Llama-3.1-70B-Instruct",
    "Qwen2-72B-Instruct",
    "deepseek-v2.5-0908",
)
"""The largest recorded model of five makers."""
CHEAP = ("gpt-4o-mini-2024-07-18", "gemini-1.5-flash", "claude-3-haiku-20240307")
STRONG = "claude-3-5-sonnet-20241022"
"""The best single model on all questions, by the data's own count."""
POOL = "cheap-three"
"""Three cheap models as one: sample i is the reply of the i-th."""


class Recorded(NamedTuple):
    """The recorded replies, by question."""

    items: Sequence[Item]
    """The question is the whole prompt that the models were given."""
    replies: Mapping[str, Mapping[str, str]]
    """By item and model."""
    correct: Mapping[str, Sequence[float]]
    """By model, in the order of items."""
    scorer: RecordedVerdicts
    source: ReplaySource
    prices: Mapping[str, Price]

    def dollars(self, models: Sequence[str], item: Item) -> Decimal:
        """Estimate what one reply of each model costs on an item."""
        prompt, total = estimate_tokens(item.prompt), Decimal(0)
        for model in models:
            one = cost(Usage(prompt, estimate_tokens(self.replies[item.id][model]), 0, True), self.prices[model])
            assert one is not None  # the price is known
            total += one
        return total

    def per_thousand(self, models: Sequence[str]) -> float:
        """Estimate the dollars of a thousand questions that all of the models answer."""
        return 1000 * float(sum(self.dollars(models, item) for item in self.items)) / len(self.items)


async def gsm8k_models(data: Path, folder: Path, first: int | None = None) -> list[Figure]:
    """Run votes over real models, and a cascade from three cheap ones to the best, on the first recorded questions."""
    recorded = _read(data, folder, first)
    note = f"≈ ${recorded.per_thousand((STRONG,)):.2f} for 1,000 questions"
    figures = [
        Figure(GROUP, f"best single: {STRONG}", _mean(recorded, STRONG), 96.66, 96.66, "gsm8k_best_single", note, 2)
    ]
    mini = CHEAP[0]
    note = f"≈ ${recorded.per_thousand((mini,)):.2f}; {_beside(recorded.correct[mini], recorded.correct[STRONG])}"
    figures.append(Figure(GROUP, f"single: {mini}", _mean(recorded, mini), 94.24, 94.24, note=note, digits=2))
    figures += await _votes(recorded)
    figures += await _cascade(recorded)
    return figures


def _read(data: Path, folder: Path, first: int | None) -> Recorded:
    questions = rows(data / "gsm8k_models" / "outputs.jsonl.gz")[:first]
    template = json.loads((data / "gsm8k_models" / "prompt.json").read_text(encoding="utf-8"))["prompt_template"]
    items = [
        Item(id=str(row["qid"]), question=template.replace("{question}", row["question"]).strip(), gold=row["gold"])
        for row in questions
    ]
    outputs: list[Row] = [row["outputs"] for row in questions]
    replies = {
        item.id: {model: one["text"] for model, one in found.items()}
        for item, found in zip(items, outputs, strict=True)
    }
    right = {
        (item.id, one["text"]): bool(one["correct"])
        for item, found in zip(items, outputs, strict=True)
        for one in found.values()
    }
    source = write_recording(
        folder / "gsm8k.jsonl",
        ((item.prompt, {**replies[item.id], POOL: [replies[item.id][model] for model in CHEAP]}) for item in items),
    )
    prices = {
        row["model"]: Price(prompt=Decimal(str(row["in_per_mtok"])), completion=Decimal(str(row["out_per_mtok"])))
        for row in rows(data / "prices" / "tokencost.jsonl.gz")
        if row["model"] in {*CHEAP, STRONG}
    }
    return Recorded(
        items,
        replies,
        {model: [float(found[model]["correct"]) for found in outputs] for model in outputs[0]},
        RecordedVerdicts(correct=right, answer_kind="numeric"),
        source.model_copy(update={"text": ("replies", "{model}")}),
        prices,
    )


async def _votes(recorded: Recorded) -> list[Figure]:
    """Let three groups of models vote, in one graph, so that each model is asked once."""
    others = tuple(model for model in recorded.correct if model not in {*FLAGSHIPS, *CHEAP})
    architecture = {
        "name": "votes",
        "nodes": {
            "flagships": {"use": "generate", "model": list(FLAGSHIPS)},
            "cheap": {"use": "generate", "model": list(CHEAP)},
            "others": {"use": "generate", "model": list(others)},
            "five": {"use": "vote", "after": "flagships"},
            "three": {"use": "vote", "after": "cheap"},
            "all": {"use": "vote", "after": ["flagships", "cheap", "others"]},
            # A graph has one output, on which each vote has to bear; the figures are those of the votes.
            "last": {"use": "vote", "after": ["five", "three", "all"]},
        },
        "output": "last",
    }
    models = replayed(recorded.correct, recorded.source)
    answered = await answer_all(architecture, models, recorded.items, recorded.scorer)
    figures = []
    for node, what, key in (
        ("five", "vote of the flagships of five makers", "gsm8k_vote"),
        ("three", "vote of three cheap models", "gsm8k_vote_of_cheap"),
        ("all", "vote of all 18", "gsm8k_vote_of_all"),
    ):
        right = [float(recorded.scorer.correct[one.item.id, made_by(one.outcome, node)[0]]) for one in answered]
        money = f"≈ ${recorded.per_thousand(CHEAP):.2f}; " if node == "three" else ""
        note = money + _beside(right, recorded.correct[STRONG])
        figures.append(Figure(GROUP, what, 100 * fmean(right), key=key, note=note, digits=2))
    return figures


async def _cascade(recorded: Recorded) -> list[Figure]:
    settings = {"stages": [POOL, STRONG], "samples": [len(CHEAP), 1], "threshold": 1.0}
    architecture = {"name": "cascade", "layers": [{"cascade": settings}]}
    models = replayed((POOL, STRONG), recorded.source)
    answered = await answer_all(architecture, models, recorded.items, recorded.scorer)
    first = [one for one in answered if one.outcome.state.measures["stage"] == 1]
    spent = sum(recorded.dollars(_asked(one), one.item) for one in answered)
    right = [one.score.value for one in answered]
    note = (
        f"{100 * len(first) / len(answered):.1f} % end with the cheap, of these {accuracy(first):.1f} right; "
        f"≈ ${1000 * float(spent) / len(answered):.2f}; {_beside(right, recorded.correct[STRONG])}"
    )
    what = f"cascade: three cheap models, where they differ {STRONG}"
    return [Figure(GROUP, what, accuracy(answered), key="gsm8k_cascade", note=note, digits=2)]


def _asked(one: Answered) -> tuple[str, ...]:
    return CHEAP if one.outcome.state.measures["stage"] == 1 else (*CHEAP, STRONG)


def _mean(recorded: Recorded, model: str) -> float:
    return 100 * fmean(recorded.correct[model])


def _beside(right: Sequence[float], best: Sequence[float]) -> str:
    gap = paired_difference(right, best)
    return f"{100 * gap.difference:+.2f} points to the best single ({span(gap.interval)}), p = {gap.p_value:.2g}"
