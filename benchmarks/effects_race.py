"""Wall time of short-m@k against a majority of k, from a server on which every token takes a fixed time.

The server answers chat completions over HTTP with replies that were made beforehand, and holds each of them back for as
long as its tokens take, so that long replies take long, as on a server that decodes many at once. Nothing is cached.
A server with few places decodes so many replies to a question at once; the others wait their turn. The replies are
samples of the embedded `mini`, and where `COLONNADE_DATA` names the folder of recorded outputs, those of a Qwen model
to 100 problems of MATH, eight each, whose tokens are counted as four bytes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from aiohttp import web
from papers_replay import RecordedVerdicts, rows

from architectures import compile_architecture, load
from evals import Item, load_task
from evals.paired import PairedDifference, paired_difference
from evals.task import Scorer
from providers.book import ModelBook
from providers.gateway import Gateway
from providers.models import Capabilities, Limits, ModelSpec
from providers.scope import Scope
from providers.testing_server import count_tokens

__all__ = ["Race", "races"]

AT_ONCE = 8
"""Questions in flight; the server sleeps for each of them on its own."""
_TOKEN_S = {"mini": 0.04, "qwen": 0.01}
"""Slow enough that the time of the client itself does not count beside it."""


class Reply(NamedTuple):
    """What the server says, and the tokens that it takes its time for."""

    text: str
    tokens: int


class Racing(NamedTuple):
    """Questions with at least `k` replies each."""

    what: str
    token_s: float
    items: Sequence[Item]
    replies: Mapping[str, Sequence[Reply]]
    """By question."""
    scorer: Scorer
    k: int = 8
    m: int = 3
    places: int | None = None
    """Replies to a question that the server decodes at once; None: all of them."""


class Race(NamedTuple):
    """Short-m@k beside a majority of k: means over the questions."""

    what: str
    items: int
    token_s: float
    k: int
    m: int
    short_s: float
    majority_s: float
    difference: PairedDifference
    """In accuracy, short-m@k less the majority."""

    @property
    def saved(self) -> float:
        """The part of the majority's time that is saved."""
        return 1 - self.short_s / self.majority_s


class _Timed(NamedTuple):
    seconds: list[float]
    scores: list[float]


def races(items: int, split: str, *, pace: float = 1.0) -> list[Race]:
    """Measure both, with the embedded model and with recorded replies where these are there.

    `pace` multiplies the time of a token.
    """
    return asyncio.run(_races(items, split, pace))


async def _races(items: int, split: str, pace: float) -> list[Race]:
    sampled = await _sampled(items, split, 16)
    crowded = sampled._replace(what=f"{sampled.what}, 8 decoded at once", k=16, m=8, places=8)
    found = [await _race(racing._replace(token_s=pace * racing.token_s)) for racing in (sampled, crowded)]
    data = Path(os.environ.get("COLONNADE_DATA", "")) / "math100_qwen_rm8" / "data.jsonl.gz"
    if data.is_file():
        recorded = _recorded(data, items)
        found.append(await _race(recorded._replace(token_s=pace * recorded.token_s)))
    return found


async def _sampled(items: int, split: str, k: int) -> Racing:
    """Sample k replies of mini to each question."""
    task = load_task("arithmetic", items=items, options={"split": split})
    book = ModelBook({}, env={})
    layers = [{"generate": {"model": "embedded/mini", "samples": k, "temperature": 0.8}}]
    compiled = compile_architecture(load({"name": "pool", "layers": layers}, book).spec, book)
    async with Gateway(book, None) as gateway:

        async def one(item: Item) -> tuple[str, list[Reply]]:
            scope = Scope("race", item.id)
            await compiled.run(item.prompt, gateway=gateway, scope=scope, answer_kind="numeric")
            done = [use.sample.completion for use in scope.samples]
            return item.prompt, [Reply(completion.text, completion.usage.completion_tokens) for completion in done]

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in task.items]
    replies = dict(task.result() for task in tasks)
    return Racing("`arithmetic`, replies of mini", _TOKEN_S["mini"], task.items, replies, task.scorer)


def _recorded(data: Path, items: int) -> Racing:
    """Read the recorded replies and what was recorded of them."""
    recorded = rows(data)[:items]
    return Racing(
        "MATH, recorded replies of Qwen",
        _TOKEN_S["qwen"],
        [Item(id=str(row["idx"]), question=row["question"], gold=row["gold"]) for row in recorded],
        {
            row["question"]: [Reply(one["text"], count_tokens(one["text"])) for one in row["samples"]]
            for row in recorded
        },
        RecordedVerdicts(
            correct={
                (str(row["idx"]), one["text"]): bool(one["correct"]) for row in recorded for one in row["samples"]
            },
            answer_kind="math",
        ),
    )


async def _race(racing: Racing) -> Race:
    short = {"short_m_at_k": {"model": "timed", "k": racing.k, "m": racing.m, "temperature": 0.8}}
    plain = {"generate": {"model": "timed", "samples": racing.k, "temperature": 0.8}}
    async with _served(racing) as model:
        book = ModelBook({"timed": model}, env={})
        one, two = [await _timed(layers, racing, book) for layers in ([short], [plain, "vote"])]
    return Race(
        racing.what,
        len(racing.items),
        racing.token_s,
        racing.k,
        racing.m,
        sum(one.seconds) / len(one.seconds),
        sum(two.seconds) / len(two.seconds),
        paired_difference(one.scores, two.scores),
    )


async def _timed(layers: Sequence[object], racing: Racing, book: ModelBook) -> _Timed:
    """Answer and score all questions, some at a time."""
    compiled = compile_architecture(load({"name": "timed", "layers": list(layers)}, book).spec, book)
    places = asyncio.Semaphore(AT_ONCE)

    async def one(item: Item, gateway: Gateway) -> tuple[float, float]:
        async with places:
            began = time.perf_counter()
            scope = Scope("timed", item.id)
            kind = racing.scorer.answer_kind
            outcome = await compiled.run(item.prompt, gateway=gateway, scope=scope, answer_kind=kind)
            seconds = time.perf_counter() - began
        return seconds, (await racing.scorer.score(item, outcome.answer)).value

    async with Gateway(book, None) as gateway:
        await one(racing.items[0], gateway)  # loads libraries and opens connections
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item, gateway)) for item in racing.items]
    seconds, scores = zip(*(task.result() for task in tasks), strict=True)
    return _Timed(list(seconds), list(scores))


@asynccontextmanager
async def _served(racing: Racing) -> AsyncIterator[ModelSpec]:
    """Serve the replies to each question in turn, each after the time of its tokens."""
    turns: defaultdict[str, int] = defaultdict(int)
    places = {question: asyncio.Semaphore(racing.places or racing.k) for question in racing.replies}

    async def complete(request: web.Request) -> web.Response:
        body = await request.json()
        shown = body["messages"][-1]["content"]
        question = next(question for question in racing.replies if question in shown)
        reply = racing.replies[question][turns[question] % racing.k]
        turns[question] += 1
        async with places[question]:
            await asyncio.sleep(racing.token_s * reply.tokens)
        return web.json_response(_answer(reply))

    app = web.Application()
    app.router.add_post("/v1/chat/completions", complete)
    # A cancelled racer hangs up; its handler must not sleep on.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield ModelSpec(
            name="timed",
            transport="openai",
            model="timed",
            base_url=f"http://{host}:{port}/v1",
            # Without n every sample is a request of its own, for the race and for the majority alike.
            capabilities=Capabilities(n=False),
            limits=Limits(in_flight=racing.k * AT_ONCE),
            style="compact",
        )
    finally:
        await runner.cleanup()


def _answer(reply: Reply) -> dict[str, object]:
    return {
        "id": "timed",
        "object": "chat.completion",
        "created": 0,
        "model": "timed",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": reply.text}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": reply.tokens, "total_tokens": 1 + reply.tokens},
    }
