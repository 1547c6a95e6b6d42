"""Worked examples from a run: what was solved rightly, with the reasoning and without the line of the answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from colonnade import load
from db.errors import DataError
from db.runs import ItemRecord
from evals.few_shot import save_examples, worked_examples
from nodes.shots import WorkedExample, read_examples


def record(question: str, output: str | None, answer: str | None, *, correct: bool | None = True) -> ItemRecord:
    trace = json.dumps({"outcome": {"question": question}})
    return ItemRecord(
        run_id="r",
        architecture_id="a",
        item_id=question,
        output=output,
        answer=answer,
        correct=correct,
        trace=trace,
        created_at=datetime.now(UTC),
    )


def test_only_what_was_solved_rightly_is_an_example() -> None:
    results = [
        record("a?", "2 and 2 are 4.\n\nSo the final answer is 4.\n", "4"),
        record("b?", "It is 5.", "5", correct=False),
        record("c?", "7", "7"),
        record("d?", "3 + 3 = 6\n#### 6", "6"),
        record("e?", None, None),
        record("a?", "Another way.\nAnswer: 4", "4"),
        record("f?", "Answers differ, it seems.\nBut 1 + 1 is 2.", "2"),
    ]
    found = worked_examples(results)
    assert found == (
        WorkedExample(question="a?", answer="4", reasoning="2 and 2 are 4."),
        WorkedExample(question="c?", answer="7"),
        WorkedExample(question="d?", answer="6", reasoning="3 + 3 = 6"),
        WorkedExample(question="f?", answer="2", reasoning="Answers differ, it seems.\nBut 1 + 1 is 2."),
    )
    assert worked_examples(results, most=1) == found[:1]
    with pytest.raises(DataError, match="No item of these results has a right answer and a trace"):
        worked_examples([results[1]])


def test_a_run_makes_a_file_that_few_shot_reads(tmp_path: Path) -> None:
    spec = {"name": "mini", "layers": [{"generate": {"model": "embedded/mini"}}]}
    run = load(spec, database_url=f"sqlite:///{tmp_path / 'runs.db'}").evaluate("arithmetic", items=6)
    examples = worked_examples(run.evaluation.results)
    assert len(examples) == sum(one.correct is True for one in run.evaluation.results) > 0
    assert all(one.reasoning and "Answer" not in one.reasoning for one in examples)
    path = tmp_path / "examples.jsonl"
    save_examples(examples, path)
    assert read_examples(str(path)) == examples
