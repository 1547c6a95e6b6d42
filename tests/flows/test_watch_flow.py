"""The watch as a real Prefect flow: evaluations in it, a report as an artifact, alarms as events."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from colonnade.watching import run_watch
from db.database import Database
from flows.watch import looks_of
from flows.watch_job import Look, WatchJob
from tests.flows.watch_support import ITEMS, open_world
from tests.helpers import artifacts

pytestmark = [
    pytest.mark.usefixtures("own_prefect"),
    pytest.mark.xdist_group("prefect"),
    # Prefect leaves a socket to its server open when a loop ends.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(autouse=True)
def _sockets_closed() -> Iterator[None]:
    """Let go of the connection on which events were sent while its warning is still expected."""
    from prefect.events.worker import EventsWorker

    yield
    EventsWorker.drain_all()
    gc.collect()


async def _events(prefix: str, number: int) -> dict[str, dict[str, Any]]:
    """Wait for so many events and return them by name; they reach the server one by one, after their flow."""
    from prefect import get_client

    async with get_client() as client, asyncio.timeout(300):
        while True:
            asked = {"filter": {"event": {"prefix": [prefix]}}}
            found = (await client.request("POST", "/events/filter", json=asked)).json()["events"]
            if len(found) >= number:
                return {event["event"]: event for event in found}
            await asyncio.sleep(0.2)


async def test_an_alarm_is_an_event_and_the_report_an_artifact(workplace: Path) -> None:
    async with open_world(workplace) as opened:
        await run_watch(opened.job())
        opened.world.right = 0.3
        opened.server.served_as = "newer"
        (look,) = await run_watch(opened.job())
        assert {alarm.kind for alarm in look.alarms} == {"model-changed", "quality-fell"}
        events = await _events("colonnade.watch", 2)
        assert set(events) == {"colonnade.watch.model-changed", "colonnade.watch.quality-fell"}
        event = events["colonnade.watch.quality-fell"]
        assert event["resource"]["prefect.resource.id"] == f"colonnade.watch.{look.watch}"
        assert event["payload"]["look"] == 1
        found = await artifacts()
        assert found[look.watch] == "markdown"
        assert found[f"evaluation-{look.run_id}"] == "table"


async def test_the_flow_opens_a_session_of_its_own(workplace: Path) -> None:
    from flows.watch_flow import watch_flow

    async with open_world(workplace) as opened:
        job = WatchJob.model_validate(opened.job(items=6, repeats=1).model_dump(mode="json"))
        looks: tuple[Look, ...] = await watch_flow(job)
        assert looks[0].items == 6
        assert opened.server.ledger.calls == 6 < ITEMS
        with Database.open() as database:
            assert looks_of(looks[0].watch, database) == looks
