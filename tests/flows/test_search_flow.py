"""The search as a real Prefect flow on Prefect's built-in server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import CommandResult
from tests.flows.search_support import TINY
from tests.helpers import artifacts

pytestmark = [
    pytest.mark.usefixtures("own_prefect"),
    pytest.mark.xdist_group("prefect"),
    # Prefect leaves a socket to its server open when a loop ends.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]


def test_a_search_runs_as_a_flow_and_leaves_artifacts(cli: Callable[..., CommandResult], workplace: Path) -> None:
    (workplace / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    command = ("search", "run", "tiny.yaml", "--items", 24, "--trials", 3, "--rungs", "4,8", "--json")
    done = cli(*command)
    assert done.code == 0, done.err
    key = f"study-{done.records[0]['id']}"
    found = asyncio.run(artifacts())
    assert found[key] == "table"
    assert found[f"{key}-end"] == "markdown"
    assert "progress" in found.values()
    assert cli(*command).records[0] == done.records[0]


def test_the_flow_opens_a_session_of_its_own(workplace: Path) -> None:
    from colonnade.searching import make_search_job, stored_view
    from flows.evaluate import TaskChoice
    from flows.search_flow import search_flow
    from flows.session import SessionSettings

    choice = TaskChoice(name="arithmetic", items=24)
    job = make_search_job(TINY, choice, SessionSettings(), trials=2, rungs=(4,), study="A.b")
    assert asyncio.run(search_flow(job)) == "A.b"
    assert stored_view("A.b").status == "done"
    assert "study-a-b-end" in asyncio.run(artifacts())
