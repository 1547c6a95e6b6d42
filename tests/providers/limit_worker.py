"""A process that asks a server under shared limits; the tests of limits start several."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from providers.adaptive import LocalGovernor
from providers.base import Message, Sampling, WireRequest
from providers.errors import RateLimited
from providers.limits import Limiter
from providers.openai_transport import OpenAITransport
from providers.rates import RateLimits
from providers.redis_link import redis_link
from providers.shared_limits import SharedGovernor
from tests.providers.standstill import Standstill


async def work(job: dict[str, float | str]) -> dict[str, int]:
    """Keep `at_once` requests going until `seconds` have passed; count answers, refusals and round trips to Redis."""
    counts = {"answered": 0, "refused": 0, "exchanges": 0, "late_answered": 0, "late_refused": 0}
    tokens, most = int(job["tokens_each"]), int(job["max_tokens"])
    rates = RateLimits(
        requests=int(job["requests"]) or None, tokens=int(job["tokens"]) or None, window_s=float(job["window"])
    )
    wire = WireRequest(
        model="test-model",
        messages=(Message("user", "x" * (4 * tokens)),),
        sampling=Sampling(max_tokens=most),
        indices=(0,),
        seeds=(1,),
        continue_final=False,
        timeout_s=60.0,
    )
    async with redis_link(str(job["redis"]), str(job["prefix"])) as link:
        assert link is not None
        local = LocalGovernor(int(job["ceiling"]), rates=rates)
        governor = SharedGovernor(link, "e", int(job["ceiling"]), local=local)
        limiter = Limiter(governor)
        transport = OpenAITransport(str(job["url"]), None)
        await transport.list_models()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        began = time.monotonic()

        async def worker() -> None:
            while time.monotonic() - began < float(job["seconds"]):
                late = time.monotonic() - began > float(job["window"])
                try:
                    async with limiter.permit(run="r", tokens=tokens + 8 + most) as permit:
                        reply = await transport.complete(wire)
                        usage = reply.completions[0].usage
                        permit.settle(usage.prompt_tokens + usage.completion_tokens)
                except RateLimited:
                    counts["refused"] += 1
                    counts["late_refused"] += late
                else:
                    counts["answered"] += 1
                    counts["late_answered"] += late

        async with Standstill() as stood, asyncio.TaskGroup() as tasks:
            for _ in range(int(job["at_once"])):
                tasks.create_task(worker())
        counts["stood_still_ms"] = int(1000 * stood.longest_s)
        counts["exchanges"] = governor.exchanges
        await limiter.aclose()
        await transport.aclose()
    return counts


if __name__ == "__main__":
    print(json.dumps(asyncio.run(work(json.loads(sys.argv[1])))))
