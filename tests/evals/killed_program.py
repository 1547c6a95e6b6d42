"""A program that evaluates sums and may be killed at any moment: `killed_program.py SERVER_URL DATABASE_URL ITEMS`.

Run by `test_killed.py`; prints a line for each item that is done.
"""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal

from architectures import compile_architecture, preset
from db.calls import CallStore
from db.database import Database
from db.runs import ItemRecord, RunStore
from evals import Item, Task, evaluate_items, make_scorer
from providers.book import ModelBook
from providers.gateway import Gateway
from providers.models import Capabilities, ModelSpec
from providers.prices import Price

RUN = "r-20261121-000000"


def say(record: ItemRecord) -> None:
    """Tell the parent."""
    print(record.item_id, flush=True)


async def main(server: str, database_url: str, count: int) -> None:
    """Evaluate."""
    spec = ModelSpec(
        name="m",
        transport="openai",
        model="test-model",
        base_url=server,
        capabilities=Capabilities(n=True),
        price=Price(prompt=Decimal(1), completion=Decimal(2)),
    )
    book = ModelBook({"m": spec}, env={})
    items = tuple(
        Item(id=f"sum-{i:03}", question=f"What is {i} plus {i}?", gold=str(2 * i % 100)) for i in range(count)
    )
    task = Task(name="sums", items=items, scorer=make_scorer("numeric"))
    compiled = compile_architecture(preset("self-consistency", model="m", samples=3), book)
    with Database.open(database_url) as database:
        store = RunStore(database)
        store.create(kind="evaluate", name="sums", run_id=RUN)
        async with Gateway(book, CallStore(database)) as gateway:
            await evaluate_items(
                compiled,
                items,
                task,
                gateway,
                store,
                RUN,
                architecture_id=compiled.spec.id,
                concurrency=4,
                on_item=say,
            )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
