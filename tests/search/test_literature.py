"""The spaces of the literature: every technique that ships is in it, and what is foretold of it is what is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from architectures import compile_architecture, plan
from db.calls import CallStore
from db.database import Database
from nodes.catalog import SCORERS
from nodes.registry import BUILT_IN
from providers.book import ModelBook
from providers.gateway import Gateway
from providers.scope import Scope
from providers.testing_server import ModelServer, json_reply
from search import load_space
from search.space import Space, Values
from tests.architectures.support import answer_well, book_at

QUESTION = "Mia has 12 pens. She finds 3 bags of 4 pens. How many pens does she have?"


class Server(ModelServer):
    """A model server that also scores, as vLLM's reward models and cross-encoders do."""

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path not in ("/pooling", "/v1/score"):
            return await super()._serve(request)
        body = orjson.loads(await request.read())
        self.ledger.requests += 1
        value = len(body["text_2"] if request.path == "/v1/score" else body["messages"][-1]["content"]) % 7
        usage = {"prompt_tokens": 7, "completion_tokens": 0}
        return json_reply(orjson.dumps({"data": [{"data": [value], "score": value}], "usage": usage}))


FIRST: Values = {"model": "embedded/nano", "expert": "embedded/mini", "judge": "embedded/judge", "refined": False}
INSTRUCTED: Values = {
    "model": "fast",
    "expert": "strong",
    "judge": "judge",
    "reward": "reward",
    "refined": True,
    "samples": 3,
}


def points() -> Iterator[tuple[str, Space, Values]]:
    """Yield one point for each way to draw, to select, and for each technique that is whole."""
    space = load_space("literature")
    open_ = {parameter.name: [choice.value for choice in parameter.choices] for parameter in space.parameters}
    pool = {**FIRST, "way": "pool", "samples": 4, "draw": "repeated", "select": "vote"}
    for draw in open_["draw"]:
        yield f"draw {draw}", space, {**pool, "draw": draw}
    for select in open_["select"]:
        yield f"select {select}", space, {**pool, "select": select}
    for technique in open_["technique"]:
        yield str(technique), space, {**FIRST, "way": "whole", "technique": technique}
    space = load_space("instructed")
    (techniques,) = (one.choices for one in space.parameters if one.name == "technique")
    for choice in techniques:
        yield f"instructed {choice.value}", space, {**INSTRUCTED, "technique": choice.value}


POINTS = list(points())


def test_every_technique_and_every_scorer_has_a_place() -> None:
    used: set[str] = set()

    def look(part: object) -> None:
        if isinstance(part, dict):
            if "scorer" in part and isinstance(part["scorer"], str):
                used.add(f"scorer:{part['scorer']}")
            for key, value in part.items():
                used.add(f"scorer:{value}" if key == "use" else str(key))
                look(value)
        elif isinstance(part, list):
            for one in part:
                look(one)
        elif isinstance(part, str):
            used.add(part)

    look(load_space("literature").template)
    look(load_space("instructed").template)
    assert sorted(set(BUILT_IN) - used) == []
    assert (
        sorted(
            {name for members in SCORERS.values() for name in members}
            - {name.removeprefix("scorer:") for name in used if ":" in name}
        )
        == []
    )


@pytest.mark.parametrize(("space", "values"), [point[1:] for point in POINTS], ids=[point[0] for point in POINTS])
async def test_what_is_foretold_is_what_is_counted(
    space: Space, values: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Server(reply=answer_well) as server:
        book = (
            ModelBook(env={})
            if values["model"] == FIRST["model"]
            else book_at(server.url, "fast", "strong", "judge", "reward")
        )
        spec = space.architecture(values, book)
        foretold = plan(spec, book, QUESTION).total
        scope = Scope("r", "i")
        with Database.open(f"sqlite:///{tmp_path}/calls.db") as database:
            store = CallStore(database)
            async with Gateway(book, store) as gateway:
                outcome = await compile_architecture(spec, book).run(QUESTION, gateway=gateway, scope=scope)
                requests = gateway.status().requests
            kept = store.spent("r")
            store.close()
    used = scope.totals()
    assert outcome.answer
    assert foretold.calls.low <= used.calls <= foretold.calls.high
    # Equal texts are scored once: the second time costs neither a request nor a call.
    assert requests <= foretold.requests.high
    assert foretold.prompt_tokens.low <= used.prompt_tokens <= foretold.prompt_tokens.high
    assert foretold.completion_tokens.low <= used.completion_tokens <= foretold.completion_tokens.high
    assert (kept.calls, kept.cost) == (used.paid_calls, used.paid_cost)
