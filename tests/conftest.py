"""Fixtures for all tests, and two guards: no test spends money, and in CI none is skipped for want of anything."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings

from flows.chunks import quiet_prefect

POSTGRES_URL = os.environ.get("COLONNADE_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/test")

_SETTINGS = {"COLONNADE_MODELS", "COLONNADE_DATABASE_URL", "COLONNADE_PROMPTS", "COLONNADE_REDIS_URL"}

quiet_prefect()
# A machine that is busy is no failure: what takes too long is ended by pytest's own timeout.
settings.register_profile("colonnade", deadline=None)
settings.load_profile("colonnade")


@pytest.fixture(autouse=True)
def _no_keys_no_user_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Take every key and every setting of the user's out of the environment, so that no test can spend money."""
    for name in list(os.environ):
        if name.endswith("_API_KEY") or name.startswith("COLONNADE_DAY_") or name in _SETTINGS:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _logger_as_it_was() -> Iterator[None]:
    """Undo what a command line that ran in this process did to the logger: it writes to stderr and goes no further."""
    logger = logging.getLogger("colonnade")
    before = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


@pytest.fixture
def shared_data() -> Path:
    """The folder of recorded outputs of real models, which is no part of the repository."""
    folder = os.environ.get("COLONNADE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs the shared data: set COLONNADE_DATA to its folder")
    return Path(folder).resolve()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI (`COLONNADE_NO_SKIPS=1`) read a skip as a failure."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's result object
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("COLONNADE_NO_SKIPS") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure in CI: {report.longrepr}"


class CommandResult(NamedTuple):
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON lines of stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, in which the database comes to lie."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., CommandResult]:
    """Run a command line in this process, as the console script does."""
    from colonnade.__main__ import main

    def run(*arguments: object) -> CommandResult:
        path = list(sys.path)
        monkeypatch.setattr(sys, "argv", ["colonnade", *(str(argument) for argument in arguments)])
        capfd.readouterr()
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        else:
            code = 0
        finally:
            sys.path[:] = path
        printed = capfd.readouterr()
        return CommandResult(code, printed.out, printed.err)

    return run


@pytest.fixture
def model_server() -> Iterator[Callable[..., ServerProcess]]:
    """Start model servers as processes of their own, which a killed client cannot take along."""
    with ExitStack() as stack:

        def start(*arguments: object) -> ServerProcess:
            return stack.enter_context(ServerProcess(*(str(argument) for argument in arguments)))

        yield start


class ServerProcess:
    """A `providers.testing_server` in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "providers.testing_server", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def ledger(self) -> dict[str, Any]:
        """Return the server's own books."""
        with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/ledger", timeout=10) as reply:
            return dict(json.load(reply))

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
