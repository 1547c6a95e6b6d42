"""An evaluation that is killed at random and resumed asks for nothing that it had, and ends at the same table."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
from sqlalchemy import text

from db.database import Database
from db.runs import ItemRecord, RunStore
from providers.testing_server import Asking, ModelServer

PROGRAM = Path(__file__).with_name("killed_program.py")
RUN = "r-20261121-000000"
ITEMS = 60
KILLS = 2  # each costs the start of a program, some two seconds of CPU


class Counting:
    """The server's replies, counted by question."""

    def __init__(self) -> None:
        self.served: Counter[str] = Counter()

    def __call__(self, asking: Asking) -> str:
        self.served[asking.prompt] += 1
        return f"Sample {asking.sample}.\nAnswer: {2 * int(asking.prompt.split()[2]) % (97 + asking.sample)}"


async def start(server: ModelServer, database: str) -> asyncio.subprocess.Process:
    arguments = (str(PROGRAM), server.url, database, str(ITEMS))
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)


def committed(url: str) -> set[str]:
    """Return the questions of all calls in the database."""
    with Database.open(url) as database, database.engine.connect() as connection:
        requests = connection.execute(text("SELECT request FROM call")).scalars().all()
    return {orjson.loads(request)["messages"][-1][1] for request in requests}


def table(url: str) -> list[ItemRecord]:
    """Return the results without what no two runs share: latencies, moments, and seconds in the trace."""
    with Database.open(url) as database:
        records = RunStore(database).items(RUN)
    return [
        replace(r, latency_s=0.0, created_at=datetime.fromtimestamp(0, UTC), trace=timeless(r.trace)) for r in records
    ]


def timeless(trace: str) -> str:
    data = orjson.loads(trace)
    data["outcome"].pop("seconds", None)
    return orjson.dumps(data).decode()


async def run_to_the_end(server: ModelServer, database: str) -> None:
    program = await start(server, database)
    await program.communicate()
    assert program.returncode == 0


async def test_killed_and_resumed(tmp_path: Path) -> None:
    killed, undisturbed = f"sqlite:///{tmp_path}/killed.db", f"sqlite:///{tmp_path}/undisturbed.db"
    draw = random.Random(20261121)
    count = Counting()
    kept: dict[str, int] = {}
    async with ModelServer(reply=count, latency_s=0.02, counting=False) as server:
        for _ in range(KILLS):
            program = await start(server, killed)
            assert program.stdout is not None
            for _ in range(draw.randint(1, 12)):
                await program.stdout.readline()
            await asyncio.sleep(draw.uniform(0, 0.03))
            program.send_signal(signal.SIGKILL)
            await program.communicate()
            assert len(kept) < len(committed(killed)) < ITEMS
            kept |= {question: count.served[question] for question in committed(killed) - kept.keys()}
        await run_to_the_end(server, killed)
        assert {question: count.served[question] for question in kept} == kept
        await run_to_the_end(server, undisturbed)
    assert len(table(killed)) == ITEMS
    assert table(killed) == table(undisturbed)
