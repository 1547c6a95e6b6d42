"""What Colonnade's own machinery costs: whole architectures against a local server, beside a bare loop.

    python benchmarks/orchestration.py [--json] [--questions 100] [--latency 0.05] [--repeat 3]

Two shapes, all questions at once: "10 generators, rank 5, fuse" (12 calls a question, 12 requests) and "generate x10,
critique, rank, fuse" (13 calls a question in 4 requests, since the ten samples go out as one request with n=10; with
--no-n in 13). The bare loop makes the same requests with nothing but aiohttp. Every leg runs in a process of its own
against one server process; the figure is that of the median repetition. The Colonnade legs do everything that an
evaluation does: prompts, graph, keys, budget, durable commit of every call, scoring, trace, commit of every item. CPU
is that of the client process after one question has gone before (imports, templates and regular expressions are made
once in a process); memory is its peak, imports included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

GENERATORS = 10
SHAPES: dict[str, dict[str, Any]] = {
    "10 generators, rank 5, fuse": {
        "nodes": [
            {"generate": {"model": [f"m{i}" for i in range(GENERATORS)], "max_tokens": 256}},
            {"rank": {"model": "m0", "keep": 5, "max_tokens": 256}},
            {"fuse": {"model": "m0", "max_tokens": 256}},
        ],
        "calls": GENERATORS + 2,
    },
    "generate x10, critique, rank, fuse": {
        "nodes": [
            {"generate": {"model": "m0", "samples": GENERATORS, "max_tokens": 256}},
            {"critique": {"model": "m0", "max_tokens": 256}},
            {"rank": {"model": "m0", "keep": 5, "max_tokens": 256}},
            {"fuse": {"model": "m0", "max_tokens": 256}},
        ],
        "calls": GENERATORS + 3,
    },
}


def levels(shape: str, n_in_one: bool) -> list[list[tuple[str, int]]]:
    """Return the requests of one question, level by level, each with its model and its n."""
    first = [(f"m{i}", 1) for i in range(GENERATORS)]
    if shape.startswith("generate"):
        first = [("m0", GENERATORS)] if n_in_one else [("m0", 1)] * GENERATORS
    return [first, *([[("m0", 1)]] * (len(SHAPES[shape]["nodes"]) - 1))]


async def bare(url: str, shape: str, questions: int, n_in_one: bool) -> dict[str, float]:
    """Make the same requests with nothing but aiohttp; prompts have the length of the real ones."""
    import aiohttp

    filler = {0: 60, 1: 1_400, 2: 1_400, 3: 1_000}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call(model: str, n: int, prompt: str) -> None:
            body = {"model": model, "n": n, "max_tokens": 256, "messages": [{"role": "user", "content": prompt}]}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                await response.json()

        async def question(number: int) -> None:
            for depth, level in enumerate(levels(shape, n_in_one)):
                prompt = f"{number} {depth} " + "x" * filler[depth]
                async with asyncio.TaskGroup() as group:
                    for model, n in level:
                        group.create_task(call(model, n, prompt))

        await question(questions)
        return await measured(question, questions)


async def colonnade(url: str, shape: str, questions: int, n_in_one: bool) -> dict[str, float]:
    """Evaluate the architecture on that many questions, with everything that an evaluation does."""
    import yaml

    from architectures import compile_architecture, load
    from evals import Item, Task, evaluate_items, make_scorer
    from flows.session import SessionSettings, open_session

    with tempfile.TemporaryDirectory() as folder:
        model = {"transport": "openai", "base_url": url, "capabilities": {"n": n_in_one}, "limits": {"in_flight": 4096}}
        models = {
            f"m{i}": {**model, "model": f"m{i}", "price": {"prompt": 1, "completion": 2}} for i in range(GENERATORS)
        }
        (Path(folder) / "models.yaml").write_text(yaml.safe_dump({"models": models}))
        settings = SessionSettings(
            models=Path(folder) / "models.yaml", database_url=f"sqlite:///{folder}/db.sqlite", caps={"dollars": 1000}
        )
        items = tuple(Item(id=f"q{i}", question=f"{i} " + "x" * 60, gold="1") for i in range(questions + 1))
        task = Task(name="bench", items=items, scorer=make_scorer("stated"))
        architecture = load({"name": "bench", "layers": SHAPES[shape]["nodes"]})
        async with open_session(settings) as session:
            compiled = compile_architecture(architecture.spec, session.book)
            record = session.runs.create(kind="evaluate", name="bench", architecture_id=architecture.id)
            await session.gateway.preflight(["m0"])  # the client's imports, which are no part of a call

            async def evaluate(items: tuple[Item, ...]) -> None:
                done = await evaluate_items(
                    compiled,
                    items,
                    task,
                    session.gateway,
                    session.runs,
                    record.id,
                    architecture_id=architecture.id,
                    concurrency=questions,
                )
                failed = [result.error_message for result in done.results if result.status != "ok"]
                if failed or len(done.results) != len(items):
                    raise SystemExit(f"{len(failed)} items failed: {failed[:1]}")

            await evaluate(items[-1:])
            figures = await measured(lambda _: evaluate(items[:-1]), 1)
            paid = session.gateway.status().paid.calls
            if paid != len(items) * SHAPES[shape]["calls"]:
                raise SystemExit(f"{paid} calls were made, not {len(items) * SHAPES[shape]['calls']}")
            return figures


async def measured(work: Any, times: int) -> dict[str, float]:
    """Run `work(i)` that many times at once; return wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for i in range(times):
            group.create_task(work(i))
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def leg(which: str, url: str, shape: str, questions: int, n_in_one: bool) -> dict[str, float]:
    """Run one leg in a process of its own."""
    order = [which, url, shape, str(questions), str(int(n_in_one))]
    done = subprocess.run([sys.executable, __file__, "--leg", *order], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the leg {order} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def child(which: str, url: str, shape: str, questions: str, n_in_one: str) -> None:
    """Do a leg's work and print its figures."""
    runner = {"bare": bare, "colonnade": colonnade}[which]
    figures = asyncio.run(runner(url, shape, int(questions), bool(int(n_in_one))))
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(figures))


def main() -> None:
    """Measure all shapes and print a table, with --json a last line of the worst figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--no-n", action="store_true", help="send every sample as a request of its own")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--leg", nargs=5, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.leg:
        child(*chosen.leg)
        return
    names = [f"m{i}" for i in range(GENERATORS)]
    command = [sys.executable, "-m", "providers.testing_server", "--latency", str(chosen.latency), "--models", *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().strip() if server.stdout else ""
            if not url:
                raise SystemExit("the server did not start")
            rows = measure(url, chosen)
        finally:
            server.terminate()
    report(rows, chosen)


def measure(url: str, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Run all legs, the two kinds in turn, and take the median by wall time."""
    rows = []
    for shape, what in SHAPES.items():
        legs: dict[str, list[dict[str, float]]] = {"bare": [], "colonnade": []}
        for _ in range(chosen.repeat):
            for which, figures in legs.items():
                figures.append(leg(which, url, shape, chosen.questions, not chosen.no_n))
        middle = {which: sorted(f, key=lambda x: x["wall_s"])[len(f) // 2] for which, f in legs.items()}
        ours, other = middle["colonnade"], middle["bare"]
        calls = chosen.questions * what["calls"]
        rows.append(
            {
                "shape": shape,
                "calls": calls,
                "requests": chosen.questions * sum(len(level) for level in levels(shape, not chosen.no_n)),
                "critical_path_s": chosen.latency * len(what["nodes"]),
                "bare_wall_s": other["wall_s"],
                "wall_s": ours["wall_s"],
                "wall_over_bare": ours["wall_s"] / other["wall_s"],
                "cpu_ms_per_call": statistics.median(1000 * f["cpu_s"] / calls for f in legs["colonnade"]),
                "bare_cpu_ms_per_call": 1000 * other["cpu_s"] / calls,
                "peak_mb": max(f["peak_mb"] for f in legs["colonnade"]),
                "bare_peak_mb": other["peak_mb"],
            }
        )
    return rows


def report(rows: list[dict[str, Any]], chosen: argparse.Namespace) -> None:
    """Print what was measured."""
    for row in rows:
        print(f"{row['shape']}: {row['calls']:,} calls, {row['requests']:,} requests, {chosen.questions} at once")
        for name, unit in (("wall_s", "s"), ("cpu_ms_per_call", "ms"), ("peak_mb", "MB")):
            print(f"  {name:<16} {row[name]:8.2f} {unit}   bare {row[f'bare_{name}']:8.2f} {unit}")
        print(f"  wall over bare   {row['wall_over_bare']:8.2f}     critical path {row['critical_path_s']:.2f} s")
    if chosen.json:
        worst = {name: max(row[name] for row in rows) for name in ("cpu_ms_per_call", "wall_over_bare", "peak_mb")}
        print(json.dumps({name: round(value, 3) for name, value in worst.items()}))


if __name__ == "__main__":
    main()
