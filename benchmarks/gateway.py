"""What a call costs the client: bare aiohttp, the openai SDK, litellm, and Colonnade over both, side by side.

    python benchmarks/gateway.py [--json] [--quick] [--soak] [--clients NAME ...]

Each client runs in a process of its own against one server process; CPU is that of the client, imports and the opening
of connections aside. The Colonnade clients do all that a call in a run does: key, cold cache, coalescing, budget in
dollars, permit, settling, and the commit to an SQLite file before the answer is handed out. Cells are in flight x
latency; --quick measures 256 in flight at no latency alone. --soak adds 100,000 calls in one run and watches its
memory. Two further clients can be named: `direct` (the openai transport of Colonnade without the gateway) and
`sdk_raw` (the SDK's client with bodies written and read by orjson, docs/decisions/0004-openai-transport.md).

With --json the last line is one object; its figures are those of 256 in flight at no latency, the median of the rounds.
`over_sdk_cpu_ms` is what Colonnade costs beyond the SDK alone, below zero where it costs less; `cache_hit_ms` is the
dearer of a hit in memory and one in the database; `peak_mb` is the peak of Colonnade/openai, imports included.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from db.calls import CallStore
    from providers.book import ModelBook
    from providers.gateway import Gateway

Ask = Callable[[int], Awaitable[object]]

PROMPT = "What is the sum of the two numbers? " * 20
CLIENTS = ("aiohttp", "sdk", "litellm", "colonnade_openai", "colonnade_litellm")
FURTHER = ("direct", "sdk_raw")
SLOW = ("litellm", "colonnade_litellm")
CELLS = tuple((in_flight, latency_ms) for latency_ms in (0, 200) for in_flight in (64, 256, 1024))
REFERENCE = (256, 0)
SOAK_CALLS = 100_000


def chat(number: int) -> list[dict[str, str]]:
    """Return the messages of a call; no two are alike."""
    return [{"role": "user", "content": f"{PROMPT}{number}"}]


@asynccontextmanager
async def aiohttp_client(url: str) -> AsyncIterator[Ask]:
    """Do nothing but send and read."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(number: int) -> None:
            body = {"model": "m", "messages": chat(number), "max_tokens": 256}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                await response.json()

        yield ask


@asynccontextmanager
async def sdk_client(url: str) -> AsyncIterator[Ask]:
    """Ask as the SDK's documentation shows, on its aiohttp transport."""
    import httpx
    import openai

    http = openai.DefaultAioHttpClient(limits=httpx.Limits(max_connections=4096))
    async with openai.AsyncOpenAI(base_url=url, api_key="none", http_client=http, max_retries=0) as client:

        async def ask(number: int) -> None:
            messages: Any = chat(number)
            await client.chat.completions.create(model="m", messages=messages, max_tokens=256)

        yield ask


@asynccontextmanager
async def sdk_raw_client(url: str) -> AsyncIterator[Ask]:
    """Use the SDK for headers and connections only."""
    import httpx
    import openai
    import orjson

    http = openai.DefaultAioHttpClient(limits=httpx.Limits(max_connections=4096))
    timeout = httpx.Timeout(600.0, connect=15.0, pool=None)
    async with openai.AsyncOpenAI(base_url=url, api_key="none", http_client=http, max_retries=0) as client:

        async def ask(number: int) -> None:
            body = {"model": "m", "messages": chat(number), "max_tokens": 256}
            response = await client.post(
                "/chat/completions",
                content=orjson.dumps(body),
                cast_to=httpx.Response,
                options={"timeout": timeout},
            )
            orjson.loads(response.content)

        yield ask


@asynccontextmanager
async def litellm_client(url: str) -> AsyncIterator[Ask]:
    """Ask as litellm's documentation shows, by its path for compatible servers, callbacks off."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    # By name, since its types do not say what it exports.
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True
    litellm.telemetry = False

    async def ask(number: int) -> None:
        await litellm.acompletion(
            model="hosted_vllm/m", messages=chat(number), max_tokens=256, api_base=url, api_key="none", max_retries=0
        )

    yield ask
    await litellm.close_litellm_async_clients()


@asynccontextmanager
async def direct_client(url: str) -> AsyncIterator[Ask]:
    """Use Colonnade's own transport without its gateway."""
    from providers.base import Message, Sampling, WireRequest
    from providers.openai_transport import OpenAITransport

    transport = OpenAITransport(url, None, connections=4096)

    async def ask(number: int) -> None:
        messages = (Message("user", f"{PROMPT}{number}"),)
        sampling = Sampling(max_tokens=256)
        await transport.complete(WireRequest(model="m", messages=messages, sampling=sampling, indices=(0,), seeds=(0,)))

    yield ask
    await transport.aclose()


@asynccontextmanager
async def colonnade_client(url: str, transport: str) -> AsyncIterator[Ask]:
    """Ask through the gateway, each answer committed before it is handed out."""
    with tempfile.TemporaryDirectory() as folder:
        book = book_of(url, transport, Path(folder))
        async with opened(book, Path(folder)) as (gateway, _):
            yield through(gateway)


def book_of(url: str, transport: str, folder: Path) -> ModelBook:
    """Write and read a models.yaml with the server's model."""
    import yaml

    from providers.book import ModelBook

    name = "hosted_vllm/m" if transport == "litellm" else "m"
    model = {
        "transport": transport,
        "model": name,
        "base_url": url,
        "price": {"prompt": 1, "completion": 2},
        "limits": {"in_flight": 4096},
    }
    (folder / "models.yaml").write_text(yaml.safe_dump({"models": {"m": model}}), encoding="utf-8")
    return ModelBook.load(folder / "models.yaml", {})


@asynccontextmanager
async def opened(book: ModelBook, folder: Path) -> AsyncIterator[tuple[Gateway, CallStore]]:
    """Open a gateway over an SQLite file, with a budget in dollars."""
    from decimal import Decimal

    from db.calls import CallStore
    from db.database import Database
    from providers.budget import Budget
    from providers.gateway import Gateway

    with Database.open(f"sqlite:///{folder}/calls.db") as database:
        store = CallStore(database)
        async with Gateway(book, store, budget=Budget(dollars=Decimal(10**6))) as gateway:
            yield gateway, store
        store.close()


def through(gateway: Gateway) -> Ask:
    """Return a call by way of the gateway, for an item of its own."""
    from providers.base import Message, Request, Sampling
    from providers.scope import Scope

    sampling = Sampling(max_tokens=256)

    async def ask(number: int) -> None:
        request = Request(model="m", messages=(Message("user", f"{PROMPT}{number}"),), sampling=sampling)
        asked = await gateway.ask(request, 1, scope=Scope("r", str(number)), node="n")
        if asked.failures:
            raise asked.failures[0]

    return ask


def client_of(name: str, url: str) -> Any:
    """Return the client of a name."""
    if name.startswith("colonnade_"):
        return colonnade_client(url, name.removeprefix("colonnade_"))
    plain = {
        "aiohttp": aiohttp_client,
        "direct": direct_client,
        "litellm": litellm_client,
        "sdk": sdk_client,
        "sdk_raw": sdk_raw_client,
    }
    return plain[name](url)


async def drive(ask: Ask, in_flight: int, numbers: range) -> tuple[float, float]:
    """Make calls, so many at once; return CPU and wall seconds."""
    waiting = iter(numbers)

    async def work() -> None:
        for number in waiting:
            await ask(number)

    cpu, wall = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(in_flight):
            tasks.create_task(work())
    return time.process_time() - cpu, time.perf_counter() - wall


def calls_of(name: str, in_flight: int) -> int:
    """Return how many calls make a cell: enough to be steady, few enough to end soon."""
    return max(512, 2 * in_flight) if name in SLOW else max(2_000, 4 * in_flight)


async def cells(name: str, url: str, in_flights: list[int], numbers: int) -> list[dict[str, float]]:
    """Measure one client at each number in flight, connections opened before."""
    rows = []
    async with client_of(name, url) as ask:
        for in_flight in in_flights:
            await drive(ask, in_flight, range(numbers, numbers + in_flight))
            numbers += in_flight
            calls = calls_of(name, in_flight)
            cpu, wall = await drive(ask, in_flight, range(numbers, numbers + calls))
            numbers += calls
            rows.append({"in_flight": in_flight, "cpu_ms": 1000 * cpu / calls, "calls_per_s": calls / wall})
    return rows


async def hits(url: str) -> dict[str, float]:
    """Measure a hit in memory and one in the database, in milliseconds of CPU."""
    calls = 4_000
    with tempfile.TemporaryDirectory() as folder:
        book = book_of(url, "openai", Path(folder))
        async with opened(book, Path(folder)) as (gateway, _):
            await drive(through(gateway), 256, range(calls))
            memory, _ = await drive(through(gateway), 256, range(calls))
        async with opened(book, Path(folder)) as (gateway, _):
            stored, _ = await drive(through(gateway), 256, range(calls))
            if gateway.status().requests:
                raise SystemExit("what was stored was asked again")
    return {"memory_hit_ms": 1000 * memory / calls, "stored_hit_ms": 1000 * stored / calls}


async def soak(url: str) -> dict[str, float]:
    """Make 100,000 calls in one run; return how much memory grew after the first 5,000, in MB."""
    first = 5_000
    with tempfile.TemporaryDirectory() as folder:
        book = book_of(url, "openai", Path(folder))
        async with opened(book, Path(folder)) as (gateway, _):
            await drive(through(gateway), 256, range(first))
            begin = resident_mb()
            cpu, wall = await drive(through(gateway), 256, range(first, SOAK_CALLS))
            end = resident_mb()
    calls = SOAK_CALLS - first
    return {
        "soak_begin_mb": begin,
        "soak_end_mb": end,
        "soak_cpu_ms": 1000 * cpu / calls,
        "soak_calls_per_s": calls / wall,
    }


def resident_mb() -> float:
    """Return the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def child(what: str, url: str, in_flights: list[int], numbers: int) -> None:
    """Do one process's work and print its figures."""
    figures: dict[str, Any]
    if what == "hits":
        figures = asyncio.run(hits(url))
    elif what == "soak":
        figures = asyncio.run(soak(url))
    else:
        figures = {"cells": asyncio.run(cells(what, url, in_flights, numbers))}
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures["litellm_loaded"] = "litellm" in sys.modules
    print(json.dumps(figures))


def leg(what: str, url: str, in_flights: list[int], numbers: int = 0) -> dict[str, Any]:
    """Run one client in a process of its own."""
    order = [what, url, ",".join(map(str, in_flights)), str(numbers)]
    done = subprocess.run([sys.executable, __file__, "--leg", *order], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the leg {what} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


class Server:
    """The server in a process of its own."""

    def __init__(self, latency_ms: int) -> None:
        command = [sys.executable, "-m", "providers.testing_server", "--latency", str(latency_ms / 1000)]
        self._process = subprocess.Popen([*command, "--models", "m"], stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> str:
        if self._process.stdout is None or not (url := self._process.stdout.readline().strip()):
            raise SystemExit("the server did not start")
        return url

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Run all clients in turn, round after round; return medians by client and cell, and the other figures."""
    table: dict[str, dict[tuple[int, int], list[dict[str, float]]]] = {name: {} for name in chosen.clients}
    peaks = dict.fromkeys(chosen.clients, 0.0)
    wanted = [REFERENCE] if chosen.quick else CELLS
    for latency_ms in dict.fromkeys(latency for _, latency in wanted):
        in_flights = [in_flight for in_flight, latency in wanted if latency == latency_ms]
        with Server(latency_ms) as url:
            for round_ in range(1 if latency_ms else chosen.rounds):
                for name in chosen.clients:
                    figures = leg(name, url, in_flights, round_ * 100_000)
                    if name == "colonnade_openai" and figures["litellm_loaded"]:
                        raise SystemExit("litellm was loaded on the path of a compatible server")
                    peaks[name] = max(peaks[name], figures["peak_mb"])
                    for row in figures["cells"]:
                        table[name].setdefault((row["in_flight"], latency_ms), []).append(row)
    with Server(0) as url:
        others = leg("hits", url, [])
        if chosen.soak:
            others |= leg("soak", url, [])
            peaks["colonnade_openai"] = max(peaks.get("colonnade_openai", 0.0), others["peak_mb"])
    medians = {
        name: {
            cell: {what: statistics.median(row[what] for row in rows) for what in ("cpu_ms", "calls_per_s")}
            for cell, rows in of_client.items()
        }
        for name, of_client in table.items()
    }
    return {"table": medians, "peaks": peaks, "others": others}


def report(found: dict[str, Any]) -> None:
    """Print what was measured."""
    table = found["table"]
    columns = list(next(iter(table.values())))
    print(f"{'CPU ms per call':<20}" + "".join(f"{f'{n} / {ms} ms':>14}" for n, ms in columns) + f"{'peak MB':>10}")
    for name, of_client in table.items():
        line = "".join(f"{of_client[cell]['cpu_ms']:14.3f}" for cell in columns)
        print(f"{name:<20}{line}{found['peaks'][name]:10.0f}")
    print("calls per second")
    for name, of_client in table.items():
        print(f"{name:<20}" + "".join(f"{of_client[cell]['calls_per_s']:14,.0f}" for cell in columns))
    others = found["others"]
    print(f"a hit: {others['memory_hit_ms']:.3f} ms in memory, {others['stored_hit_ms']:.3f} ms in the database")
    if "soak_end_mb" in others:
        print(
            f"{SOAK_CALLS:,} calls: {others['soak_begin_mb']:.0f} MB after the first 5,000, "
            f"{others['soak_end_mb']:.0f} MB at the end, peak {others['peak_mb']:.0f} MB; "
            f"{others['soak_cpu_ms']:.3f} ms and {others['soak_calls_per_s']:,.0f} calls per second"
        )


def summary(found: dict[str, Any]) -> dict[str, float]:
    """Return the figures that are compared over time."""
    at = {name: of_client[REFERENCE] for name, of_client in found["table"].items()}
    figures = {f"{name}_cpu_ms": at[name]["cpu_ms"] for name in CLIENTS}
    figures["over_sdk_cpu_ms"] = figures["colonnade_openai_cpu_ms"] - figures["sdk_cpu_ms"]
    figures["calls_per_s"] = at["colonnade_openai"]["calls_per_s"]
    figures["cache_hit_ms"] = max(found["others"]["memory_hit_ms"], found["others"]["stored_hit_ms"])
    figures["peak_mb"] = found["peaks"]["colonnade_openai"]
    return {name: round(value, 3) for name, value in figures.items()}


def main() -> None:
    """Measure, print a table, and with --json a last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="256 in flight at no latency alone")
    parser.add_argument("--soak", action="store_true", help="100,000 calls in one run besides")
    parser.add_argument("--rounds", type=int, default=None, help="of the cells without latency (3; with --quick 1)")
    parser.add_argument("--clients", nargs="+", choices=CLIENTS + FURTHER, default=list(CLIENTS))
    parser.add_argument("--leg", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.leg:
        what, url, in_flights, numbers = chosen.leg
        child(what, url, [int(number) for number in in_flights.split(",") if number], int(numbers))
        return
    if chosen.json and set(CLIENTS) - set(chosen.clients):
        parser.error("--json needs all clients")
    chosen.rounds = chosen.rounds or (1 if chosen.quick else 3)
    found = measure(chosen)
    report(found)
    if chosen.json:
        print(json.dumps(summary(found)))


if __name__ == "__main__":
    main()
