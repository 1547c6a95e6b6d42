"""What a reservation and its settlement cost: CPU and wall time of one call's part, alone and with many in flight.

    python benchmarks/budget.py [--redis redis://127.0.0.1:6379/0]

The accounts are four: session, run, day and key. The last line is JSON. Without a Redis that answers, only the budget
of one process is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import time
from decimal import Decimal

from db.errors import ConfigError
from providers.budget import Amount, Budget
from providers.caps import Account, CapPlan, Caps, Charge, KeyCaps
from providers.redis_link import RedisLink
from providers.shared_budget import SharedBudget

WORST, ACTUAL = Amount(Decimal("0.01"), 400, 1), Amount(Decimal("0.003"), 120, 1)
CHARGE = Charge("r-1", "A_KEY#1")


def plan() -> CapPlan:
    """Return caps that are never reached."""
    caps = Caps(dollars=Decimal(1_000_000), tokens=10**12, calls=10**9)
    session = Account(name="session", dollars=caps.dollars, tokens=caps.tokens, calls=caps.calls)
    return CapPlan(session=session, run=caps, day=caps, keys={"A_KEY": KeyCaps(**caps.model_dump())})


async def measure(budget: Budget, calls: int, in_flight: int) -> dict[str, float]:
    """Reserve and settle; microseconds for each call."""
    numbers = iter(range(calls))

    async def worker() -> None:
        for _ in numbers:
            budget.settle(await budget.reserve(WORST, CHARGE), ACTUAL)

    await worker_once(budget)
    wall, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(in_flight):
            tasks.create_task(worker())
    return {
        "cpu_us": round((time.process_time() - cpu) / calls * 1e6, 2),
        "wall_us": round((time.perf_counter() - wall) / calls * 1e6, 2),
    }


async def worker_once(budget: Budget) -> None:
    """Make the accounts known."""
    budget.release(await budget.reserve(WORST, CHARGE))


async def main(url: str) -> None:
    """Measure and print."""
    found: dict[str, dict[str, float]] = {"process": await measure(Budget(plan=plan()), 50_000, 256)}
    link = RedisLink(url, prefix=f"{{b{secrets.token_hex(4)}}}:")
    try:
        await link.check()
    except ConfigError as error:
        print(error)
    else:
        for in_flight in (1, 64, 256):
            budget = SharedBudget(link, plan())
            found[f"redis_{in_flight}"] = await measure(budget, 4_000, in_flight)
            await budget.aclose()
        await wipe(link)
    await link.aclose()
    for name, figures in found.items():
        print(f"{name:<10} {figures['cpu_us']:>8.2f} µs CPU  {figures['wall_us']:>8.2f} µs wall")
    print(json.dumps(found))


async def wipe(link: RedisLink) -> None:
    """Take away what the measurement left."""
    keys = await link.call("KEYS", link.prefix + "*")
    for key in keys if isinstance(keys, list) else []:
        if isinstance(key, bytes):
            await link.call("DEL", key)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/0")
    asyncio.run(main(parser.parse_args().redis))
