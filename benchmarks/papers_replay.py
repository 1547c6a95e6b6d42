"""What the figures of `papers.py` share: recorded rows, architectures run over recordings, rewards served over HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

from architectures import compile_architecture, load
from architectures.outcome import Outcome
from evals.task import Asking, Item, Score, Scorer
from nodes.base import AnswerKind
from providers.book import ModelBook
from providers.gateway import Gateway
from providers.models import Capabilities, ModelSpec, ReplaySource
from providers.scope import Scope

Row = Mapping[str, Any]
_AT_ONCE = 32


class Figure(NamedTuple):
    """One figure of ours beside what was published and what the data's maker recomputed."""

    group: str
    what: str
    ours: float
    """Percent, save areas."""
    recomputed: float | None = None
    published: float | None = None
    key: str = ""
    """Its name in the JSON object; empty for none."""
    note: str = ""
    digits: int = 1


class Answered(NamedTuple):
    """What an architecture made of an item."""

    item: Item
    outcome: Outcome
    score: Score
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedVerdicts:
    """A scorer that says of a recorded reply what was recorded of it; what it does not know is an error."""

    correct: Mapping[tuple[str, str], bool]
    """By item and text."""
    answer_kind: AnswerKind = "exact"
    name: str = "recorded"

    def models(self) -> tuple[str, ...]:
        """No model is asked."""
        return ()

    async def score(self, item: Item, text: str, asking: Asking | None = None) -> Score:
        """Look the reply up; raises `KeyError` for one that was not recorded."""
        right = self.correct[item.id, text]
        return Score(value=float(right), correct=right, answer=text, reason="as recorded", source=self.name)


def rows(path: Path) -> list[Row]:
    """Read a gzipped JSONL file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write_recording(path: Path, recorded: Iterable[tuple[str, object]]) -> ReplaySource:
    """Write a recording of questions with their replies (a text, a list of texts, or either by model)."""
    with path.open("w", encoding="utf-8") as file:
        for question, replies in recorded:
            file.write(json.dumps({"question": question, "replies": replies}) + "\n")
    return ReplaySource(path=path, text=("replies",))


def replayed(models: Iterable[str], source: ReplaySource) -> dict[str, ModelSpec]:
    """Return models that answer from a recording."""
    return {
        name: ModelSpec(name=name, transport="replay", model=name, replay=source, capabilities=Capabilities(n=True))
        for name in models
    }


async def answer_all(
    architecture: Mapping[str, object],
    models: Mapping[str, ModelSpec],
    items: Sequence[Item],
    scorer: Scorer,
) -> list[Answered]:
    """Run an architecture on all items through the gateway and score what it answers; a failed item is an error."""
    book = ModelBook(dict(models), env={})
    compiled = compile_architecture(load(dict(architecture), book).spec, book)
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(item: Item) -> Answered:
        async with places:
            scope = Scope("papers", item.id)
            outcome = await compiled.run(item.prompt, gateway=gateway, scope=scope, answer_kind=scorer.answer_kind)
            return Answered(item, outcome, await scorer.score(item, outcome.answer), scope.totals().calls)

    async with Gateway(book, None) as gateway, asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(item)) for item in items]
    return [task.result() for task in tasks]


def accuracy(answered: Sequence[Answered]) -> float:
    """Return the mean score in percent."""
    return 100 * sum(one.score.value for one in answered) / len(answered)


def span(interval: tuple[float, float]) -> str:
    """Write an interval of shares in percent."""
    return f"95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def made_by(outcome: Outcome, node: str) -> list[str]:
    """Return the texts of the candidates that a node handed on, in the order of their samples."""
    return [candidate.text for candidate in outcome.trace[node].candidates]


@asynccontextmanager
async def reward_server(reward: Callable[[str, str], float]) -> AsyncIterator[ModelSpec]:
    """Serve recorded rewards as a vLLM reward model does (`/pooling`), by the first and the last message."""

    async def pooling(request: web.Request) -> web.Response:
        messages = (await request.json())["messages"]
        value = reward(messages[0]["content"], messages[-1]["content"])
        return web.json_response({"data": [{"data": [value]}], "usage": {"prompt_tokens": 1, "total_tokens": 1}})

    app = web.Application(client_max_size=2**24)
    app.router.add_post("/pooling", pooling)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield ModelSpec(name="reward", transport="openai", model="reward", base_url=f"http://{host}:{port}/v1")
    finally:
        await runner.cleanup()
