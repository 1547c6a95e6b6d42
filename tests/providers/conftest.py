"""A server, a store, and a way to ask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.calls import CallStore
from db.database import Database


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CallStore]:
    with Database.open(f"sqlite:///{tmp_path}/calls.db") as database:
        opened = CallStore(database)
        yield opened
        opened.close()


@pytest.fixture
def data() -> Path:
    folder = os.environ.get("COLONNADE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("the shared data are not here; set COLONNADE_DATA to their folder")
    return Path(folder)
