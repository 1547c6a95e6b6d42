"""`colonnade search` as a user types it, on the embedded models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import CommandResult
from tests.flows.search_support import TINY

Cli = Callable[..., CommandResult]

QUICK = ("--items", 24, "--trials", 3, "--rungs", "4,8", "--finalists", 2, "--guard-share", 0)


@pytest.fixture
def tiny(workplace: Path) -> Path:
    """The tiny space as a file."""
    file = workplace / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY))
    return file


def test_a_study_from_run_to_best(tiny: Path, cli: Cli, workplace: Path) -> None:
    done = cli("search", "run", tiny, *QUICK, "--no-prefect", "--report", "report.html")
    assert done.code == 0, done.err
    study = done.out.split()[1].rstrip(":")
    assert f"Study {study}: done" in done.out
    assert "on held-out items" in done.out
    assert "without shared samples" in done.out
    assert (workplace / "report.html").stat().st_size > 100_000
    assert f"colonnade search best {study}" in done.err

    again = cli("search", "run", tiny, *QUICK, "--no-prefect", "--json")
    assert again.records[0]["id"] == study
    assert again.records[0]["spent"] == cli("search", "show", study, "--json").records[0]["spent"]

    listed = cli("search", "list", "--json").records
    assert [one["study"] for one in listed] == [study]
    assert study in cli("search", "list").out

    best = cli("search", "best", "--out", "winner.yaml")
    assert best.code == 0, best.err
    assert (workplace / "winner.yaml").read_text().startswith(f"# Trial {again.records[0]['leader']} of study {study}")
    planned = cli("plan", "winner.yaml", "--json")
    assert planned.code == 0, planned.err
    other = cli("search", "best", study, "--trial", 0)
    assert yaml.safe_load(other.out)["name"] == f"{study}-0"

    drawn = cli("search", "plot", "--out", "pictures")
    assert drawn.code == 0, drawn.err
    assert {path.suffix for path in (workplace / "pictures").iterdir()} == {".svg"}

    exported = json.loads(cli("search", "export").out)
    assert exported["id"] == study
    stored = cli("search", "export", study, "--optuna", "sqlite:///study.db")
    assert stored.code == 0, stored.err
    assert "optuna-dashboard sqlite:///study.db" in stored.err

    resumed = cli("search", "resume", study, "--no-prefect", "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.records[0] == again.records[0]


def test_a_cap_says_how_to_go_on(tiny: Path, cli: Cli) -> None:
    stopped = cli("search", "run", tiny, *QUICK, "--no-prefect", "--budget-calls", 9, "--json")
    assert stopped.code == 1
    record = stopped.records[0]
    assert record["status"] == "over_budget"
    assert f"colonnade search resume {record['id']}" in stopped.err
    shown = cli("search", "show")
    assert "It stopped:" in shown.out
    done = cli("search", "resume", "--no-prefect", "--budget-calls", "5k")
    assert done.code == 0, done.err
    assert f"Study {record['id']}: done" in done.out


def test_spaces_are_shown_and_counted(tiny: Path, cli: Cli) -> None:
    assert cli("search", "space", "archon", "--count", "--json").records == [
        {"space": "archon", "raw": 18750, "valid": 9690}
    ]
    named = cli("search", "space", "--json").records
    assert [one["space"] for one in named] == ["archon", "instructed", "literature", "selection", "small"]
    assert "small" in cli("search", "space").out
    shown = cli("search", "space", tiny, "--count", "--cap", "calls=2").out
    assert "samples: 1, 2, 4" in shown
    assert "24 combinations; 18 architectures; 10 of them meet the caps" in shown
    roles = cli("search", "space", tiny, "--count", "--json", "--role", "generators=embedded/nano")
    assert roles.records == [{"space": "tiny", "raw": 12, "valid": 9}]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("search", "run", "smal"), "There is no space 'smal'"),
        (("search", "run", "nowhere.yaml"), "nowhere.yaml: there is no such file"),
        (("search", "run", "small", "--cap", "calls=none"), "--cap takes a name and a number such as calls=40"),
        (("search", "run", "small", "--cap", "calls=inf"), "--cap takes a name and a number such as calls=40"),
        (("search", "run", "small", "--cap", "calls=0.5"), "the cheapest ("),
        (("search", "run", "small", "--report", "r.txt"), "r.txt: a report is an .html file"),
        (("search", "run", "small", "--rungs", "9,3"), "--rungs takes growing numbers"),
        (("search", "run", "small", "--role", "generator=m"), "generator"),
        (("search", "run", "small", "--sampler", "gpp"), "There is no sampler 'gpp'"),
        (("search", "run", "small", "--option", "starts=3", "--sampler", "random"), "does not take these options"),
        (
            ("search", "run", "small", "--option", "population=0", "--sampler", "nsga2"),
            "a whole number from 1 up, not 0",
        ),
        (("search", "run", "small", "--objective", "speed"), "objectives: Input should be 'calls', 'cost_per_correct'"),
        (("search", "run", "small", "--dev-share", "1.5"), "dev"),
        (("search", "run", "small", "--task", "arithmetik"), "arithmetic"),
        (("search", "run", "small", "--baseline", "preset:singel"), "single"),
        (("search", "show"), "There is no study in"),
        (("search", "resume", "s-1"), "There is no study in"),
        (("search", "best"), "There is no study in"),
    ],
)
def test_bad_input_is_one_sentence(cli: Cli, arguments: tuple[str, ...], sentence: str) -> None:
    said = cli(*arguments, *(("--no-prefect",) if arguments[1] in {"run", "resume"} else ()))
    assert said.code == 2, said.err
    assert sentence in said.err
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) == 1, said.err


@pytest.mark.parametrize(
    ("changed", "arguments", "sentence"),
    [
        (
            {"rules": [{"sum": ["samples"], "at_most": 0}]},
            (),
            "the space is empty: its rules leave no point; loosen one.",
        ),
        (
            {"rules": [{"product": ["sampels"], "at_most": 2}]},
            (),
            "there is no parameter 'sampels'. Did you mean 'samples'?",
        ),
        (
            {},
            ("--cap", "dollars=0.00000001"),
            "the cap of 0.00000001 dollars: the cheapest (model=embedded/nano, samples=1) needs 0.0000",
        ),
        ({}, ("--cap", "calls=0.5"), "the cheapest (model=embedded/nano, samples=1) needs 1 calls."),
    ],
)
def test_spaces_that_leave_nothing(
    cli: Cli, workplace: Path, changed: dict[str, Any], arguments: tuple[str, ...], sentence: str
) -> None:
    (workplace / "mine.yaml").write_text(yaml.safe_dump({**TINY, **changed}))
    said = cli("search", "run", "mine.yaml", "--no-prefect", *arguments)
    assert said.code == 2, said.err
    assert sentence in said.err
    assert len(said.err.strip().splitlines()) == 1, said.err
    assert cli("search", "list").out.strip() == "No studies yet."


def test_a_plot_needs_a_kind(tiny: Path, cli: Cli) -> None:
    assert cli("search", "run", tiny, *QUICK, "--no-prefect").code == 0
    said = cli("search", "plot", "--out", "x.gif")
    assert said.code == 2
    assert "an .html file" in said.err
    assert "no trial 99" in cli("search", "best", "--trial", 99).err


def test_from_python(tiny: Path, workplace: Path) -> None:
    import colonnade

    options: dict[str, Any] = {"items": 24, "trials": 3, "rungs": (4, 8), "finalists": 1, "guard_share": 0.0}
    result = colonnade.search(tiny, **options, caps={"calls": 2})
    assert result.view.status == "done"
    assert result.study_id in str(result)
    assert result.best.plan().total.calls.high <= 2
    result.report(workplace / "r.html")
    assert (workplace / "r.html").is_file()
    stopped = colonnade.search(tiny, **options, seed=5, calls=1)
    with pytest.raises(colonnade.UserError, match="has no best yet"):
        _ = stopped.best
