"""Recorded outputs of real models through the real path: replay, graph, vote, scorer, store."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from architectures import ArchitectureSpec, compile_architecture, load, preset
from db.database import Database
from db.runs import ItemRecord, RunStore
from evals import Item, Task, evaluate_items, load_task, make_scorer, summarise
from evals.stats import coverage, plurality
from nodes.answers import equivalent, extract
from nodes.base import Candidate, State
from nodes.registry import get
from nodes.symbolic import same_expression
from nodes.testing import ScriptedContext, in_order
from providers.book import ModelBook
from providers.gateway import Gateway
from providers.models import ModelSpec, ReplaySource

RAW = (
    "claude-3-5-sonnet-20241022",
    "gpt-4o-2024-08-06",
    "o1-mini-2024-09-12",
    "gpt-4o-mini-2024-07-18",
    "Meta-Llama-3.1-70B-Instruct",
    "Qwen2-72B-Instruct",
    "deepseek-v2.5-0908",
    "gemini-1.5-flash",
    "claude-3-haiku-20240307",
    "gemma-2-9b-it",
    "Meta-Llama-3.1-8B-Instruct",
    "Mistral-Nemo-Instruct-2407",
    "Phi-3.5-mini-instruct",
    "gpt-3.5-turbo-0125",
    "Qwen2-7B-Instruct",
    "Mixtral-8x7B-Instruct-v0.1",
    "command-r",
    "gemma-2-2b-it",
)
"""The models whose raw replies are recorded."""

Row = dict[str, Any]


@cache
def rows(path: Path) -> tuple[Row, ...]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return tuple(json.loads(line) for line in file)


def matrix(data: Path) -> tuple[Row, tuple[Row, ...]]:
    header, *questions = rows(data / "gsm8k_models" / "matrix.jsonl.gz")
    return header, tuple(questions)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    database = Database.open(f"sqlite:///{tmp_path}/colonnade.db")
    yield RunStore(database)
    database.close()


async def evaluate(
    spec: ArchitectureSpec, task: Task, models: Sequence[str], source: ReplaySource, store: RunStore
) -> tuple[ItemRecord, ...]:
    book = ModelBook(
        {model: ModelSpec(name=model, transport="replay", model=model, replay=source) for model in models}, env={}
    )
    run = store.create(kind="evaluate", name=spec.name)
    async with Gateway(book, None) as gateway:
        evaluated = await evaluate_items(
            compile_architecture(spec, book), task.items, task, gateway, store, run.id, architecture_id=spec.id
        )
    return evaluated.results


@pytest.mark.parametrize("model", RAW)
async def test_the_accuracy_of_each_model_is_that_of_the_matrix(model: str, shared_data: Path, store: RunStore) -> None:
    header, _ = matrix(shared_data)
    published = dict(zip(header["models"], header["accuracy"], strict=True))[model]
    source = ReplaySource(path=shared_data / "gsm8k_models" / "outputs.jsonl.gz", text=("outputs", "{model}", "text"))
    results = await evaluate(preset("single", model=model), load_task("gsm8k"), (model,), source, store)
    summary = summarise(results)
    assert (summary.items, summary.failed, summary.calls_used) == (1319, 0, 1319)
    assert 100 * summary.accuracy == pytest.approx(published, abs=0.1)
    assert summary.interval.low < published / 100 < summary.interval.high


def number(answer: str | None) -> float | None:
    """Read an answer as the source of the matrix did; by float, so apart from our own exact reading."""
    return None if answer is None or not any(map(str.isdigit, answer)) else float(answer.replace(",", ""))


def elected(row: Row, subset: Sequence[int]) -> float | None:
    """Recompute the plurality from the matrix alone; of equals, the answer that a model gave first."""
    answers = [number(row["answers"][index]) for index in subset]
    given = [answer for answer in answers if answer is not None]
    return max(given, key=given.count, default=None)


def is_right(answer: float | None, gold: str) -> bool:
    return answer is not None and answer == float(gold.replace(",", ""))


def told(answer: str | None) -> str:
    return "I cannot say." if answer is None else f"Answer: {answer}"


async def test_the_vote_of_any_subset_of_models_is_that_of_the_matrix(shared_data: Path) -> None:
    header, questions = matrix(shared_data)
    draw = random.Random(20261121)
    vote = get("vote").model_validate({"ties": "first"})
    scorer = make_scorer("numeric")
    subsets = [draw.sample(range(43), draw.randint(1, 43)) for _ in range(18)] + [
        list(range(43)),
        list(range(43))[::-1],
    ]
    for subset in subsets:
        right = expected = 0
        for row in draw.sample(questions, 200):
            candidates = tuple(
                Candidate(id=f"g:{i}", text=told(row["answers"][i]), node="g", model=header["models"][i])
                for i in subset
            )
            context = ScriptedContext(in_order([]), answer_kind="numeric")
            state = await vote.run(State(question="?", candidates=candidates), context)
            item = Item(id=str(row["qid"]), question="?", gold=row["gold"])
            score = await scorer.score(item, state.candidates[0].text)
            winner = elected(row, subset)
            assert (None if score.answer is None else float(score.answer)) == winner
            assert score.correct == is_right(winner, row["gold"])
            right, expected = right + score.correct, expected + is_right(winner, row["gold"])
        assert right == expected > 0


async def test_a_vote_of_models_runs_from_the_recording(shared_data: Path, tmp_path: Path, store: RunStore) -> None:
    header, questions = matrix(shared_data)
    subset = random.Random(5).sample(range(43), 5)
    models = [header["models"][index] for index in subset]
    asked = questions[::4]
    recording = tmp_path / "answers.jsonl"
    recording.write_text(
        "".join(
            json.dumps({"q": row["id"], "a": dict(zip(header["models"], map(told, row["answers"]), strict=True))})
            + "\n"
            for row in asked
        )
    )
    items = tuple(Item(id=row["id"], question=row["id"], gold=row["gold"]) for row in asked)
    task = Task(name="matrix", items=items, scorer=make_scorer("numeric"))
    spec = load({"name": "vote", "layers": [{"generate": {"model": models}}, {"vote": {"ties": "first"}}]}).spec
    source = ReplaySource(path=recording, question="q", text=("a", "{model}"))
    results = await evaluate(spec, task, models, source, store)
    assert [record.correct for record in results] == [is_right(elected(row, subset), row["gold"]) for row in asked]
    assert sum(record.calls_used for record in results) == 5 * len(asked)


def test_the_oracle_over_recorded_models(shared_data: Path) -> None:
    header, questions = matrix(shared_data)
    ours = [
        [
            (found := extract(told(answer), "numeric")) is not None and equivalent(found, row["gold"], "numeric")
            for answer in row["answers"]
        ]
        for row in questions
    ]
    assert ours == [[bit == "1" for bit in row["correct"]] for row in questions]
    raw = [header["models"].index(model) for model in RAW]
    assert 100 * coverage([[row[index] for index in raw] for row in ours]) == pytest.approx(99.17, abs=0.005)
    assert 100 * coverage(ours) == pytest.approx(99.62, abs=0.005)


def test_choices_agree_with_the_recorded_extraction(shared_data: Path) -> None:
    differ = total = 0
    for row in rows(shared_data / "mmlu_pro_models" / "outputs.jsonl.gz"):
        for output in row["outputs"].values():
            if output["answer"] is not None:
                total += 1
                differ += extract(output["text"], "choice") != output["answer"]
    assert total == 10_861
    # The source looks for an answer anywhere in the text, we for a stated one; texts are cut at 6,000 characters.
    assert differ / total < 0.03


def test_majority_and_reward_on_recorded_mathematics(shared_data: Path) -> None:
    # A worker that has just been started imports for seconds on a busy machine.
    assert same_expression("a+b", "b+a", 120.0) is True
    right: list[list[bool]] = []
    majority = best = 0
    differ = []
    for row in rows(shared_data / "math100_qwen_rm8" / "data.jsonl.gz"):
        answers = [extract(sample["text"], "math") for sample in row["samples"]]
        correct = [answer is not None and equivalent(row["gold"], answer, "math") for answer in answers]
        differ += [
            (row["idx"], a) for a, c, s in zip(answers, correct, row["samples"], strict=True) if c != s["correct"]
        ]
        right.append(correct)
        winner = plurality(answers)
        majority += winner is not None and equivalent(row["gold"], winner, "math")
        rewards = [sample["rm_score"] for sample in row["samples"]]
        best += correct[rewards.index(max(rewards))]
    # Recorded: mean 91, majority 93, best by reward 94, any 96. One sample differs: the source did not read `10{,}000`.
    assert differ == [(72, "10000")]
    assert sum(map(sum, right)) / 8 == 91.125
    assert (majority, best, round(100 * coverage(right))) == (93, 95, 97)
