"""Whether several processes use what an endpoint allows, and how rarely they are refused.

    python benchmarks/limits.py [--json] [--minutes 3] [--processes 4] [--requests 300] [--tokens 60000] [--counting …]

A server enforces requests and tokens per minute over a sliding window (`--fixed`: over windows that begin anew). The
processes ask it through gateways of their own, as fast as they are let, with limits that they share through Redis
(`COLONNADE_REDIS_URL`). Figures are of the server's own ledger, after the first minute. Permits are timed first, in
one process: without waiting, with 512 tasks on 64 permits, and the same shared through Redis.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from providers import Gateway, Message, ModelBook, Request, Sampling, Scope
from providers.adaptive import LocalGovernor
from providers.limits import Governor, Limiter
from providers.rates import RateLimits
from providers.redis_link import URL_VARIABLE, redis_link
from providers.shared_limits import SharedGovernor
from providers.testing_server import ModelServer
from providers.testing_window import RateWindow

REDIS = os.environ.get(URL_VARIABLE) or "redis://127.0.0.1:6379/0"


async def work(models: str, prefix: str, seconds: float, tokens: int) -> None:
    """Ask new questions of about `tokens` tokens through a gateway until the time is up."""
    book, number = ModelBook.load(Path(models), {}), 0
    async with redis_link(REDIS, prefix) as link, Gateway(book, None, link=link) as gateway:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        until = time.monotonic() + seconds

        async def worker() -> None:
            nonlocal number
            while time.monotonic() < until:
                number += 1
                text = f"{os.getpid()} {number} " + "x" * (4 * (tokens - 30))
                request = Request(
                    model="m", messages=(Message("user", text),), sampling=Sampling(max_tokens=64, temperature=1.0)
                )
                await gateway.ask(request, scope=Scope("r", str(number)), node="n")

        async with asyncio.TaskGroup() as tasks:
            for _ in range(32):
                tasks.create_task(worker())


async def measure(chosen: argparse.Namespace) -> dict[str, float]:
    """Run the processes against a server of rates; return shares of what is allowed and of what was refused."""
    window = RateWindow(chosen.requests, chosen.tokens, fixed=chosen.fixed, counting=chosen.counting)
    prefix = f"{{limits-{uuid.uuid4().hex[:8]}}}:"
    with tempfile.TemporaryDirectory() as folder:
        async with ModelServer(latency_s=chosen.latency, window=window) as server:
            models = Path(folder) / "models.yaml"
            limits = f"{{requests_per_minute: {chosen.requests}, tokens_per_minute: {chosen.tokens}, retries: 20}}"
            models.write_text(
                f"models:\n  m: {{transport: openai, model: test-model, base_url: '{server.url}', limits: {limits}}}\n"
            )
            seconds = 60.0 * chosen.minutes
            job = [str(models), prefix, str(seconds), str(chosen.each)]
            command = [sys.executable, __file__, "--work", *job]
            pipe = subprocess.PIPE
            processes = [
                await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe) for _ in range(chosen.processes)
            ]
            for process in processes:
                assert process.stdin is not None
                assert process.stdout is not None
                await process.stdout.readline()
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(b"go\n")
            await asyncio.sleep(60.0)
            first = _seen(server)
            await asyncio.sleep(seconds - 60.0)
            last = _seen(server)
            for process in processes:
                process.kill()
                await process.wait()
    answered, tokens, refused = (after - before for after, before in zip(last, first, strict=True))
    minutes = chosen.minutes - 1
    return {
        "requests_used": answered / (chosen.requests * minutes),
        "tokens_used": tokens / (chosen.tokens * minutes),
        "refused": refused / max(1, answered + refused),
        "refused_in_first_minute": first[2],
    }


def _seen(server: ModelServer) -> tuple[int, int, int]:
    ledger = server.ledger
    return ledger.answered, ledger.prompt_tokens + ledger.completion_tokens, ledger.faults["rate"]


async def permits() -> dict[str, float]:
    """Return microseconds of CPU for a permit."""
    many = RateLimits(requests=10**9, tokens=10**12)
    async with redis_link(REDIS, f"{{limits-{uuid.uuid4().hex[:8]}}}:") as link:
        assert link is not None
        shared = SharedGovernor(link, "e", 64, local=LocalGovernor(64))
        return {
            "permit_us": await _timed(LocalGovernor(64), tasks=1),
            "permit_with_rates_us": await _timed(LocalGovernor(64, rates=many), tasks=1),
            "permit_contended_us": await _timed(LocalGovernor(64), tasks=512) - await _timed(None, tasks=512),
            "permit_shared_contended_us": await _timed(shared, tasks=512) - await _timed(None, tasks=512),
        }


async def _timed(governor: Governor | None, *, tasks: int, permits: int = 51_200) -> float:
    limiter = Limiter(governor) if governor is not None else None

    async def worker(number: int) -> None:
        for _ in range(permits // tasks):
            if limiter is None:
                await asyncio.sleep(0)
                continue
            async with limiter.permit(run=f"r{number % 4}", tokens=100) as permit:
                if tasks > 1:
                    await asyncio.sleep(0)
                permit.settle(50)

    started = time.process_time()
    async with asyncio.TaskGroup() as group:
        for number in range(tasks):
            group.create_task(worker(number))
    spent = time.process_time() - started
    if limiter is not None:
        await limiter.aclose()
    return spent / permits * 1e6


def main() -> None:
    """Read the command line and print the figures."""
    if sys.argv[1:2] == ["--work"]:
        models, prefix, seconds, each = sys.argv[2:]
        asyncio.run(work(models, prefix, float(seconds), int(each)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--minutes", type=int, default=3)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=60_000)
    parser.add_argument("--each", type=int, default=180, help="tokens of a prompt")
    parser.add_argument("--latency", type=float, default=1.0, help="seconds before every answer")
    parser.add_argument("--counting", choices=["asked", "held", "used"], default="used")
    parser.add_argument("--fixed", action="store_true")
    chosen = parser.parse_args()
    figures = {**asyncio.run(permits()), **asyncio.run(measure(chosen))}
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:28} {value:8.4f}")


if __name__ == "__main__":
    main()
