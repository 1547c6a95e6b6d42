"""Fixtures for all tests, and two guards: no test spends money, and in CI no test is skipped for want of a service or of data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

POSTGRES_URL = os.environ.get("COLONNADE_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/test")

# Prefect reads these when it is imported.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")


@pytest.fixture(autouse=True)
def _no_keys_no_user_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Take every key and every setting of the user's out of the environment, so that no test can spend money."""
    for name in list(os.environ):
        if name.endswith("_API_KEY") or name in {"COLONNADE_MODELS", "COLONNADE_DATABASE_URL", "COLONNADE_PROMPTS"}:
            monkeypatch.delenv(name)


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
