"""`colonnade watch` as a user types it, on the embedded models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from db.database import Database
from db.runs import RunStore
from tests.conftest import CommandResult

Cli = Callable[..., CommandResult]

QUICK = ("--items", 24, "--no-prefect")
WATCH = ("watch", "run", "preset:single", *QUICK)


def test_a_watch_from_its_reference_to_a_look(cli: Cli, workplace: Path) -> None:
    assert "No watches yet." in cli("watch", "list").out
    made = cli(*WATCH, "--repeats", 2)
    assert made.code == 0, made.err
    assert "single on arithmetic (w-" in made.out
    assert "nine times in ten" in made.out
    looked = cli(*WATCH, "--json", "--report", "pages")
    assert looked.code == 0, looked.err
    record = looked.records[0]
    assert (record["number"], record["items"], record["alarms"]) == (1, 24, [])
    assert (workplace / "pages" / f"{record['watch']}.md").read_text().startswith("# single on arithmetic")

    shown = cli("watch", "show", record["watch"])
    assert "reference" in shown.out
    assert "no alarm" in shown.out
    assert [one["number"] for one in cli("watch", "show", "--json").records] == [0, 1]
    assert record["watch"] in cli("watch", "list").out
    assert cli("watch", "list", "--json").records[0]["status"] == "done"


def test_an_alarm_is_exit_code_3(cli: Cli, workplace: Path) -> None:
    done = cli("eval", "preset:single", *QUICK, "--json")
    reference = done.records[0]["run_id"]
    with Database.open() as database:
        store = RunStore(database)
        # A reference of a time in which the model was always right.
        store.put_items([replace(item, score=1.0, correct=True) for item in store.items(reference)])
    assert cli(*WATCH, "--reference", reference).code == 0
    looked = cli(*WATCH, "--reference", reference)
    assert looked.code == 3, looked.err
    assert "QUALITY-FELL" in looked.out
    assert "! Quality fell from 100.0 %" in looked.out
    assert "quality-fell" in cli("watch", "show").out


def test_a_reference_that_lacks_items_is_refused(cli: Cli, workplace: Path) -> None:
    small = cli("eval", "preset:single", "--items", 12, "--no-prefect", "--json").records[0]["run_id"]
    said = cli(*WATCH, "--reference", small)
    assert said.code == 2
    assert f"The reference {small} holds 12 of the 24 items" in said.err
    assert "No look has ended yet." in cli("watch", "show").out
    assert cli("watch", "list", "--json").records[0]["status"] == "failed"


def test_a_cap_says_how_to_go_on(cli: Cli, workplace: Path) -> None:
    stopped = cli(*WATCH, "--budget-calls", 9)
    assert stopped.code == 1
    assert "It was stopped:" in stopped.out
    assert "the same command goes on from here" in stopped.err
    assert "stopped" in cli("watch", "show").out
    assert cli(*WATCH, "--repeats", 1).code == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("watch", "run", "preset:singel"), "single"),
        (("watch", "run", "preset:single", "--task", "arithmetik"), "arithmetic"),
        (("watch", "run", "preset:single", "--alpha", "1.5"), "watch: alpha: Input should be less than 1"),
        (("watch", "run", "preset:single", "--reference", "e-none"), "There is no run 'e-none'"),
        (("watch", "run", "preset:single", "--report", "/dev/null"), "'/dev/null' for the report cannot be made"),
        (("watch", "show"), "There is no watch yet"),
        (("watch", "show", "w-none"), "There is no watch 'w-none'"),
    ],
)
def test_bad_input_is_one_sentence(cli: Cli, workplace: Path, arguments: tuple[str, ...], sentence: str) -> None:
    said = cli(*arguments, *(("--no-prefect",) if arguments[1] == "run" else ()))
    assert said.code == 2, said.err
    assert sentence in said.err
