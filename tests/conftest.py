"""Fixtures for all tests, and two guards: no test spends money, and in CI none is skipped for want of anything."""

from __future__ import annotations

import os

# Before NumPy is loaded. An engine holds OpenBLAS to one thread by itself unless these are set, and a module that sets
# them once NumPy runs with more (as a benchmark did that a test imports) leaves two workers on two cores to spin: tests
# of 9 s took 180. Processes that tests start get the same.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import json
import logging
import signal
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings

from flows.chunks import quiet_prefect
from tests.reaper import watch_over

POSTGRES_URL = os.environ.get("COLONNADE_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/test")

_SETTINGS = {"COLONNADE_MODELS", "COLONNADE_DATABASE_URL", "COLONNADE_PROMPTS", "COLONNADE_REDIS_URL"}

quiet_prefect()
# A shell that starts the tests in the background has them ignore Ctrl-C, and with them all commands that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
# A machine that is busy is no failure: what takes too long is ended by pytest's own timeout.
# In CI the examples are the same each time, so that a failure there is the change's; others are tried at every desk.
settings.register_profile("colonnade", deadline=None, derandomize=os.environ.get("COLONNADE_NO_SKIPS") == "1")
settings.load_profile("colonnade")


@pytest.fixture(autouse=True, scope="session")
def _nothing_stays() -> Iterator[None]:
    """End what tests started and did not, also where this process is killed: servers would stay for ever."""
    reaper = watch_over()
    yield
    assert reaper.stdin is not None
    reaper.stdin.close()
    # It goes on by itself for as long as something needs to end.
    reaper.returncode = 0


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


@contextmanager
def made_in_postgres(name: str, kind: str, drop: str) -> Iterator[bool]:
    """Make a schema or a database of PostgreSQL for the time being; False where there is no PostgreSQL."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import OperationalError

    engine = create_engine(POSTGRES_URL, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(f"CREATE {kind} {name}"))
    except OperationalError:
        engine.dispose()
        yield False
        return
    try:
        yield True
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP {kind} {name} {drop}"))
        engine.dispose()


@contextmanager
def own_schema() -> Iterator[tuple[str, str]]:
    """Make a schema of PostgreSQL; gives its name and a URL that leads there, and skips the test without PostgreSQL."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    with made_in_postgres(name, "SCHEMA", "CASCADE") as made:
        if not made:
            pytest.skip(f"no PostgreSQL at {POSTGRES_URL}; set COLONNADE_TEST_POSTGRES")
        yield name, f"{POSTGRES_URL}?options=-csearch_path%3D{name}"


@contextmanager
def prefect_database() -> Iterator[dict[str, str]]:
    """Make a database of PostgreSQL for a Prefect server; gives the settings that name it, none without PostgreSQL.

    On SQLite the server answers 503 to a write that another one came between, each time the client waits seconds, and
    the sixth time it gives up. A pool that a test asks ten times a second gets there.
    """
    from sqlalchemy import make_url

    name = f"prefect_{uuid.uuid4().hex[:12]}"
    url = make_url(POSTGRES_URL).set(drivername="postgresql+asyncpg", database=name)
    with made_in_postgres(name, "DATABASE", "WITH (FORCE)") as made:
        yield {"server.database.connection_url": url.render_as_string(hide_password=False)} if made else {}


@pytest.fixture(scope="session")
def _prefect_server() -> Iterator[dict[str, str]]:
    """Settings of Prefect's built-in server: the first flow starts it, and it goes on until all tests are done."""
    from prefect.server.api.server import SubprocessASGIServer

    with prefect_database() as database:
        yield database
        SubprocessASGIServer().stop()


@pytest.fixture(scope="module")
def own_prefect(tmp_path_factory: pytest.TempPathFactory, _prefect_server: dict[str, str]) -> Iterator[None]:
    """Give Prefect a home and a database of its own, so that nothing of the user's is touched."""
    from prefect.settings import temporary_settings

    home = str(tmp_path_factory.mktemp("prefect"))
    with temporary_settings({"home": home, "logging.to_api.enabled": False, **_prefect_server}):
        yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """In CI (`COLONNADE_NO_SKIPS=1`) read a skip as a failure, save where a browser would be needed."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's result object
    excused = hasattr(report, "wasxfail") or item.get_closest_marker("needs_chromium") is not None
    if report.skipped and not excused and os.environ.get("COLONNADE_NO_SKIPS") == "1":
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
    """A `providers.testing_server` in a process of its own, or what a program of a test makes of it."""

    def __init__(self, *arguments: str, program: Path | None = None) -> None:
        what = ["-m", "providers.testing_server"] if program is None else [str(program)]
        command = [sys.executable, *what, *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def ledger(self) -> dict[str, Any]:
        """Return the server's own books."""
        with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/ledger", timeout=120) as reply:
            return dict(json.load(reply))

    def hold(self, after: int | None) -> None:
        """Let that many more requests through and no others, until it is called again; None: all."""
        query = "" if after is None else f"?after={after}"
        with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/hold{query}", timeout=120) as reply:
            reply.read()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(120)
        assert self._process.stdout is not None
        self._process.stdout.close()
