"""`kill -9` at random moments under load: what is asked again, and whether the number that is reported covers it.

    python benchmarks/kills.py [--kills 20] [--seed 0] [--json]

A worker process asks three samples of each of many questions, 64 questions at once, through the gateway and into an
SQLite file, from a server in this process that takes down every sample that it is asked for. The worker is killed at a
random moment, and the next one goes on over the same file, until it has been killed so often; the last one ends the
work. The exit status is 1 where a committed sample was asked for again, where more was asked again than was reported
as cut off, or where an answer at the end is not the one that belongs there.

With --json the last line is one object: `kills`, `samples`, `committed_repeated`, `repeated`, `reported`,
`uncovered_rounds` (those that repeated more than had been reported), `wrong`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import orjson

from providers.testing_server import Asking, ModelServer

if TYPE_CHECKING:
    from aiohttp import web

SAMPLES = 3
AT_ONCE = 64
LATENCY_S = 0.05
LONGEST_S = 0.4
"""A worker is killed at most so long after its first request."""
ITEMS_A_KILL = 450
FIRST_SEED = 1
_REPORTED = re.compile(r"cut off with (\d+) samples")


class Wanted(NamedTuple):
    """A sample as the server knows it."""

    prompt: str
    number: int


@dataclass(kw_only=True)
class Found:
    """What came of it."""

    kills: int = 0
    samples: int = 0
    committed_repeated: int = 0
    repeated: int = 0
    reported: int = 0
    uncovered_rounds: int = 0
    wrong: int = 0
    rounds: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether the promises held."""
        return not (self.committed_repeated or self.uncovered_rounds or self.wrong)


class WatchedServer(ModelServer):
    """Takes down every sample that is asked for, when the request comes in."""

    def __init__(self) -> None:
        super().__init__(latency_s=LATENCY_S, reply=answer)
        self.asked: list[Wanted] = []
        self.first = asyncio.Event()

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        begin = body["seed"] - FIRST_SEED
        prompt = body["messages"][-1]["content"]
        self.asked += [Wanted(prompt, index) for index in range(begin, begin + body.get("n", 1))]
        self.first.set()
        return await super()._chat(request)


def answer(asking: Asking) -> str:
    """Return the one right answer to a question and sample."""
    return f"{asking.prompt} has the answer {asking.sample - FIRST_SEED}"


async def kill_often(kills: int, seed: int, folder: Path) -> Found:
    """Kill workers, let the last one end, and count."""
    chance, found, seen, reported = random.Random(seed), Found(), set[Wanted](), 0
    database, models = folder / "calls.db", folder / "models.yaml"
    async with WatchedServer() as server:
        models.write_text(
            f"models: {{m: {{transport: openai, model: test-model, base_url: '{server.url}', "
            f"capabilities: {{n: true, seed: true}}, limits: {{in_flight: {AT_ONCE}}}}}}}",
            encoding="utf-8",
        )
        while True:
            last = found.kills >= kills
            committed = stored(database)
            server.asked, server.first = [], asyncio.Event()
            output, errors = await work(server, database, models, kills, None if last else chance)
            again = [sample for sample in server.asked if sample in seen]
            reported = sum(int(number) for number in _REPORTED.findall(errors))
            found.committed_repeated += sum(sample in committed for sample in server.asked)
            found.repeated += len(again)
            found.reported += reported
            found.uncovered_rounds += len(again) > reported
            found.rounds.append(
                f"{len(committed):6,} stored before, {len(server.asked):5,} asked for, {len(again):4} of them again, "
                f"{reported:4} reported"
            )
            seen.update(server.asked)
            if last or output:
                break
            found.kills += 1
    end = json.loads(output)
    found.samples, found.wrong = end["samples"], end["wrong"]
    return found


async def work(
    server: WatchedServer, database: Path, models: Path, kills: int, chance: random.Random | None
) -> tuple[str, str]:
    """Run one worker, killed at a random moment where there is chance; return its output and its log."""
    order = [str(models), str(database), str(ITEMS_A_KILL * kills)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        "--work",
        *order,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    if chance is not None:
        async with asyncio.timeout(120):
            await server.first.wait()
        await asyncio.sleep(chance.uniform(0, LONGEST_S))
        if process.returncode is None:
            process.kill()
    output, errors = await process.communicate()
    if process.returncode not in (0, -9):
        raise SystemExit(f"the worker failed:\n{errors.decode()[-3000:]}")
    return output.decode(), errors.decode()


def stored(database: Path) -> set[Wanted]:
    """Return the samples that are committed."""
    if not database.exists():
        return set()
    with closing(sqlite3.connect(database)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'call'").fetchall()
        rows = connection.execute("SELECT response, sample_index FROM call").fetchall() if tables else []
    return {Wanted(orjson.loads(response)["text"].rpartition(" has the answer ")[0], index) for response, index in rows}


def worker(models: Path, database: Path, items: int) -> None:
    """Ask for everything; print how many samples came and how many are wrong."""
    import logging

    from db.calls import CallStore
    from db.database import Database
    from providers import Gateway, Message, ModelBook, Request, Sampling, Scope

    logging.basicConfig(level=logging.WARNING)
    texts: dict[int, list[str]] = {}
    waiting = iter(range(items))

    async def ask(gateway: Gateway) -> None:
        for number in waiting:
            messages = (Message("user", f"Question {number}"),)
            request = Request(model="m", messages=messages, sampling=Sampling(seed=FIRST_SEED))
            asked = await gateway.ask(request, SAMPLES, scope=Scope("r", str(number)), node="n")
            texts[number] = [sample.completion.text for sample in asked.samples]

    async def everything() -> None:
        with Database.open(f"sqlite:///{database}") as opened:
            store = CallStore(opened)
            async with Gateway(ModelBook.load(models, {}), store) as gateway, asyncio.TaskGroup() as tasks:
                for _ in range(AT_ONCE):
                    tasks.create_task(ask(gateway))
            store.close()

    asyncio.run(everything())
    wrong = sum(
        text != f"Question {number} has the answer {index}"
        for number in range(items)
        for index, text in enumerate([*texts[number], *[""] * SAMPLES][:SAMPLES])
    )
    print(json.dumps({"samples": sum(map(len, texts.values())), "wrong": wrong}))


def main() -> None:
    """Kill, resume, count; exit with 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.work:
        models, database, items = chosen.work
        worker(Path(models), Path(database), int(items))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(kill_often(chosen.kills, chosen.seed, Path(folder)))
    for number, line in enumerate(found.rounds, 1):
        print(f"{number:3}: {line}")
    print(
        f"{found.kills} kills, {found.samples:,} samples: {found.committed_repeated} committed ones asked for again, "
        f"{found.repeated} that were in flight, of {found.reported} that were reported; {found.wrong} wrong at the end"
    )
    if chosen.json:
        print(json.dumps({name: value for name, value in asdict(found).items() if name != "rounds"}))
    sys.exit(not found.good)


if __name__ == "__main__":
    main()
