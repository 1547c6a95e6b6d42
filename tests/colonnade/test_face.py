"""The Python face, and the house's place beside a user's own folders."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

import colonnade
from colonnade.cli.console import dollars, human_int, number, percent, seconds
from colonnade.plots import accuracy_cost
from evals import load_task
from tests.helpers import write_models, write_task

QUESTION = load_task("arithmetic", items=1).items[0].prompt


def test_all_is_sorted_and_complete() -> None:
    assert sorted(colonnade.__all__) == colonnade.__all__
    for name in colonnade.__all__:
        assert getattr(colonnade, name)
    with pytest.raises(AttributeError, match="nothing_like_that"):
        _ = colonnade.nothing_like_that


def test_load_run_plan_draw(workplace: Path) -> None:
    pipeline = colonnade.load("preset:self-consistency", model="embedded/nano", samples=3)
    assert pipeline.name == "self-consistency"
    answer = pipeline.run(QUESTION)
    assert "Answer:" in answer.text
    assert answer.totals.calls == 3
    assert pipeline.run(QUESTION).totals.paid_calls == 0
    assert pipeline.plan(QUESTION).total.calls.high == 3
    assert "flowchart" in pipeline.mermaid()


def test_run_inside_a_running_loop(workplace: Path) -> None:
    async def notebook_cell() -> str:
        return colonnade.load("preset:single", model="embedded/nano").run(QUESTION).text

    inside = asyncio.run(notebook_cell())
    assert inside == colonnade.load("preset:single", model="embedded/nano").run(QUESTION).text


def test_evaluate_to_frame_and_plot(workplace: Path) -> None:
    single = colonnade.load("preset:single", model="embedded/nano").evaluate("arithmetic", items=12)
    voted = colonnade.load("preset:self-consistency", model="embedded/nano", samples=3).evaluate("arithmetic", items=12)
    frame = single.to_frame()
    assert len(frame) == 12
    assert frame["calls_used"].sum() == 12
    assert single.accuracy == pytest.approx(frame["score"].mean())
    points = single.plot("both.png", voted)
    assert Path("both.png").stat().st_size > 5_000
    assert points[1].dollars > points[0].dollars
    assert "self-consistency" in str(voted)


def test_a_point_is_on_the_front_unless_another_is_better_and_cheaper(workplace: Path) -> None:
    runs = [
        colonnade.load("preset:self-consistency", model="embedded/nano", samples=n).evaluate("arithmetic", items=10)
        for n in (1, 4)
    ]
    points = accuracy_cost([run.evaluation for run in runs])
    assert points[0].on_front, "the cheapest always is"
    assert points[1].on_front == (points[1].accuracy > points[0].accuracy)


def test_caps_of_the_face(workplace: Path) -> None:
    write_models(workplace, "http://127.0.0.1:9/v1")
    capped = colonnade.load("preset:self-consistency", model="embedded/nano", samples=5, calls=4)
    with pytest.raises(colonnade.BudgetExceeded, match="4"):
        capped.run(QUESTION)
    with pytest.raises(colonnade.UserError, match="cannot be reached"):
        colonnade.load("preset:single", model="m").evaluate(str(write_task(workplace, 2)))


def test_a_plot_of_an_unknown_kind(workplace: Path) -> None:
    done = colonnade.load("preset:single", model="embedded/nano").evaluate("arithmetic", items=2)
    with pytest.raises(colonnade.UserError, match=r"\.svg"):
        done.plot("plot.xyz")


@pytest.mark.parametrize(
    ("value", "text"), [(None, "$?"), (0, "$0"), (12.345, "$12.35"), (0.01234, "$0.0123"), (0.0000123, "$1.23e-05")]
)
def test_dollars_for_people(value: float | None, text: str) -> None:
    assert dollars(value) == text


def test_numbers_for_people() -> None:
    assert [number(1234567), number(None), percent(0.5), percent(None)] == ["1,234,567", "?", "50.0 %", "-"]
    assert [seconds(0.123), seconds(12.34), seconds(245), seconds(None)] == ["0.12 s", "12.3 s", "4 min 05 s", "-"]
    assert [human_int(text) for text in ("500", "1_000", "20k", "1.5M")] == [500, 1_000, 20_000, 1_500_000]
    for wrong in ("1.5", "k", "many", ""):
        with pytest.raises(ValueError):
            human_int(wrong)


@pytest.mark.parametrize("how", [["-m", "colonnade"], ["-c", "from colonnade.__main__ import main; main()"]])
def test_a_users_own_folders_do_not_shadow_ours(tmp_path: Path, how: list[str]) -> None:
    for name in ("nodes", "flows", "db", "providers"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text("raise SystemExit('the wrong package was imported')")
    own = tmp_path / "nodes" / "shout.py"
    own.write_text(SHOUT)
    done = subprocess.run(
        [sys.executable, *how, "techniques", "--techniques", "nodes/shout.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert "shout" in done.stdout
    assert "generate" in done.stdout


SHOUT = '''
"""A user's own technique."""

from nodes.base import NodePlan, Technique
from nodes.registry import technique


@technique("shout")
class Shout(Technique):
    """Turn every candidate into capitals.

    When to use it: never.

    Calls: none.

    Paper: none.

    Symbols: none.

    Example:
        layers: [generate: {model: embedded/nano}, shout]
    """

    needs = frozenset({"candidates"})
    gives = frozenset({"candidates"})

    async def run(self, state, context):
        return state

    def plan(self, shape, estimator):
        return NodePlan((), shape)
'''
