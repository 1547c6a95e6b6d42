"""`prefect.yaml` and what its deployments do: every one loads, validates, deploys, and a process worker runs one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from architectures import load
from search import read_space
from tests.conftest import prefect_database
from tests.flows.deployments_support import flow_name, job_of
from tests.helpers import write_models, write_task

ROOT = Path(__file__).resolve().parent.parent.parent
FILE = ROOT / "prefect.yaml"
KEY = "sk-of-the-block-1234567890"

pytestmark = [
    pytest.mark.xdist_group("prefect"),
    pytest.mark.timeout(1200),
    # Prefect leaves a socket to its server open when a loop ends.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]


def deployments() -> list[dict[str, Any]]:
    """Return the deployments of the file."""
    return list(yaml.safe_load(FILE.read_text("utf-8"))["deployments"])


def _title(deployment: dict[str, Any]) -> str:
    return f"{deployment['entrypoint'].rsplit('.', 1)[1]}/{deployment['name']}"


@pytest.mark.parametrize("deployment", deployments(), ids=_title)
def test_a_deployment_names_a_flow_and_gives_it_what_it_takes(deployment: dict[str, Any]) -> None:
    job = job_of(deployment)
    for architecture in getattr(job, "architectures", None) or [getattr(job, "architecture", None)]:
        if architecture is not None:
            assert load(architecture).warnings == ()
    if hasattr(job, "space"):
        assert read_space(job.space).count().valid == 6
    assert deployment["enforce_parameter_schema"] is True
    assert job.session.models is None


def test_every_kind_of_job_has_a_deployment_and_no_key_is_a_parameter() -> None:
    names = {flow_name(one) for one in deployments()}
    assert names == {"batch", "evaluate", "evaluate-anew", "search", "watch"}
    kinds = {kind for one in deployments() for schedule in one["schedules"] for kind in schedule}
    assert {"cron", "interval"} <= kinds
    assert "key" not in json.dumps([one["parameters"] for one in deployments()]).lower()


def test_the_step_sets_the_environment_and_gives_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.deployments import set_environment

    monkeypatch.setenv("COLONNADE_TEST_STEP", "before")
    assert set_environment(COLONNADE_TEST_STEP="after") == {}
    assert os.environ["COLONNADE_TEST_STEP"] == "after"


class _Prefect:
    """Prefect's command line against one server, in a working directory."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self._environment = {
            **os.environ,
            # A shell sets it; the file takes the working directory of its flows from it.
            "PWD": str(folder),
            "PREFECT_API_URL": url,
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "PREFECT_CLI_COLORS": "false",
            "PYTHONPATH": str(ROOT),
            "COLONNADE_DATABASE_URL": f"sqlite:///{folder / 'colonnade.db'}",
        }

    def run(self, *words: str) -> str:
        """Run a command, return what it prints; fails where it does."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *words],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def prefect(tmp_path: Path, own_prefect: None) -> Iterator[_Prefect]:
    """A Prefect server of its own with the work pool, and its command line in an empty folder."""
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import temporary_settings
    from prefect.testing.utilities import _find_available_port

    with (
        prefect_database() as database,
        temporary_settings(database),
        SubprocessASGIServer(_find_available_port()) as server,
        temporary_settings({"api.url": server.api_url}),
    ):
        prefect = _Prefect(server.api_url, tmp_path)
        prefect.run("work-pool", "create", "colonnade", "--type", "process")
        yield prefect


def test_all_are_deployed_and_a_worker_runs_one_with_a_key_from_a_block(
    prefect: _Prefect, model_server: Any, tmp_path: Path
) -> None:
    from prefect.blocks.system import Secret

    from db.database import Database
    from flows.watch import looks_of, stored_watches

    Secret(value=KEY).save("model-key")
    _write_with_key(tmp_path, model_server("--api-key", KEY).url)
    prefect.run("deploy", "--all")
    stored = asyncio.run(_stored())
    assert len(stored) == 5
    nightly, every = stored["nightly"], stored["every-twelve-hours"]
    assert [str(one.schedule.cron) for one in nightly.schedules] == ["0 6 * * *"]
    assert [(one.schedule.interval.total_seconds(), one.active) for one in every.schedules] == [(43200, False)]
    for deployment in stored.values():
        assert KEY not in deployment.model_dump_json()
        assert "secret.model-key" in str(deployment.pull_steps)
        assert deployment.enforce_parameter_schema

    prefect.run("deployment", "run", "watch/nightly")
    prefect.run("deployment", "run", "evaluate-anew/every-twelve-hours")
    prefect.run("worker", "start", "--pool", "colonnade", "--run-once")
    with Database.open(f"sqlite:///{tmp_path / 'colonnade.db'}") as database:
        (record,) = stored_watches(database)
        (look,) = looks_of(record.id, database)
        from db.runs import RunStore

        assert (look.number, look.status, look.items) == (0, "done", 4)
        configs = [json.loads(run.config) for run in RunStore(database).list(kind="evaluate")]
    assert sum(config["fresh"].startswith("20") for config in configs) == 1


async def _stored() -> dict[str, Any]:
    """Return the deployments that the server holds, by flow and name where the name alone says too little."""
    from prefect import get_client

    async with get_client() as client:
        found = await client.read_deployments()
        return {one.name if one.name != "by-hand" else str(one.entrypoint): one for one in found}


def _write_with_key(folder: Path, url: str) -> None:
    """Write the shipped file with a model behind a key, a small task, and the step that takes the key from a block."""
    models = yaml.safe_load(write_models(folder, url).read_text())
    models["models"]["m"]["api_key_env"] = "MODEL_KEY_OF_THE_TEST"
    (folder / "models.yaml").write_text(yaml.safe_dump(models))
    text = FILE.read_text("utf-8").replace("embedded/mini", "m")
    changed = yaml.safe_load(text)
    changed["pull"] = [
        {"flows.deployments.set_environment": {"MODEL_KEY_OF_THE_TEST": "{{ prefect.blocks.secret.model-key }}"}}
    ]
    for deployment in changed["deployments"]:
        if "task" in deployment["parameters"]["job"]:
            deployment["parameters"]["job"]["task"] = {"name": str(write_task(folder, 4))}
    (folder / "prefect.yaml").write_text(yaml.safe_dump(changed))
