"""One evaluation over several workers: as quick as there are workers, and nothing lost where one is killed.

    make scale-demo
    python scripts/scale_demo.py [--workers 3] [--items 96] [--chunk 16] [--only-kill] [--json]

Needs no Docker, but PostgreSQL and Redis as services (`COLONNADE_DATABASE_URL`, `COLONNADE_REDIS_URL`, else those of
this machine); all of it happens in databases of its own there, which are gone afterwards, also after Ctrl-C and
SIGTERM; what a run that was killed left is removed by the next one. Starts a Prefect server on PostgreSQL with Redis
messaging, workers of a process work pool, and model servers with 300 ms latency.

1. The evaluation in one process without Prefect: the result that the others are held against.
2. The same over 1, 2, … workers, each time with new samples: wall times beside the ideal, which is that of one worker
   divided by their number.
3. Over all workers with a shared rate limit that binds and a shared cap below what is needed; one worker is killed
   (SIGKILL, with what it had started) in mid-run. The cap stops the run.
4. The same job without the cap, on the workers that are left: it goes on with what is missing.

The exit status is 1 where a promise was broken. The last line with --json is one object: `same_result` (every run gave
each item what the one process gave), `over_cap` (calls that were paid for beyond the cap), `cut_off` (calls that the
server answered to a worker that was dead by then: nobody learns of them, so after a minute of doubt the cap lets as
many be made again; `docs/decisions/0005-shared-budget.md`), `lost_items`, `wall_1`, `wall_2`, … (seconds), `ideal_2`,
…, `made_good` (chunks that were given to the pool again), `refused` (429s).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from scale_services import Ending, die_with_parent, fetch, free_port, kill, own_stores, process

if TYPE_CHECKING:
    from flows.evaluate import EvaluateJob, Evaluation
    from flows.session import Caps

POOL = "scale-demo"
LATENCY_S = 0.3
CONCURRENCY = 2
"""Items in flight in one worker."""
REQUESTS_PER_MINUTE = 600
"""What the limited server allows; three workers could ask about twice as often."""
LAYERS = [
    {"generate": {"model": "MODEL", "samples": 2, "max_tokens": 64}},
    {"critique": {"model": "MODEL"}},
    {"fuse": {"model": "MODEL"}},
]
CALLS_PER_ITEM = 4
AT_ONCE = 2 * CONCURRENCY
"""Calls that one worker has under way at most: an item draws its two samples side by side."""
BIN = Path(sys.executable).parent
BEGAN = time.monotonic()


class Place(NamedTuple):
    """Where a demonstration happens."""

    folder: Path
    database_url: str
    environment: dict[str, str]
    """What the processes of the demonstration see, this one included."""
    ending: Ending


def say(text: str) -> None:
    """Tell how far it is, on stderr."""
    print(f"{time.monotonic() - BEGAN:6.1f} s  {text}", file=sys.stderr, flush=True)


@contextmanager
def prefect_server(folder: Path, ending: Ending) -> Iterator[Place]:
    """Start Prefect's server on PostgreSQL with Redis messaging."""
    with ExitStack() as stack:
        database, prefect_database, redis, prefect_redis = stack.enter_context(own_stores())
        api = f"http://127.0.0.1:{free_port()}/api"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "COLONNADE_"))},
            "PATH": f"{BIN}:{os.environ.get('PATH', '')}",
            "DO_NOT_TRACK": "1",
            "PREFECT_API_URL": api,
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "COLONNADE_DATABASE_URL": database,
            "COLONNADE_REDIS_URL": redis,
        }
        server = {
            "PREFECT_API_DATABASE_CONNECTION_URL": prefect_database,
            "PREFECT_MESSAGING_BROKER": "prefect_redis.messaging",
            "PREFECT_MESSAGING_CACHE": "prefect_redis.messaging",
            "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
            "PREFECT_REDIS_MESSAGING_URL": prefect_redis,
            "PREFECT_SERVER_DOCKET_URL": prefect_redis,
        }
        port = api.rpartition(":")[2].partition("/")[0]
        command = [BIN / "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
        log = folder / "server.log"
        started = stack.enter_context(process(*command, environment={**environment, **server}, log=log))

        def answers() -> bool:
            if started.poll() is not None:
                raise SystemExit(f"Prefect's server did not start:\n{log.read_text('utf-8', 'replace')[-3000:]}")
            return fetch(f"{api}/health") is True

        ending.wait_for("Prefect's server", answers)
        # This process shares with its workers what they see, and nothing else: not a prefix of Redis of its own.
        for name in [name for name in os.environ if name.startswith(("PREFECT_", "COLONNADE_"))]:
            del os.environ[name]
        os.environ.update({name: value for name, value in environment.items() if name != "PATH"})
        yield Place(folder, database, environment, ending)


class Workers:
    """A pool and its workers, one flow run at a time each."""

    def __init__(self, place: Place, stack: ExitStack) -> None:
        from prefect.workers.process import ProcessWorker

        self._place, self._stack = place, stack
        self.started: list[subprocess.Popen[bytes]] = []
        template = ProcessWorker.get_default_base_job_template()
        # Without a command of its own a pool starts a second Python for each flow run, to prepare the first.
        template["variables"]["properties"]["command"]["default"] = f"{sys.executable} -m prefect.engine"
        pool = {"name": POOL, "type": "process", "base_job_template": template}
        fetch(f"{place.environment['PREFECT_API_URL']}/work_pools/", pool)

    def add(self) -> None:
        """Start one more, and wait until the server has heard of it."""
        number = len(self.started) + 1
        command = [BIN / "prefect", "worker", "start", "--type", "process", "--pool", POOL, "--limit", 1]
        log = self._place.folder / f"worker-{number}.log"
        running = process(*command, "--name", f"w{number}", environment=self._place.environment, log=log)
        self.started.append(self._stack.enter_context(running))
        url = f"{self._place.environment['PREFECT_API_URL']}/work_pools/{POOL}/workers/filter"
        self._place.ending.wait_for(f"Worker {number}", lambda: len(fetch(url, {})) == number)


class ModelServers:
    """Servers that give the same answers: at once, slowly, and slowly with a limit that they enforce."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        rate = ["--requests-per-minute", str(REQUESTS_PER_MINUTE)]
        slow = ["--latency", str(LATENCY_S)]
        self.urls = {
            name: self._start(stack, *options)
            for name, options in {"quick": [], "slow": slow, "limited": [*slow, *rate]}.items()
        }
        self.book = folder / "models.yaml"
        shared = {"transport": "openai", "model": "test-model", "capabilities": {"n": False}}
        models = {
            name: {**shared, "base_url": url, "price": {"prompt": 1, "completion": 2}}
            for name, url in self.urls.items()
        }
        models["limited"]["limits"] = {"requests_per_minute": REQUESTS_PER_MINUTE}
        self.book.write_text(json.dumps({"models": models}), "utf-8")

    def ledger(self, name: str) -> dict[str, Any]:
        """Return a server's own books."""
        return dict(fetch(f"{self.urls[name].removesuffix('/v1')}/ledger"))

    def _start(self, stack: ExitStack, *options: str) -> str:
        command = [sys.executable, "-m", "providers.testing_server", "--stateless", *options]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent())
        stack.callback(server.wait)
        stack.callback(server.terminate)
        assert server.stdout is not None
        return server.stdout.readline().strip()


class Demonstration:
    """The runs, and what came of them."""

    def __init__(self, place: Place, servers: ModelServers, workers: Workers, *, items: int, chunk: int) -> None:
        self._place, self._servers, self._workers = place, servers, workers
        self._items, self._chunk = items, chunk
        self._task = place.folder / "task.jsonl"
        rows = [{"id": f"i{k}", "question": f"What is {k} + {k}?", "gold": str(2 * k)} for k in range(items)]
        self._task.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        self._expected: dict[str, object] = {}
        self.figures: dict[str, Any] = {"same_result": True, "over_cap": 0, "lost_items": 0}

    def job(self, model: str, series: str, *, caps: Caps | None = None, concurrency: int = CONCURRENCY) -> EvaluateJob:
        """Return the evaluation, asked of one of the servers, with samples of its own."""
        from colonnade.evaluating import make_job
        from flows.evaluate import TaskChoice
        from flows.session import Caps, SessionSettings

        layers = json.loads(json.dumps(LAYERS).replace("MODEL", model))
        settings = SessionSettings(models=self._servers.book, caps=caps or Caps(), caps_per_run=True)
        return make_job(
            {"name": "critic", "layers": layers},
            TaskChoice(name=str(self._task)),
            settings,
            concurrency=concurrency,
            chunk=self._chunk,
            fresh=series,
        )

    async def in_one_process(self) -> None:
        """Find the result that the others are held against."""
        from colonnade.evaluating import run_jobs

        [evaluation] = await run_jobs([self.job("quick", "", concurrency=32)], prefect=False)
        self._expected = told(evaluation)
        say(f"One process without Prefect: {len(self._expected)} items.")

    async def over(self, workers: int) -> None:
        """Time the evaluation over so many workers."""
        evaluation = await self._spread(self.job("slow", f"over {workers}"))
        wall, one = round(evaluation.seconds, 2), self.figures.get("wall_1", evaluation.seconds)
        self.figures[f"wall_{workers}"] = wall
        self.figures[f"ideal_{workers}"] = round(one / workers, 2)
        self._compare(evaluation)
        say(f"{workers} worker(s): {wall:.1f} s; ideal {one / workers:.1f} s.")

    async def with_a_kill(self) -> None:
        """Kill a worker in mid-run, under a shared rate limit and a cap; then go on without the cap."""
        from db.calls import CallStore
        from db.database import Database
        from flows.session import Caps

        cap = int(0.8 * CALLS_PER_ITEM * self._items)
        killer = asyncio.create_task(asyncio.to_thread(self._kill_a_busy_one))
        stopped = await self._spread(self.job("limited", "", caps=Caps(calls=cap)))
        await killer
        answered = self._servers.ledger("limited")["calls"]
        with Database.open(self._place.database_url) as database:
            stored = CallStore(database).spent(stopped.run_id).calls
        self.figures["over_cap"] = max(0, stored - cap)
        self.figures["cut_off"] = answered - stored
        say(
            f"With a kill: {stopped.status} after {len(stopped.results)} items, {stored} of {cap} calls paid, "
            f"{answered - stored} more answered to the dead worker."
        )
        done = await self._spread(self.job("limited", ""))
        self._compare(done)
        self.figures["lost_items"] = self._items - sum(record.status == "ok" for record in done.results)
        self.figures["made_good"] = self._made_good()
        self.figures["refused"] = self._servers.ledger("limited")["faults"].get("rate", 0)
        say(f"Without the cap: {done.status}, {len(done.results)} of {self._items} items.")

    def good(self) -> bool:
        """Say whether the promises held."""
        found = self.figures
        kept = not found["over_cap"] and 0 <= found["cut_off"] <= AT_ONCE
        return bool(found["same_result"] and kept and not found["lost_items"] and found["made_good"])

    async def _spread(self, job: EvaluateJob) -> Evaluation:
        from colonnade.evaluating import run_jobs

        [evaluation] = await run_jobs([job], pool=POOL)
        return evaluation

    def _kill_a_busy_one(self) -> None:
        self._place.ending.wait_for("The run", self._all_are_busy)
        kill(self._workers.started[0], signal.SIGKILL)
        say("Worker 1 was killed.")

    def _all_are_busy(self) -> bool:
        running = self._chunks({"name": {"like_": "-chunk-"}, "state": {"type": {"any_": ["RUNNING"]}}})
        return running >= len(self._workers.started) and self._servers.ledger("limited")["calls"] > 0

    def _made_good(self) -> int:
        return self._chunks({"name": {"like_": "-go-"}})

    def _chunks(self, which: dict[str, Any]) -> int:
        url = f"{self._place.environment['PREFECT_API_URL']}/flow_runs/filter"
        return len(fetch(url, {"flow_runs": which, "limit": 200}))

    def _compare(self, evaluation: Evaluation) -> None:
        if told(evaluation) != self._expected:
            self.figures["same_result"] = False
            say(f"Run {evaluation.run_id} ({evaluation.status}) gave another result.")


def told(evaluation: Evaluation) -> dict[str, object]:
    """Return what an evaluation says of each item, without what it took."""
    return {
        record.item_id: (record.status, record.answer, record.output, record.score, record.correct, record.calls_used)
        for record in evaluation.results
    }


async def demonstrate(demonstration: Demonstration, workers: Workers, most: int, *, timed: bool) -> None:
    """Make all runs, or all but those that are timed."""
    await demonstration.in_one_process()
    for number in range(1, most + 1):
        await asyncio.to_thread(workers.add)
        if timed:
            await demonstration.over(number)
    await demonstration.with_a_kill()


def main() -> None:
    """Start everything, make the runs, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--items", type=int, default=96)
    parser.add_argument("--chunk", type=int, default=16)
    parser.add_argument("--only-kill", action="store_true", help="leave out the runs that are timed")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    ending = Ending()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = ModelServers(folder, stack)
        place = stack.enter_context(prefect_server(folder, ending))
        say("Prefect's server is up.")
        workers = Workers(place, stack)
        demonstration = Demonstration(place, servers, workers, items=chosen.items, chunk=chosen.chunk)
        try:
            ending.run(demonstrate(demonstration, workers, chosen.workers, timed=not chosen.only_kill))
        except BaseException:
            for log in sorted(folder.glob("*.log")):
                say(f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-3000:]}")
            raise
        figures, good = demonstration.figures, demonstration.good()
    for name, value in figures.items():
        print(f"{name:12} {value}")
    if chosen.json:
        print(json.dumps(figures))
    sys.exit(not good)


if __name__ == "__main__":
    main()
