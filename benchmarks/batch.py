"""A large batch under `kill -9`: every row once and in order, nothing committed paid again, and in bounded memory.

    python benchmarks/batch.py [--rows 20000] [--kills 5] [--seed 0] [--batch-rows 500] [--json]

`colonnade batch run` takes "generate x3, vote" over the rows, against a server in this process, and is killed at random
moments; the same command goes on. The server keeps its own books: what it billed for each question the first time, and
what it billed again. Of the latter nothing may be for an answer that was committed; what was in flight when a process
died is asked again, for nobody knows of its answer. What the client says it paid must be what the server billed the
first time, to the last digit.

Then `--batch-rows` rows go through a three-level architecture, at once and through a server of batches (0 leaves that
out), and the dollars of the two are compared.

With --json the last line is one object: `rows`, `rows_once`, `paid_twice`, `batch_cost_over_immediate`, `peak_mb` (of
the largest client process), `rows_per_s`, `in_flight_again`, `dollars`, `ledger_dollars`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import yaml

from providers.testing_server import Asking, ModelServer

SAMPLES = 3
PRICE = {"prompt": 1, "completion": 2}
CHUNK = 500


@dataclass(kw_only=True)
class Bill:
    """What the server billed."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0

    @property
    def dollars(self) -> Decimal:
        """By the price in the client's models file."""
        tokens = PRICE["prompt"] * self.prompt_tokens + PRICE["completion"] * self.completion_tokens
        return Decimal(tokens) / 1_000_000


class BillingServer(ModelServer):
    """Keeps apart what it billed for a request the first time and what it billed for it again."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, reply=self._text)
        self.asked: Counter[str] = Counter()
        self.first, self.again = Bill(), Bill()

    def _text(self, asking: Asking) -> str:
        self.asked[asking.prompt] += 1
        number = int(asking.prompt.split()[1])
        return f"Twice {number} is {2 * number}, sample {asking.sample}.\nAnswer: {2 * number}"

    def _book(self, bill: Any) -> None:
        into = self.again if bill.key in self.ledger.by_prompt else self.first
        super()._book(bill)
        into.prompt_tokens += bill.prompt_tokens
        into.completion_tokens += bill.completion_tokens
        into.calls += len(bill.samples)


@dataclass(kw_only=True)
class Found:
    """What came of it."""

    rows: int
    rows_once: int = 0
    paid_twice: int = 0
    in_flight_again: int = 0
    dollars: Decimal = Decimal(0)
    ledger_dollars: Decimal = Decimal(0)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the promises held."""
        return self.rows_once == self.rows and not self.paid_twice and self.dollars == self.ledger_dollars


def prepare(folder: Path, url: str, rows: int) -> list[str]:
    """Write models, architecture and rows; return the command."""
    model = {"transport": "openai", "base_url": url, "model": "test-model", "price": PRICE}
    capable = {"capabilities": {"n": True, "seed": True}, "limits": {"retries": 1, "in_flight": 256}}
    (folder / "models.yaml").write_text(yaml.safe_dump({"models": {"m": {**model, **capable}}}))
    layers = [{"generate": {"model": "m", "samples": SAMPLES, "max_tokens": 64, "seed": 1}}, "vote"]
    (folder / "vote.yaml").write_text(yaml.safe_dump({"name": "vote", "layers": layers}))
    with (folder / "rows.jsonl").open("w") as file:
        file.writelines(json.dumps({"id": k, "number": k, "gold": str(2 * k)}) + "\n" for k in range(rows))
    command = [sys.executable, "-m", "colonnade", "batch", "run", "vote.yaml", "rows.jsonl", "--out", "out.jsonl"]
    command += ["--template", "Question {number} : what is twice {number}?", "--gold", "gold", "--scorer", "numeric"]
    return [*command, "--chunk", str(max(10, min(CHUNK, rows // 20))), "--no-prefect", "--json"]


async def kill_often(folder: Path, rows: int, kills: int, seed: int) -> Found:
    """Run the batch, kill it at random moments, go on, and count."""
    chance, found = random.Random(seed), Found(rows=rows)
    moments = sorted(chance.uniform(0.02, 0.95) for _ in range(kills))
    async with BillingServer(counting=False) as server:
        command = prepare(folder, server.url, rows)
        began = time.perf_counter()
        for moment in (*moments, None):
            before = {prompt: server.asked[prompt] for prompt in committed(folder)}
            ended = await client(folder, command, server, None if moment is None else int(moment * rows * SAMPLES))
            found.paid_twice += sum(server.asked[prompt] - count for prompt, count in before.items())
            print(f"{len(before):9,} questions committed before, {sum(server.asked.values()):,} samples asked: {ended}")
        found.seconds = time.perf_counter() - began
        found.ledger_dollars, found.in_flight_again = server.first.dollars, server.again.calls
    found.dollars, found.rows_once = spent(folder), in_order(folder / "out.jsonl")
    return found


async def client(folder: Path, command: list[str], server: BillingServer, most: int | None) -> str:
    """Run the command, killed once the server was asked for `most` samples; say how it ended."""
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=asyncio.subprocess.PIPE)
    end = asyncio.create_task(process.communicate())
    while most is not None and not end.done() and sum(server.asked.values()) < most:
        await asyncio.wait([end], timeout=0.01)
    if most is not None and not end.done():
        process.kill()
    await end
    if process.returncode not in (0, -9):
        raise SystemExit(f"the batch ended with {process.returncode}")
    return "killed" if process.returncode else "done"


def committed(folder: Path) -> set[str]:
    """Return the questions whose samples are in the database."""
    path = folder / ".colonnade" / "colonnade.db"
    if not path.exists():
        return set()
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT request, COUNT(*) FROM call GROUP BY request HAVING COUNT(*) = ?", (SAMPLES,))
        return {orjson.loads(request)["messages"][-1][1] for request, _ in rows}


def spent(folder: Path) -> Decimal:
    """Add up what the client says that it paid."""
    with closing(sqlite3.connect(folder / ".colonnade" / "colonnade.db")) as database:
        costs = database.execute("SELECT cost, COUNT(*) FROM call GROUP BY cost").fetchall()
    return sum((Decimal(cost) * count for cost, count in costs), Decimal(0))


def in_order(out: Path) -> int:
    """Count the rows that stand in the output where they belong, each once and with the right answer."""
    once = 0
    with out.open() as file:
        for place, line in enumerate(file):
            row = orjson.loads(line)
            once += row["id"] == place and row["score"] == 1.0 and row["calls"] == SAMPLES
    return once


async def both_ways(folder: Path, rows: int) -> float:
    """Run a three-level architecture at once and through batches; return the second's dollars over the first's."""
    from colonnade.batching import make_batch_job, run_batch
    from flows.session import SessionSettings
    from providers.testing_batch_server import BatchServer, Stages

    layers = [
        {"generate": {"model": "m", "samples": SAMPLES, "max_tokens": 64, "seed": 1}},
        {"critique": {"model": "m", "max_tokens": 64, "temperature": 0}},
        {"fuse": {"model": "m", "max_tokens": 64, "temperature": 0}},
    ]
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps({"question": f"What is {k} + {k}?"}) + "\n" for k in range(rows)))
    paid, answers = [], []
    async with BatchServer(stages=Stages(running_s=0.2), counting=False) as server:
        model = {"transport": "openai", "base_url": server.url, "model": "test-model", "price": PRICE}
        capable = {"capabilities": {"n": True, "seed": True}, "batch": {"api": "openai", "poll_s": 0.1}}
        (folder / "models.yaml").write_text(yaml.safe_dump({"models": {"m": {**model, **capable}}}))
        for mode in ("off", "on"):
            settings = SessionSettings.model_validate(
                {
                    "models": folder / "models.yaml",
                    "database_url": f"sqlite:///{folder}/{mode}.db",
                    "batch": mode,
                    "batch_linger_s": 0.5,
                }
            )
            out = folder / f"{mode}.jsonl"
            job = make_batch_job({"name": "three", "layers": layers}, source, settings, out=out, chunk=5_000)
            report = await run_batch(job, prefect=False)
            paid.append(report.spending.paid or Decimal(0))
            answers.append([orjson.loads(line)["answer"] for line in out.open()])
        print(
            f"{rows} rows through three levels: ${paid[0]} at once, ${paid[1]} in {server.batches.batches} batches of "
            f"{server.batches.rows:,} calls; {sum(map(str.__eq__, *answers))} answers are the same"
        )
    return float(paid[1] / paid[0])


def main() -> None:
    """Kill, resume, count; exit with 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-rows", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(kill_often(Path(folder), chosen.rows, chosen.kills, chosen.seed))
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    ratio = None
    if chosen.batch_rows:
        with tempfile.TemporaryDirectory() as folder:
            ratio = asyncio.run(both_ways(Path(folder), chosen.batch_rows))
    print(
        f"{found.rows:,} rows, {found.rows_once:,} once and in order; {found.paid_twice} committed samples paid again, "
        f"{found.in_flight_again} that were in flight; ${found.dollars} by the client, ${found.ledger_dollars} by the "
        f"server; {peak_mb:.0f} MB at most, {found.rows / found.seconds:.0f} rows a second"
    )
    if chosen.json:
        figures = {
            "rows": found.rows,
            "rows_once": found.rows_once,
            "paid_twice": found.paid_twice,
            "batch_cost_over_immediate": ratio,
            "peak_mb": round(peak_mb, 1),
            "rows_per_s": round(found.rows / found.seconds, 1),
            "in_flight_again": found.in_flight_again,
            "dollars": float(found.dollars),
            "ledger_dollars": float(found.ledger_dollars),
        }
        print(json.dumps(figures))
    sys.exit(not found.good)


if __name__ == "__main__":
    main()
