"""`colonnade coverage`: pass@k of a run, counted by hand beside it, and bad input in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from colonnade import load
from colonnade.coverage import coverage_record, coverage_text, run_coverage
from tests.conftest import CommandResult

Cli = Callable[..., CommandResult]
SPEC = {
    "name": "draw",
    "layers": [{"generate": {"model": "embedded/nano", "samples": 4, "temperature": 0.8}}, "vote"],
}


@pytest.fixture
def run_id(workplace: Path) -> str:
    return load(SPEC).evaluate("arithmetic", items=12).run_id


def test_the_curve_is_that_of_the_samples(cli: Cli, run_id: str) -> None:
    (record,) = cli("coverage", run_id, "--json", "--target", 0.99, "--samples", 64).records
    assert (record["node"], record["items"], record["left_out"]) == ("generate", 12, [])
    found = run_coverage(run_id)
    correct = [tally.correct for tally in found.samples.tallies]
    # By hand: the mean share that is right, and how many questions have any right sample.
    assert record["curve"][0]["coverage"] == pytest.approx(sum(correct) / 48)
    assert record["curve"][-1]["k"] == 4
    assert record["curve"][-1]["coverage"] == pytest.approx(sum(one > 0 for one in correct) / 12)
    assert 0 < sum(correct) < 48
    assert found.law is not None
    assert record["foretold"][0]["coverage_k"] == pytest.approx(found.law.law.coverage(64))
    assert record["targets"][0]["samples"] == pytest.approx(found.law.law.samples_for(0.99))
    estimate = found.samples_for(0.99)
    assert estimate is not None
    assert estimate.value == record["targets"][0]["samples"]


def test_people_read_a_table_and_what_is_foretold(cli: Cli, run_id: str) -> None:
    said = cli("coverage", run_id, "--target", 0.9, "--samples", 64).out
    assert "draw on arithmetic: 12 items, 4 samples each of node 'generate'" in said
    assert "Law: coverage = exp(" in said
    assert "Foretold samples for 90.0 %" in said
    assert "Foretold coverage by 64 samples" in said
    assert str(run_coverage(run_id)) in said


def test_one_sample_has_a_curve_and_no_law(workplace: Path) -> None:
    spec = {"name": "one", "layers": [{"generate": {"model": "embedded/nano"}}]}
    found = run_coverage(load(spec).evaluate("arithmetic", items=4).run_id)
    assert [point.k for point in found.curve.points] == [1]
    assert found.samples_for(0.9) is None
    assert "No law: it takes two samples of every item" in coverage_text(found, targets=(0.9,))
    assert json.loads(json.dumps(coverage_record(found, targets=(0.9,))))["targets"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target", "90"), "between 0 and 1"),
        (("--target", "nan"), "between 0 and 1"),
        (("--node", "generat"), "Did you mean 'generate'"),
        (("--node", "vote"), "no samples of node 'vote'"),
    ],
)
def test_bad_input_is_one_sentence(cli: Cli, run_id: str, arguments: tuple[str, ...], words: str) -> None:
    done = cli("coverage", run_id, *arguments)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.strip().splitlines()
    assert line.startswith("Error: ")
    assert words in line


def test_a_run_that_is_none_or_no_evaluation(cli: Cli, workplace: Path) -> None:
    assert "There is no run 'e-absent'" in cli("coverage", "e-absent").err
    cli("run", "preset:single", "What is 2 + 2?")
    (run,) = cli("runs", "--json").records
    done = cli("coverage", run["id"])
    assert done.code == 2
    assert "of the kind 'run'; coverage is that of an evaluation" in done.err
