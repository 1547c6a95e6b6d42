"""Short ways to ask a gateway, for the tests beside it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from db.calls import CallStore
from db.database import Database
from providers import Gateway, Message, ModelBook, Request, Sampling, Scope
from providers.testing_server import ModelServer

PLAIN = "price: {prompt: 1, completion: 2}\n    limits: {retries: 8}"


def book_of(server: ModelServer, folder: Path, more: str = PLAIN, *, env: dict[str, str] | None = None) -> ModelBook:
    """Return a book with one alias `m` that lives on a server."""
    path = folder / "models.yaml"
    text = f"models:\n  m:\n    transport: openai\n    model: test-model\n    base_url: {server.url}\n    {more}\n"
    path.write_text(text, encoding="utf-8")
    return ModelBook.load(path, env or {})


def request(text: str = "What is 2 + 3?", *, model: str = "m", **sampling: object) -> Request:
    """Return a request of one user message."""
    drawn = Sampling(**sampling)  # type: ignore[arg-type]  # the names are those of Sampling
    return Request(model=model, messages=(Message("user", text),), sampling=drawn)


def scope(item: str = "1", run: str = "r-1", *, fresh: str = "") -> Scope:
    """Return the scope of one item."""
    return Scope(run, item, fresh=fresh)


async def small_evaluation(book: ModelBook, database: Database, items: int) -> dict[int, tuple[list[str], int]]:
    """Ask three samples for each item, 16 items at once; return texts and paid calls by item."""
    table: dict[int, tuple[list[str], int]] = {}
    numbers = iter(range(items))

    async def worker(gateway: Gateway) -> None:
        for number in numbers:
            mine = scope(str(number))
            got = await gateway.ask(request(f"question {number}", seed=1), 3, scope=mine, node="a")
            table[number] = [sample.completion.text for sample in got.samples], mine.totals().paid_calls

    async with Gateway(book, CallStore(database)) as gateway, asyncio.TaskGroup() as tasks:
        for _ in range(16):
            tasks.create_task(worker(gateway))
    return dict(sorted(table.items()))


def main(models: str, url: str, items: str) -> None:
    """Run the small evaluation as a process that can be killed."""
    with Database.open(url) as database:
        asyncio.run(small_evaluation(ModelBook.load(Path(models), {}), database, int(items)))


if __name__ == "__main__":
    main(*sys.argv[1:])
