"""A model that changes when it is told to, served over HTTP, and a watch on it."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flows.evaluate import TaskChoice
from flows.session import Session, SessionSettings, open_session
from flows.watch_job import WatchJob
from providers.testing_server import Asking, ModelServer
from tests.helpers import write_models, write_task

__all__ = ["World", "open_world"]

ITEMS = 60


@dataclass
class World:
    """A model of which a test turns the knobs."""

    right: float = 0.85
    """The chance of a right answer, on items that are not always answered right."""
    filler: str = "so we add"
    random: random.Random = field(default_factory=lambda: random.Random(3))

    def reply(self, asking: Asking) -> str:
        """Answer `What is k + k?`; two items of three are easy."""
        found = re.search(r"What is (\d+) \+", asking.prompt)
        assert found is not None
        number = int(found[1])
        easy = number % 3 and self.right > 0.5
        value = 2 * number if easy or asking.body.get("temperature") == 0 or self.random.random() < self.right else 1
        return f"{self.filler}: the answer is {value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A served world and what is needed to watch it."""

    world: World
    server: ModelServer
    settings: SessionSettings
    session: Session
    task: TaskChoice

    def job(self, *, temperature: float = 0.7, items: int | None = None, **options: Any) -> WatchJob:
        """Make the job of watching one architecture."""
        layers = [{"generate": {"model": "m", "max_tokens": 64, "temperature": temperature}}]
        return WatchJob(
            architectures=({"name": "one", "layers": layers},),
            task=self.task if items is None else self.task.model_copy(update={"items": items}),
            session=self.settings,
            **{"repeats": 2, **options},
        )


@asynccontextmanager
async def open_world(folder: Path, *, priced: bool = True) -> AsyncIterator[Opened]:
    """Serve a world and open a session on it; the database lies in the working directory."""
    world = World()
    async with ModelServer(reply=world.reply) as server:
        file = write_models(folder, server.url)
        if not priced:
            models = yaml.safe_load(file.read_text())
            del models["models"]["m"]["price"]
            file.write_text(yaml.safe_dump(models))
        settings = SessionSettings(models=file)
        async with open_session(settings) as opened:
            task = TaskChoice(name=str(write_task(folder, ITEMS)))
            yield Opened(world=world, server=server, settings=settings, session=opened, task=task)
