"""Turns of models: level by level, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flows.batch import batch
from flows.session import open_session
from providers.testing_server import Asking, ModelServer
from providers.turns import ModelTurns
from tests.flows.batch_support import batch_job, numbers


async def test_calls_of_one_model_go_before_those_of_the_next() -> None:
    turns, order = ModelTurns(0.01), list[str]()

    async def question(number: int) -> None:
        for model in ("a", "b", "a"):
            async with turns.of(model):
                await asyncio.sleep(0.001 * (number % 3))
                order.append(model)

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(question(number))
    assert order == ["a"] * 20 + ["b"] * 20 + ["a"] * 20
    assert turns.changes == 3
    assert turns.changes_else >= 3


async def test_those_who_give_up_hold_nobody_up() -> None:
    turns = ModelTurns(0.001)
    entered = asyncio.Event()

    async def ask(model: str, event: asyncio.Event | None = None) -> None:
        async with turns.of(model):
            entered.set()
            if event is not None:
                await event.wait()

    end = asyncio.Event()
    first = asyncio.create_task(ask("a", end))
    await entered.wait()
    given_up, waiting = asyncio.create_task(ask("b")), asyncio.create_task(ask("c"))
    await asyncio.sleep(0)
    given_up.cancel()
    end.set()
    await asyncio.gather(first, waiting)
    with pytest.raises(asyncio.CancelledError):
        await given_up
    # One that is cancelled in the moment in which it is let through leaves again.
    let_through = asyncio.create_task(ask("d"))
    await asyncio.sleep(0)
    turns._change()
    let_through.cancel()
    with pytest.raises(asyncio.CancelledError):
        await let_through
    await asyncio.wait_for(ask("e"), 120)


async def test_a_batch_on_a_machine_that_holds_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine looks up one row or another later than the moment that is waited for else.
    monkeypatch.setattr("providers.turns.ModelTurns", partial(ModelTurns, linger_s=1.0))
    asked: list[str] = []

    def reply(asking: Asking) -> str:
        asked.append(asking.model)
        return "Answer: 1"

    async with ModelServer(models=("one", "two"), reply=reply) as server:
        entries = "".join(
            f"  {name}: {{transport: openai, base_url: '{server.url}', model: {name}}}\n" for name in ("one", "two")
        )
        (tmp_path / "models.yaml").write_text(f"models:\n{entries}")
        layers = [{"generate": {"model": "one", "max_tokens": 9}}, {"fuse": {"model": "two", "max_tokens": 9}}]
        options: dict[str, Any] = {"architecture": {"name": "two", "layers": layers}, "chunk": 20}
        job = batch_job(tmp_path, numbers(20), session={"one_model_at_a_time": True}, **options)
        async with open_session(job.session) as session:
            report = await batch(job, session)
    assert asked == ["one"] * 20 + ["two"] * 20
    (saved,) = report.savings
    assert saved.way == "one_model"
    assert saved.sentence.startswith("2 changes of model instead of ")
