"""Figures of judges on LLMBar: pairwise ranking in one order and in both, with the liking for a place taken out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from papers_judges import SUBSETS, agreement, fitted, pairs_of, reply
from papers_replay import Figure, RecordedVerdicts, Row, answer_all, replayed, rows, write_recording

from evals.task import Item
from nodes.base import Candidate
from nodes.comparing import pair_variables
from nodes.prompting import render

__all__ = ["llmbar"]

GPT_4, CHATGPT = "GPT-4/Vanilla", "ChatGPT/Vanilla"
OTHERS = ("GPT-4/Metrics_Reference", "PaLM2/Vanilla", "ChatGPT-0301/Vanilla", "LLaMA2/Vanilla", "Falcon/Vanilla")
NATURAL, NEIGHBOR = "Natural", "Adversarial/Neighbor"
PUBLISHED = {(GPT_4, NATURAL): 95.5, (GPT_4, NEIGHBOR): 78.7, (CHATGPT, NATURAL): 81.5, (CHATGPT, NEIGHBOR): 19.4}
GROUP = "LLMBar, 419 pairs"


async def llmbar(data: Path, folder: Path) -> list[Figure]:
    """Compare pairs as `pairwise_rank` does: two judges through the node itself, further ones by its functions."""
    recorded = rows(data / "llmbar" / "data.jsonl.gz")
    figures = []
    for judge in (GPT_4, CHATGPT):
        scores = [await _ranked(judge, subset, recorded, folder) for subset in SUBSETS]
        for subset, found in zip(SUBSETS, scores, strict=True):
            pairs = pairs_of(recorded, judge, subset)
            what = f"{_name(judge)}, {subset.removeprefix('Adversarial/')}, pairwise_rank with swap"
            published = PUBLISHED.get((judge, subset))
            figures.append(Figure(GROUP, what, 100 * fmean(found), None, published, note=agreement(pairs).note))
        figures += _over_all(judge, recorded, [score for found in scores for score in found])
    for judge in OTHERS:
        overall = agreement(pairs_of(recorded, judge))
        figures.append(Figure(GROUP, f"{_name(judge)}, all subsets, swap", 100 * overall.swap, note=overall.note))
    return figures


def _over_all(judge: str, recorded: Sequence[Row], ranked: Sequence[float]) -> list[Figure]:
    found = agreement(pairs_of(recorded, judge))
    fits = [fitted(pairs_of(recorded, judge, subset)) for subset in SUBSETS]
    by_fit = 100 * fmean(score for scores, _ in fits for score in scores)
    effects = ", ".join(f"{bias:+.2f}" for _, bias in fits)
    key = "llmbar_agreement" if judge == GPT_4 else "llmbar_agreement_chatgpt"
    name = _name(judge)
    return [
        Figure(GROUP, f"{name}, all subsets, none: one order alone", 100 * found.first, note="half the calls"),
        Figure(GROUP, f"{name}, all subsets, pairwise_rank with swap", 100 * fmean(ranked), key=key, note=found.note),
        Figure(GROUP, f"{name}, all subsets, bradley_terry", by_fit, note=f"one effect a subset, as a bias: {effects}"),
    ]


async def _ranked(judge: str, subset: str, recorded: Sequence[Row], folder: Path) -> list[float]:
    """Run `pairwise_rank` over the recording of a subset; return the agreement of each pair."""
    chosen = [row for row in recorded if row["subset"] == subset]
    drafts = write_recording(
        folder / "drafts.jsonl", ((row["instruction"].strip(), [row["output_1"], row["output_2"]]) for row in chosen)
    )
    verdicts = write_recording(
        folder / "verdicts.jsonl",
        ((_asked(row, turned), reply(row, judge, turned=turned)) for row in chosen for turned in (False, True)),
    )
    models = replayed(["drafts"], drafts) | replayed(["judge"], verdicts)
    items = [
        Item(id=str(row["k"]), question=row["instruction"].strip(), gold=row[f"output_{row['label']}"])
        for row in chosen
    ]
    correct = {
        (str(row["k"]), row[f"output_{number}"]): number == int(row["label"]) for row in chosen for number in (1, 2)
    }
    architecture = {
        "name": "ranked",
        "layers": [{"generate": {"model": "drafts", "samples": 2}}, {"pairwise_rank": {"model": "judge"}}],
    }
    answered = await answer_all(architecture, models, items, RecordedVerdicts(correct=correct))
    preferences = [one.outcome.candidate.scores["pairwise_rank"] for one in answered]
    # A tie leaves the order as it came, which a score of 1 or 0 would take for a verdict.
    return [
        0.5 if preference == 0.5 else one.score.value for one, preference in zip(answered, preferences, strict=True)
    ]


def _asked(row: Row, turned: bool) -> str:
    drafts = [Candidate(id=f"drafts:{n}", text=row[f"output_{n}"], node="drafts", model=None) for n in (1, 2)]
    first, second = reversed(drafts) if turned else drafts
    variables = pair_variables(row["instruction"], first, second, critiques=False)
    return render("default", "rank_pair", variables)[-1].content


def _name(judge: str) -> str:
    return judge.replace("/", " ")
