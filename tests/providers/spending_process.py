"""A process that spends from a shared budget as it is told, and can die in the middle; the "call store" is a file.

One line of JSON on stdin is one schedule: `{"budget": …, "calls": [[dollars, tokens, share, fate, pause_ms], …]}`. A
fate is settle, fail, cancel, or crash (the process ends there and then). One line on stdout tells when it is done.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

from db.errors import BudgetExceeded
from providers.budget import Amount
from providers.caps import Account, CapPlan, Caps, Charge
from providers.redis_link import RedisLink
from providers.shared_budget import SharedBudget

URL = "redis://127.0.0.1:6379/0"


def plan_of(told: dict[str, Any]) -> CapPlan:
    """Return the caps of a schedule: a session, a run within it, a key."""
    dollars, tokens, calls = told["caps"]
    return CapPlan(
        session=Account(name=f"study {told['name']}", dollars=Decimal(dollars), tokens=tokens, calls=calls),
        run=Caps(calls=told["run_calls"]),
    )


def store_of(path: Path, account: Account) -> Amount:
    """Return what the file says of an account."""
    total = Amount()
    for line in path.read_text().splitlines() if path.exists() else []:
        run, dollars, tokens = line.split()
        if account.name.startswith("study") or account.name == f"run {run}":
            total = total.plus(Amount(Decimal(dollars), int(tokens), 1))
    return total


async def spend(told: dict[str, Any], store: Path) -> dict[str, int]:
    """Make the calls of a schedule, all at once, and count what became of them."""
    link = RedisLink(URL, prefix=told["prefix"], timeout_s=60)
    budget = SharedBudget(
        link,
        plan_of(told),
        spent_before=lambda account: store_of(store, account),
        lease_s=told["lease_s"],
        grace_s=told["lease_s"] / 2,
    )
    counts = {"settled": 0, "failed": 0, "refused": 0, "cancelled": 0}

    async def call(number: int, dollars: str, tokens: int, share: int, fate: str, pause_ms: int) -> None:
        run = f"{told['name']}-{number % 3}"
        try:
            held = await budget.reserve(Amount(Decimal(dollars), tokens, 1), Charge(run))
        except BudgetExceeded:
            counts["refused"] += 1
            return
        try:
            await asyncio.sleep(pause_ms / 1000)
        except asyncio.CancelledError:
            budget.release(held)
            raise
        if fate == "crash":
            os._exit(9)
        if fate == "fail":
            budget.release(held)
            counts["failed"] += 1
            return
        actual = Amount(Decimal(dollars) * share / 100, tokens * share // 100, 1)
        budget.settle(held, actual)
        with store.open("a") as file:
            file.write(f"{run} {actual.dollars} {actual.tokens}\n")
        counts["settled"] += 1

    async def watch() -> None:
        counts["stood_still_ms"] = 0
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            counts["stood_still_ms"] = max(counts["stood_still_ms"], int(1000 * (now - last)))
            last = now

    watching = asyncio.create_task(watch())
    tasks = {asyncio.create_task(call(number, *one)): one[3] for number, one in enumerate(told["calls"])}
    for number, (task, fate) in enumerate(tasks.items()):
        if fate == "cancel":
            await asyncio.sleep(0.002 * (number % 3))
            task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if task.cancelled():
            counts["cancelled"] += 1
        else:
            task.result()
    await budget.aclose()
    watching.cancel()
    await link.aclose()
    return counts


def main(store: str) -> None:
    """Serve schedules from stdin."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(asyncio.run(spend(json.loads(line), Path(store)))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
