"""A session: the models, the database and the gateway that runs share while they last."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from db.calls import CallStore
    from db.database import Database
    from db.runs import RunStore
    from providers.batching import Batching
    from providers.book import ModelBook
    from providers.gateway import Gateway
    from providers.redis_link import RedisLink

__all__ = ["BatchMode", "CacheMode", "Caps", "Session", "SessionSettings", "open_session"]

CacheMode = Literal["on", "off", "refresh", "read-only"]
BatchMode = Literal["off", "on"]


class Caps(BaseModel):
    """What a run may spend at most; None is no cap."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dollars: Decimal | None = Field(default=None, gt=0)
    tokens: int | None = Field(default=None, gt=0)
    calls: int | None = Field(default=None, gt=0)

    def __bool__(self) -> bool:
        """Say whether anything is capped."""
        return any(cap is not None for cap in (self.dollars, self.tokens, self.calls))


class SessionSettings(BaseModel):
    """Where models and results live and what may be spent; plain data, so that it can travel to a worker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: Path | None = None
    """A `models.yaml`; None looks at `COLONNADE_MODELS`, then `./models.yaml`, then the built-in models."""
    database_url: str | None = None
    """None looks at `COLONNADE_DATABASE_URL`, then takes `.colonnade/colonnade.db`."""
    techniques: tuple[Path, ...] = ()
    """Python files with techniques of the user's own, loaded by path."""
    caps: Caps = Caps()
    caps_per_run: bool = False
    """The caps hold for each run by itself, over all its goes and workers, and not for this session."""
    account: str | None = None
    """Name under which the caps are counted, for sessions on several workers that share one budget through Redis."""
    cache: CacheMode = "on"
    cache_expiry: timedelta | None = None
    """Stored answers that are older are not used; None uses all."""
    batch: BatchMode = "off"
    """`on`: models whose provider has a batch API are asked through it, at its price."""
    batch_deadline: AwareDatetime | None = None
    """When all answers are to be there; what a batch would bring too late is asked for at once."""
    batch_linger_s: float = Field(default=2.0, gt=0)
    """Seconds without a new call after which the calls that wait go out in a batch."""
    one_model_at_a_time: bool = False
    """For a machine that holds one model at a time: calls of one model go out together; see `providers.turns`."""

    def load_techniques(self) -> None:
        """Load the user's technique files; raises `SpecError` for one that cannot be loaded."""
        from nodes.registry import load_file

        for path in self.techniques:
            load_file(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Open resources; made by `open_session`, closed with it."""

    settings: SessionSettings
    book: ModelBook
    database: Database
    calls: CallStore
    runs: RunStore
    gateway: Gateway


@asynccontextmanager
async def open_session(settings: SessionSettings) -> AsyncIterator[Session]:
    """Open models, database and gateway, and close them in the reverse order, whatever happens."""
    from db.database import Database
    from providers.book import ModelBook
    from providers.redis_link import redis_link

    settings.load_techniques()
    book = ModelBook.load(settings.models)
    database = Database.open(settings.database_url)
    collector = gc.get_threshold()
    try:
        _spare_collector()
        async with redis_link() as link, _opened(settings, book, database, link) as session:
            yield session
    finally:
        gc.set_threshold(*collector)
        gc.unfreeze()
        database.close()


@asynccontextmanager
async def _opened(
    settings: SessionSettings, book: ModelBook, database: Database, link: RedisLink | None
) -> AsyncIterator[Session]:
    from db.calls import CallStore
    from db.runs import RunStore
    from flows.purse import database_name, open_budget
    from providers.gateway import Gateway
    from providers.shared_cache import SharedCache
    from providers.turns import ModelTurns

    async with AsyncExitStack() as stack:
        calls = CallStore(database, expiry=settings.cache_expiry)
        stack.callback(calls.close)
        budget = open_budget(settings, book, calls, link)
        if budget is not None:
            stack.push_async_callback(budget.aclose)
        shared = SharedCache(link, home=database_name(database)) if link is not None else None
        if shared is not None:
            stack.push_async_callback(shared.aclose)
        gateway = await stack.enter_async_context(
            Gateway(
                book,
                calls,
                budget=budget,
                cache=settings.cache,
                shared=shared,
                link=link,
                batching=_batching(settings),
                turns=ModelTurns() if settings.one_model_at_a_time else None,
            )
        )
        yield Session(
            settings=settings, book=book, database=database, calls=calls, runs=RunStore(database), gateway=gateway
        )


def _batching(settings: SessionSettings) -> Batching | None:
    if settings.batch == "off":
        return None
    from providers.batching import Batching

    return Batching(deadline=settings.batch_deadline, linger_s=settings.batch_linger_s)


def _spare_collector() -> None:
    """Look for garbage cycles more seldom, and not among what was imported.

    Hundreds of questions in flight are hundreds of thousands of live objects; at Python's default threshold the
    collector walks them over and over (a third of the CPU time of `benchmarks/orchestration.py`).
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
