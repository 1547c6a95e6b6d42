"""What the models are trained on: the nodes' own prompts, replies that can be read, and no problem of other splits."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evals.problems import EXACT, Family, draw_stories, make_problems
from nodes.parsing import read_critiques, read_ranking, read_score, read_statements, read_test_results, read_verdict
from nodes.prompting import render

if TYPE_CHECKING:
    from training.documents import Document, ModelName

MODELS: tuple[ModelName, ...] = ("nano", "mini", "judge")


@pytest.fixture(autouse=True)
def _checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training is no part of the installed packages; it is imported from the checkout."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


def documents(model: ModelName, count: int) -> list[Document]:
    from training.documents import make_document

    rng = random.Random(f"test/{model}")
    return [make_document(model, rng) for _ in range(count)]


@pytest.mark.parametrize("model", MODELS)
def test_every_role_is_written_and_its_reply_can_be_read(model: ModelName) -> None:
    found = documents(model, 1500)
    assert len({document.role for document in found}) == 11
    for document in found:
        shown = max(1, document.prompt.count("\n["))
        reply = document.reply
        match document.role:
            case "critique":
                assert None not in (read_critiques(reply, shown) or (None,))
            case "rank":
                ranking = read_ranking(reply, shown)
                assert ranking is not None
                assert ranking.named == shown
            case "verify_verdict":
                assert read_verdict(reply) is not None
            case "judge":
                assert read_score(reply) is not None
            case "unit_tests":
                assert read_statements(reply, 5)
            case "unit_test_evaluate":
                assert None not in read_test_results(reply, len(reply.splitlines()))
            case "score":
                assert reply in (" yes", " no")
            case "verify_reason":
                assert all(line.startswith("step ") for line in reply.splitlines())
            case "generate" | "fuse" | "refine":
                assert "Answer:" in reply


def test_prompts_are_rendered_as_the_nodes_render_them() -> None:
    from training.documents import SHARES, Shown, rendered

    candidates = [Shown(n=1, text="1 + 1 = 2\nAnswer: 2"), Shown(n=2, text="Answer: 3", critique="wrong at step 1")]
    variables: dict[str, object] = {
        "question": "Ann has 1 pen.",
        "candidates": candidates,
        "candidate": "Answer: 2",
        "partial": "1 + 1 = 2",
        "critique": None,
        "reasoning": "step 1: right",
        "keep": 1,
        "count": 3,
        "tests": ["It adds 1.", "It ends with an answer."],
    }
    for role in SHARES["judge"]:
        (message,) = render("compact", role, variables)
        assert message.role == "user"
        assert message.content == rendered(role, variables)
        assert message.content.startswith("Ann has 1 pen.\n")


def test_no_training_document_holds_a_problem_of_another_split() -> None:
    families: tuple[Family, ...] = ("arithmetic", "dates")
    held_out = {
        problem.question
        for family in families
        for split in ("dev", "test")
        for problem in make_problems(family, 400, split=split, difficulty="easy")
    }
    asked = {document.question for model in MODELS for document in documents(model, 1000)}
    assert asked
    assert not asked & held_out


def test_the_hot_words_of_the_solvers_differ_in_word_problems_and_are_shared_in_dates() -> None:
    from training.habits import MINI, NANO

    assert not NANO.arithmetic.hot & MINI.arithmetic.hot
    assert MINI.dates.hot < NANO.dates.hot


@pytest.mark.parametrize(("family", "mixing_pays"), [("arithmetic", True), ("dates", False)])
def test_the_habits_alone_make_the_landscape(family: Family, mixing_pays: bool) -> None:
    from training.habits import MINI, NANO, HabitReader

    rng, wins = random.Random(5), Counter[str]()
    for story in islice(draw_stories(family, split="train", seed=9), 900):
        right = story.solve(EXACT)[-1]
        answers = {
            name: [story.solve(HabitReader(habits=habits.of(family), rng=rng, temperature=0.8))[-1] for _ in range(16)]
            for name, habits in (("nano", NANO), ("mini", MINI))
        }
        mixed = [a for pair in zip(answers["nano"][:4], answers["mini"][:4], strict=True) for a in pair]
        wins["mixed"] += Counter(mixed).most_common(1)[0][0] == right
        for name, drawn in answers.items():
            wins[f"{name} pass"] += drawn.count(right)
            wins[f"{name} majority"] += Counter(drawn).most_common(1)[0][0] == right
            wins[f"{name} 8"] += Counter(drawn[:8]).most_common(1)[0][0] == right
            wins[f"{name} any"] += right in drawn
    for name in ("nano", "mini"):
        one = wins[f"{name} pass"] / 16
        assert wins[f"{name} any"] > one + 0.25 * 900
        assert one + 0.06 * 900 < wins[f"{name} majority"] < wins[f"{name} any"] - 0.08 * 900
    assert (wins["mixed"] > wins["mini 8"] + 0.03 * 900) is mixing_pays


def test_a_claim_about_a_solution_is_decided_by_its_lines() -> None:
    from training.statements import holds, statements

    question = "Mia has 12 pens. Tom has 9 cats. Mia buys 3 bags with 4 each."
    solution = ("3 * 4 = 12", "12 + 12 = 24", "Answer: 24")
    claims = statements(question, solution)
    assert "It multiplies by 4." in claims
    assert "It never uses 9." in claims
    assert all(holds(claim, "\n".join(solution)) for claim in claims)
    assert not holds("It never uses 9.", "12 + 9 = 21")
    assert not holds("Its sums are right.", "12 + 9 = 22")
    assert not holds("It ends with an answer.", "12 + 9 = 21")
    assert not holds("It subtracts 5.", "12 + 5 = 17")


def test_a_reader_understands_a_word_the_same_way_twice_and_can_be_made_faithful() -> None:
    from training.habits import FamilyHabits, HabitReader

    habits = FamilyHabits(slip=0.9, hot=frozenset({"bags"}), misread_hot=0.5, misread_cold=0.0)
    for seed in range(30):
        reader = HabitReader(habits=habits, rng=random.Random(seed))
        assert reader.misreads("packs", "bags") is reader.misreads("packs", "bags")
        assert not reader.misreads("packs", "nets")
        faithful = HabitReader(habits=habits, rng=random.Random(seed), faithful_steps=2)
        assert not faithful.misreads("packs", "bags")
        assert faithful.compute(3, "*", 4) == 12
        assert faithful.compute(12, "+", 12) == 24
        assert HabitReader(habits=habits, rng=random.Random(seed), slips=False).compute(30, "-", 4) == 26
