"""Figures of papers come out of the recorded outputs, through the gateway and the nodes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))
# By name, since scripts are no package that a type checker could follow.
papers: Any = importlib.import_module("papers")
judges: Any = importlib.import_module("papers_judges")
gsm8k: Any = importlib.import_module("papers_gsm8k")
routing: Any = importlib.import_module("papers_routing")
game24: Any = importlib.import_module("papers_game24")

HUMANEVAL = {
    "humaneval_random": 22.1,
    "humaneval_pass_at_10": 50.4,
    "humaneval_pass_at_100": 73.8,
    "humaneval_dual_agreement": 37.3,
    "humaneval_most_tests": 18.3,
}
MATH100 = {
    "math100_mean": 91,
    "math100_any": 96,
    "math100_majority": 93,
    "math100_best_of_8": 94,
    "math100_weighted_majority": 93,
}
GAME24 = {"game24_mean": 4.03, "game24_best_of_100": 49}
LLMBAR = {"llmbar_agreement": 84.5, "llmbar_agreement_chatgpt": 40.0}


async def figures(group: str, data: Path, folder: Path) -> list[Any]:
    return list(await papers.GROUPS[group](data, folder))


def named(found: list[Any]) -> dict[str, float]:
    return {figure.key: figure.ours for figure in found if figure.key}


def agree_with_what_is_known(found: list[Any]) -> int:
    """Check each figure that the data's maker recomputed, to the digits shown; return how many there were."""
    known = [figure for figure in found if figure.recomputed is not None]
    for figure in known:
        assert figure.ours == pytest.approx(figure.recomputed, abs=0.51 * 10**-2 if figure.digits else 1e-9), figure
    return len(known)


@pytest.mark.parametrize(
    ("group", "expected", "known"),
    [("humaneval", HUMANEVAL, 5), ("math100", MATH100, 4), ("llmbar", LLMBAR, 0)],
)
async def test_published_figures_come_out(
    group: str, expected: dict[str, float], known: int, shared_data: Path, tmp_path: Path
) -> None:
    found = await figures(group, shared_data, tmp_path)
    ours = named(found)
    assert {key: ours[key] for key in expected} == pytest.approx(expected, abs=0.05)
    assert agree_with_what_is_known(found) == known
    if group == "humaneval":
        # The trap: with a weak writer of tests, the program that passes most of them is worse than any at random.
        assert ours["humaneval_most_tests"] < ours["humaneval_random"] < ours["humaneval_dual_agreement"]
    if group == "llmbar":
        assert [figure.published for figure in found if figure.published] == [95.5, 78.7, 81.5, 19.4]
        assert all(abs(figure.ours - figure.published) < 0.05 for figure in found if figure.published)


def test_judges_like_a_place_and_the_two_orders_cancel_it(shared_data: Path) -> None:
    recorded = papers.rows(shared_data / "llmbar" / "data.jsonl.gz")
    for name in ("GPT-4/Vanilla", "ChatGPT/Vanilla"):
        pairs = judges.pairs_of(recorded, name)
        found = judges.agreement(pairs)
        # With both verdicts known, ties at a half make the mean of both orders of the agreement in each.
        assert found.swap == pytest.approx((found.first + found.second) / 2)
        assert found.decided < 1
        both_first = sum(row["judges"][name]["w"] == ["1", "2"] for row in recorded)
        both_second = sum(row["judges"][name]["w"] == ["2", "1"] for row in recorded)
        assert found.bias == pytest.approx((both_first - both_second) / len(recorded))
        assert 1 - found.decided == pytest.approx((both_first + both_second) / len(recorded))


def test_a_verdict_that_is_missing_is_a_tie_and_no_win() -> None:
    row = {"subset": "Natural", "label": 1, "judges": {"judge": {"w": ["1", "None"]}}}
    (pair,) = judges.pairs_of([row], "judge")
    assert [(one.first, one.outcome) for one in pair.seen] == [(0, 1.0)]
    found = judges.agreement([pair, *judges.pairs_of([{**row, "judges": {"judge": {"w": ["2", "1"]}}}], "judge")])
    assert (found.first, found.second, found.swap) == (0.5, 0.75, 0.75)


async def test_the_learned_router_beats_lots_on_questions_it_has_not_seen(shared_data: Path, tmp_path: Path) -> None:
    found = await routing.routing(shared_data, tmp_path, routing.SOURCES[:1])
    assert agree_with_what_is_known(found) == 2
    areas = {figure.what: figure.ours for figure in found if figure.what.startswith("APGR")}
    learned, lots, oracle = (areas[f"APGR, {name}"] for name in ("learned router, cross-validated", "lots", "oracle"))
    assert lots == pytest.approx(0.5)
    assert 0.6 < learned < 0.7
    assert oracle == pytest.approx(1.125, abs=5e-4)
    assert named(found)["routellm_area"] == learned


def test_no_router_is_trained_on_the_question_that_it_scores() -> None:
    # Every question has a word of its own; only a router that had seen it could tell which model is right.
    outcomes = [
        routing.Outcome(f"word{chr(97 + n // 26)}{chr(97 + n % 26)}", float(n % 2), float(1 - n % 2))
        for n in range(120)
    ]
    curve = routing.routing_curve(routing.held_out_scores(outcomes, 4), [o._replace(weak=0.0) for o in outcomes])
    assert curve.apgr == pytest.approx(0.5, abs=0.15)


async def test_votes_and_the_cascade_say_what_counting_by_hand_says(shared_data: Path, tmp_path: Path) -> None:
    first = 150
    ours = named(await gsm8k.gsm8k_models(shared_data, tmp_path, first))
    questions = papers.rows(shared_data / "gsm8k_models" / "outputs.jsonl.gz")
    few = questions[:first]
    assert ours["gsm8k_vote"] == pytest.approx(100 * fmean(voted(row, gsm8k.FLAGSHIPS) for row in few))
    assert ours["gsm8k_vote_of_all"] == pytest.approx(100 * fmean(voted(row, ordered(row)) for row in few))
    assert ours["gsm8k_vote_of_cheap"] == pytest.approx(100 * fmean(voted(row, gsm8k.CHEAP) for row in few))
    assert ours["gsm8k_cascade"] == pytest.approx(100 * fmean(cascaded(row) for row in few))
    # The same count over all questions, which the benchmark itself goes through.
    assert 100 * fmean(voted(row, gsm8k.FLAGSHIPS) for row in questions) == pytest.approx(97.27, abs=0.005)
    assert 100 * fmean(cascaded(row) for row in questions) == pytest.approx(96.97, abs=0.005)


def ordered(row: Any) -> list[str]:
    chosen = [*gsm8k.FLAGSHIPS, *gsm8k.CHEAP]
    return [*chosen, *(model for model in row["outputs"] if model not in chosen)]


def number(answer: str | None) -> float | None:
    try:
        return None if answer is None else float(answer.replace(",", "").strip("$% "))
    except ValueError:
        return None


def voted(row: Any, models: Any) -> bool:
    """Whether the answer that most models give (of equals the one given first) is right, by the recorded answers."""
    outputs = [row["outputs"][model] for model in models]
    votes = Counter(value for one in outputs if (value := number(one["answer"])) is not None)
    winner = votes.most_common(1)[0][0]
    return bool(next(one["correct"] for one in outputs if number(one["answer"]) == winner))


def cascaded(row: Any) -> bool:
    answers = {number(row["outputs"][model]["answer"]) for model in gsm8k.CHEAP} - {None}
    return voted(row, gsm8k.CHEAP) if len(answers) == 1 else bool(row["outputs"][gsm8k.STRONG]["correct"])


def test_the_command_prints_a_table_and_one_line_of_json(shared_data: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "papers.py"), "--only", "game24", "--json"]
    environment = {**os.environ, "COLONNADE_DATA": str(shared_data)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *printed, last = done.stdout.splitlines()
    assert json.loads(last) == pytest.approx(GAME24)
    assert "| best of 100 by the checker | 49 | 49 | 49 |  |" in printed
    documented = (BENCHMARKS.parent / "docs" / "papers.md").read_text(encoding="utf-8")
    assert "\n".join(printed).rstrip() in documented


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (None, "Set COLONNADE_DATA to the folder of the recorded outputs."),
        ("/nowhere", "COLONNADE_DATA is /nowhere, which has no folder 'game24_gpt4'."),
    ],
)
def test_missing_data_are_one_sentence(
    data: str | None, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLONNADE_DATA", raising=False)
    if data is not None:
        monkeypatch.setenv("COLONNADE_DATA", data)
    monkeypatch.setattr(sys, "argv", ["papers.py", "--only", "game24"])
    with pytest.raises(SystemExit) as stopped:
        papers.main()
    assert stopped.value.code == 2
    assert capsys.readouterr() == ("", f"{sentence}\n")


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("4 * 6 = 24\nAnswer: (10 - 4) * (9 - 5) = 24", True),
        ("(10 - 4) * (9 - 5)", True),
        ("(10 - 4) * 9 - 5", False),
        ("(10 - 4) * (9 - 5) * 1", False),
        ("24", False),
        ("(10 - 4) * (9 - 5", False),
        ("10 ** 4 - 9 - 5", False),
        ("10 / (4 - 4) + 9 + 5", False),
        ("", False),
    ],
)
def test_the_checker_of_the_game_of_24(reply: str, right: bool) -> None:
    assert game24.is_24("4 5 9 10", reply) is right
