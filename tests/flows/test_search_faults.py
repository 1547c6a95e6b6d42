"""A search whose models fail, whose key is refused, that is interrupted, or whose files have changed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from db.database import Database
from db.runs import RunStore
from evals import load_task
from flows.studies import study_view
from tests.conftest import CommandResult, ServerProcess
from tests.flows.search_commands import STUDY, arguments, counted, serving, snapshot, started, write_search

Cli = Callable[..., CommandResult]

CALLS = 'SELECT COUNT(*) FROM "call"'


def opened(folder: Path) -> Database:
    return Database.open(f"sqlite:///{folder}/.colonnade/colonnade.db")


def words(*more: object) -> list[str]:
    return arguments("--trials", 4, "--rungs", "4,8", *more)


def check_nothing_paid_twice(folder: Path, server: ServerProcess) -> None:
    books = server.ledger()
    assert {*books["by_sample"].values()} == {1}
    with opened(folder) as database:
        assert books["calls"] == counted(database, CALLS)
        assert study_view(STUDY, database).status == "done"


def test_items_on_which_a_model_fails_are_lost_and_no_others(cli: Cli, workplace: Path) -> None:
    with serving(0.0, "--fail-every", 5) as server:
        write_search(workplace, server.url)
        done = cli(*words("--concurrency", 24))
        assert done.code == 0, done.err
        assert server.ledger()["faults"]["503"] > 0
        check_nothing_paid_twice(workplace, server)
    with opened(workplace) as database:
        items = RunStore(database).items(STUDY)
        ending = study_view(STUDY, database).ending
    assert {item.status for item in items} == {"failed", "ok"}
    assert ending is not None
    held_out = load_task(str(workplace / "sums.jsonl")).split(0.5, 0).held_out
    lost = sum(int(item.id.removeprefix("i")) % 5 == 0 for item in held_out.items)
    assert {one.failed for one in ending.contenders} == {lost}
    assert f"Items that failed count as wrong: {lost} of {ending.contenders[0].name}, " in ending.sentence
    for item in items:
        fails = int(item.item_id.removeprefix("i")) % 5 == 0
        assert item.status == ("failed" if fails else "ok")


def test_an_outage_is_no_result(cli: Cli, workplace: Path) -> None:
    away = workplace / "away"
    away.touch()
    with serving(0.0, "--away-while", away) as server:
        write_search(workplace, server.url, items=24)
        command = words("--trials", 2, "--rungs", "3")
        stopped = cli(*command)
        assert stopped.code == 1
        assert "could be answered" in stopped.err
        assert f"colonnade search resume {STUDY}" in stopped.err
        with opened(workplace) as database:
            view = study_view(STUDY, database)
        assert (view.status, view.ending) == ("failed", None)
        assert "could be answered" in view.reason
        away.unlink()
        done = cli(*command)
        assert done.code == 0, done.err
        check_nothing_paid_twice(workplace, server)
    with opened(workplace) as database:
        assert {item.status for item in RunStore(database).items(STUDY)} == {"ok"}


@pytest.mark.parametrize("revoked", [False, True])
def test_a_refused_key_fails_the_study_until_it_is_right(
    cli: Cli, workplace: Path, monkeypatch: pytest.MonkeyPatch, revoked: bool
) -> None:
    """A wrong key is found out before the first call; one that is revoked later ends the search with its error."""
    with serving(0.0, "--key", "KEY-1", *(("--revoke-after", 30) if revoked else ())) as server:
        write_search(workplace, server.url, key_env="SUMS_API_KEY")
        monkeypatch.setenv("SUMS_API_KEY", "KEY-1" if revoked else "KEY-0")
        failed = cli(*words())
        assert failed.code == (1 if revoked else 2), failed.err
        assert failed.err.count("\n") == 1, failed.err
        assert "key" in failed.err
        with opened(workplace) as database:
            assert RunStore(database).get(STUDY).status == "failed"
            paid = counted(database, CALLS)
            assert all(job.leased_until <= datetime.now(UTC) for job in snapshot(database).jobs if job.scores is None)
        assert (paid > 0) == revoked
        monkeypatch.setenv("SUMS_API_KEY", "KEY-2" if revoked else "KEY-1")
        done = cli(*words())
        assert done.code == 0, done.err
        check_nothing_paid_twice(workplace, server)


@pytest.mark.parametrize("how", ["--no-prefect", pytest.param("--prefect", marks=pytest.mark.xdist_group("prefect"))])
def test_ctrl_c_prints_the_command_that_goes_on(tmp_path: Path, how: str) -> None:
    env = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect")}
    with serving(0.05) as server, opened(tmp_path) as database:
        write_search(tmp_path, server.url)
        process = started(tmp_path, words(how), env=env)
        while not any(job.scores is not None for job in snapshot(database).jobs):
            assert process.poll() is None
            # It goes no further than this for each look, so that it does not end while the machine keeps us.
            server.hold(4)
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        server.hold(None)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 130, err
        assert out == ""
        assert "Traceback" not in err
        assert "the same command goes on from here" in err
        again = next(line.strip() for line in err.splitlines() if line.strip().startswith("colonnade search run"))
        assert f"--study {STUDY}" in again
        assert RunStore(database).get(STUDY).status == "stopped"
        assert all(job.leased_until <= datetime.now(UTC) for job in snapshot(database).jobs if job.scores is None)
        lost = server.ledger()["calls"] - counted(database, CALLS)
        assert 0 <= lost <= 6 * 4
        process = started(tmp_path, [*again.split()[1:], "--no-prefect"])
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert study_view(STUDY, database).status == "done"
        assert server.ledger()["calls"] == counted(database, CALLS) + lost


def test_a_study_is_not_gone_on_with_when_its_files_have_changed(cli: Cli, workplace: Path) -> None:
    with serving(0.0) as server:
        write_search(workplace, server.url)
        assert cli(*words("--budget-calls", 40)).code == 1
        with opened(workplace) as database:
            rows, paid = snapshot(database), counted(database, CALLS)
        for name, change, sentence in CHANGES:
            file = workplace / name
            before = file.read_text()
            file.write_text(change(before))
            refused = cli(*words())
            assert (refused.code, refused.err) == (2, f"Error: Study 'here' was begun {sentence}\n")
            if name != "space.yaml":
                assert cli("search", "resume", STUDY, "--no-prefect").code == 2
                file.write_text(before)
        with opened(workplace) as database:
            assert (snapshot(database), counted(database, CALLS)) == (rows, paid)
        # The space is the last of the changes: the study has its own copy of it.
        resumed = cli("search", "resume", STUDY, "--no-prefect", "--budget-calls", 1_000)
        assert resumed.code == 0, resumed.err
        check_nothing_paid_twice(workplace, server)


def other_space(text: str) -> str:
    space = yaml.safe_load(text)
    space["parameters"]["samples"]["choices"] = [1, 2]
    return yaml.safe_dump(space)


def other_model(text: str) -> str:
    models = yaml.safe_load(text)
    models["models"]["able"]["model"] = "weak"
    return yaml.safe_dump(models)


def other_items(text: str) -> str:
    first, *others = text.splitlines()
    changed = {**json.loads(first), "gold": "12345"}
    return "".join(line + "\n" for line in (json.dumps(changed), *others))


CURE = "bring them back, or begin a new study with another name."
CHANGES: list[tuple[str, Callable[[str], str], str]] = [
    ("models.yaml", other_model, f"on other items or models; {CURE}"),
    ("sums.jsonl", other_items, f"on other items or models; {CURE}"),
    (
        "space.yaml",
        other_space,
        "with another space; give back what it had (colonnade search resume here), or begin a new study with another "
        "name.",
    ),
]
