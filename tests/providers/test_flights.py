"""What a killed process had in flight: counted where kill -9 leaves it, reported once to the run that goes on."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from db.calls import CallStore
from db.database import Database
from providers import Gateway
from providers.flights import Flights
from providers.testing_server import ModelServer
from tests.providers.asking import book_of, request, scope

ROOT = Path(__file__).parents[2]
DIES = """
import os, signal, sys
from db.database import Database
from providers.flights import Flights
flights = Flights(Database.open(sys.argv[1]))
for place, run in enumerate(sys.argv[2:], 1):
    flights.flight(run, 10 ** place).begin()
with flights.flight("landed", 5) as flight:
    flight.begin()
os.kill(os.getpid(), signal.SIGKILL)
"""


def die(url: str, *runs: str) -> None:
    """Let a process die with 10 samples of the first run in flight, 100 of the second, and so on."""
    done = subprocess.run([sys.executable, "-c", DIES, url, *runs], cwd=ROOT, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def test_a_run_that_goes_on_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = f"sqlite:///{tmp_path}/calls.db"
    die(url, "r-1", "r-2", "r-3")
    die(url, "r-4")
    with Database.open(url) as database:
        first, second = Flights(database), Flights(database)
        with caplog.at_level(logging.WARNING):
            first.add("r-1", 1)
        assert first.interrupted == 10
        assert "Run r-1 was cut off with 10 samples sent for and not stored" in caplog.text
        second.add("r-1", 1)
        second.add("other", 1)
        second.add("landed", 1)
        assert second.interrupted == 0
        second.add("r-3", 1)
        assert second.interrupted == 1_000
        first.add("r-2", 1)
        second.add("r-4", 1)
        assert first.interrupted == 110
        assert second.interrupted == 1_010
        first.close()
        second.close()
        second.close()
    assert list((tmp_path / ".flights").iterdir()) == []


def test_what_is_alive_is_no_remainder(tmp_path: Path) -> None:
    with Database.open(f"sqlite:///{tmp_path}/calls.db") as database:
        alive, other = Flights(database), Flights(database)
        alive.flight("r-1", 3).begin()
        other.add("r-1", 1)
        assert other.interrupted == 0
        alive.close()
        other.close()


def test_another_database_beside_it_is_another_matter(tmp_path: Path) -> None:
    die(f"sqlite:///{tmp_path}/calls.db", "r-1")
    with Database.open(f"sqlite:///{tmp_path}/other.db") as database:
        flights = Flights(database)
        flights.add("r-1", 1)
        assert flights.interrupted == 0
        flights.close()


def test_more_runs_than_slots(tmp_path: Path) -> None:
    """Idle runs give up their slots; where all are busy the count is kept for whichever run comes next."""
    with Database.open(f"sqlite:///{tmp_path}/calls.db") as database:
        flights = Flights(database)
        for number in range(1_200):
            with flights.flight(f"r-{number}", 1) as flight:
                flight.begin()
                flight.begin()
        kept = [flights.flight(f"busy-{number}", 1) for number in range(600)]
        for flight in kept:
            flight.begin()
        for flight in kept:
            flight.__exit__(None, None, None)
        flights.close()
    url = f"sqlite:///{tmp_path}/full.db"
    crowd = "flights = Flights(Database.open(sys.argv[1]))\nfor n in range(600): flights.add(str(n), 1)\n"
    text = DIES.split("flights = ")[0] + crowd + "os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", text, url], cwd=ROOT, check=False)
    with Database.open(url) as database:
        flights = Flights(database)
        flights.add("599", 1)
        assert flights.interrupted == 600 - 511, "what had no slot of its own counts for every run"
        flights.close()


def test_without_a_database_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flights = Flights(None)
    with flights.flight("r-1", 1) as flight:
        flight.begin()
    flights.close()
    assert flights.interrupted == 0
    assert os.listdir(tmp_path) == []


def test_a_servers_database_has_its_place_among_temporary_files(tmp_path: Path) -> None:
    url = os.environ.get("COLONNADE_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/test")
    try:
        database = Database.open(url)
    except Exception as error:  # noqa: BLE001 - whatever it is, the server is not to be had
        pytest.skip(f"PostgreSQL cannot be reached: {error}")
    run = f"r-{uuid.uuid4().hex[:8]}"
    with database:
        die(url, run)
        flights = Flights(database)
        flights.add(run, 1)
        assert flights.interrupted == 10
        flights.close()


async def test_the_gateway_counts_until_a_sample_is_stored(tmp_path: Path, store: CallStore) -> None:
    die(store.database.url_without_password, "r-1")
    async with ModelServer() as server:
        async with Gateway(book_of(server, tmp_path), store) as gateway:
            await gateway.ask(request(), 3, scope=scope(run="r-0"), node="a")
            assert gateway.status().interrupted == 0
            await gateway.ask(request("Other"), scope=scope(run="r-1"), node="a")
            assert gateway.status().interrupted == 10
        assert list((tmp_path / ".flights").iterdir()) == []


def test_killed_at_random_no_committed_sample_is_asked_again() -> None:
    """The whole of it, six kills under load: what is repeated was in flight, and had been reported."""
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "--kills", "6", "--seed", "7", "--json"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == 6
    assert found["committed_repeated"] == found["uncovered_rounds"] == found["wrong"] == 0
    assert found["samples"] == 6 * 450 * 3
    assert 0 < found["repeated"] <= found["reported"] <= 6 * 64 * 3
