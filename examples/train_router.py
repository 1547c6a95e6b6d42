"""Train a router from a run: which questions are worth the stronger model?

Two models answer the same questions once. From what each got right a router learns which words promise a gain, and an
architecture with it sends half of new questions to the strong model. Here half are easy word problems, on which
`mini` is hardly ahead of `nano`, and half are dates, on which it is. The router that ships (`router: nano-mini`) came
from more questions: `python examples/train_router.py --questions 300 --difficulty mixed --save FILE`.
"""

# Prints: routed, half to strong

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Literal

import colonnade
from colonnade import EvaluationResult
from evals.problems import Difficulty, make_problems
from evals.routing import Outcome, train_router

WEAK, STRONG = "embedded/nano", "embedded/mini"


def write_questions(path: Path, count: int, split: Literal["test", "train"], difficulty: Difficulty) -> list[str]:
    """Write word problems and dates in equal numbers, and return the questions."""
    problems = make_problems("arithmetic", count // 2, split=split, difficulty=difficulty)
    problems += make_problems("dates", count // 2, split=split)
    rows = [{"id": p.id, "question": p.question, "gold": p.answer} for p in problems]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [p.question for p in problems]


def evaluate(name: str, node: dict[str, object], questions: Path) -> EvaluationResult:
    """Evaluate an architecture of one node; samples that were drawn before are not drawn again."""
    database = f"sqlite:///{questions.with_name('example.db')}"
    architecture = colonnade.load({"name": name, "layers": [node]}, database_url=database)
    return architecture.evaluate(str(questions))


def line(name: str, result: EvaluationResult) -> str:
    """Show accuracy, with its 95 % interval, beside dollars."""
    summary = result.evaluation.summary
    assert summary is not None
    low, high = summary.interval
    return f"{name:24} accuracy {summary.accuracy:.3f} [{low:.3f}, {high:.3f}]   ${summary.cost_used:.6f}"


def main(folder: Path, count: int, difficulty: Difficulty, save: Path | None) -> None:
    """Record, train, and route new questions."""
    # 1. Record what each model gets right on questions for training.
    train, test = folder / "train.jsonl", folder / "test.jsonl"
    questions = write_questions(train, count, "train", difficulty)
    weak, strong = (
        evaluate(model.split("/")[1], {"generate": {"model": model, "temperature": 0.8}}, train)
        for model in (WEAK, STRONG)
    )
    scores = ([record.score or 0.0 for record in run.evaluation.results] for run in (weak, strong))

    # 2. Learn from it, and keep the router as a file.
    outcomes = [Outcome(*row) for row in zip(questions, *scores, strict=True)]
    trained = train_router(outcomes, places=1024, weak=WEAK, strong=STRONG)
    router = save or folder / "router.json"
    trained.model.save(router)
    differ = sum(outcome.weak != outcome.strong for outcome in outcomes)
    print(f"trained on {len(outcomes)} questions; on {differ} of them only one of the models is right")

    # 3. Send half of new questions to the strong model, and compare with sending none or all.
    write_questions(test, min(count, 40), "test", difficulty)
    settings = {"weak": WEAK, "strong": STRONG, "router": str(router), "temperature": 0.8}
    for name, share in (("always weak", 0.0), ("routed, half to strong", 0.5), ("always strong", 1.0)):
        print(line(name, evaluate(f"share-{share:g}", {"quality_cost_router": {**settings, "share": share}}, test)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=80, help="for training")
    parser.add_argument(
        "--difficulty", default="easy", choices=("easy", "medium", "hard", "mixed"), help="of word problems"
    )
    parser.add_argument("--save", type=Path, help="where the router is kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary), given.questions, given.difficulty, given.save)
