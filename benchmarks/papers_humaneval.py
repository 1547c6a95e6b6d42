"""Figures of HumanEval with 100 programs of CodeGen-16B a task: coverage, its law, and two ways to choose by tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from papers_replay import (
    Figure,
    RecordedVerdicts,
    Row,
    answer_all,
    made_by,
    replayed,
    rows,
    span,
    write_recording,
)

from evals.code_selection import ProgramRuns, dual_execution_agreement, expected_accuracy, most_tests_passed
from evals.coverage import Tally, coverage_curve
from evals.coverage_laws import fit_law, fit_saturation
from evals.paired import paired_difference
from evals.task import Item

__all__ = ["humaneval"]

SAMPLES = 100


class Programs(NamedTuple):
    """A task's programs in the order of sampling."""

    runs: ProgramRuns
    correct: tuple[bool, ...]


async def humaneval(data: Path, folder: Path) -> list[Figure]:
    """Draw 100 programs a task from the recording, and choose among them by the tests that they passed."""
    recorded = rows(data / "humaneval_codegen16b_100" / "data.jsonl.gz")
    drawn = await _programs(recorded, folder)
    tallies = [Tally(len(task.correct), sum(task.correct)) for task in drawn]
    by_k = {point.k: 100 * point.value for point in coverage_curve(tallies, (1, 10, 100)).points}
    law, half = fit_law(tallies), fit_law([_half(task) for task in drawn])
    assert law is not None  # some program is right
    assert half is not None
    foretold = half.coverage(100)
    note = f"{by_k[100]:.1f} with all 100; {span(foretold.interval)}"
    group = "HumanEval, CodeGen-16B × 100"
    figures = [
        Figure(group, "pass@1, which is a pick at random", by_k[1], 22.11, None, "humaneval_random"),
        Figure(group, "pass@10", by_k[10], 50.38, 50.3, "humaneval_pass_at_10"),
        Figure(group, "pass@100", by_k[100], 73.78, 73.7, "humaneval_pass_at_100"),
        *_selected(group, drawn),
        Figure(group, "pass@100 foretold by the law from 50 samples", 100 * foretold.value, note=note),
    ]
    reach = law.samples_for(0.9)
    note = f"c(k) = exp({law.law.a:.2f}·k^{law.law.b:.2f}); 90 % at {reach.value:,.0f} samples"
    figures.append(Figure(group, "pass@1000 by the law", 100 * law.coverage(1000).value, note=note))
    saturation = fit_saturation(tallies)
    assert saturation is not None
    note = f"off by {100 * saturation.error:.1f} points: tasks differ in difficulty, so coverage goes on growing"
    point = saturation.point(0.01).value
    figures.append(Figure(group, "saturation point N* at ε = 1 point", point, note=note, digits=0))
    return figures


async def _programs(recorded: Sequence[Row], folder: Path) -> list[Programs]:
    source = write_recording(
        folder / "humaneval.jsonl",
        ((row["prompt"].strip(), [row["solutions"][place] for place in row["samples"]]) for row in recorded),
    )
    items = [
        Item(id=row["task_id"], question=row["prompt"].strip(), gold=row["canonical_solution"]) for row in recorded
    ]
    correct = {
        (row["task_id"], text): verdict == "passed"
        for row in recorded
        for text, verdict in zip(row["solutions"], row["gt"], strict=True)
    }
    architecture = {"name": "repeated", "layers": [{"generate": {"model": "codegen", "samples": SAMPLES}}]}
    answered = await answer_all(architecture, replayed(["codegen"], source), items, RecordedVerdicts(correct=correct))
    return [_tested(row, made_by(one.outcome, "generate")) for row, one in zip(recorded, answered, strict=True)]


def _tested(row: Row, texts: Sequence[str]) -> Programs:
    places = {text: place for place, text in enumerate(row["solutions"])}
    passed = [[bit == "1" for bit in bits] for bits in row["pass_bits"]]
    drawn = [places[text] for text in texts]
    runs = ProgramRuns([passed[place] for place in drawn], row["gen_test_counts"])
    return Programs(runs, tuple(row["gt"][place] == "passed" for place in drawn))


def _selected(group: str, drawn: Sequence[Programs]) -> list[Figure]:
    random = [fmean(task.correct) for task in drawn]
    dual = [expected_accuracy(dual_execution_agreement(task.runs), task.correct) for task in drawn]
    most = [expected_accuracy(most_tests_passed(task.runs), task.correct) for task in drawn]
    first = [float(task.correct[most_tests_passed(task.runs)[0]]) for task in drawn]

    def against_random(scores: Sequence[float]) -> str:
        gap = paired_difference(scores, random)
        return f"{100 * gap.difference:+.1f} points against random ({span(gap.interval)}), p = {gap.p_value:.2g}"

    return [
        Figure(
            group,
            "dual execution agreement",
            100 * fmean(dual),
            37.27,
            36.7,
            "humaneval_dual_agreement",
            against_random(dual),
        ),
        Figure(
            group,
            "most generated tests passed, the first of equals",
            100 * fmean(first),
            18.29,
            None,
            "humaneval_most_tests",
            against_random(first),
        ),
        Figure(
            group,
            "most generated tests passed, mean over equals",
            100 * fmean(most),
            key="humaneval_most_tests_ties_averaged",
            note=against_random(most),
        ),
    ]


def _half(task: Programs) -> Tally:
    # The first half of the samples alone, so that the law has not seen the rest.
    kept = task.correct[: SAMPLES // 2]
    return Tally(len(kept), sum(kept))
