"""5,000 calls at a server of which every fifth request goes wrong: nothing lost, nothing miscounted, no key let out."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web

from db.calls import CallStore, Spent
from db.database import Database
from providers import Budget, Gateway, Sample
from providers.budget import Amount
from providers.errors import ProviderError
from providers.gateway import GatewayStatus
from providers.scope import Scope
from providers.testing_server import Fault, Ledger, ModelServer
from tests.providers.asking import book_of, request, scope
from tests.recording import recording

# One process of the tests runs the storm, for all of them.
pytestmark = pytest.mark.xdist_group("books")

TRACING = find_spec("opentelemetry.sdk") is not None
KEY = "Planted0123456789zebra"
ITEMS = 2_500
QUICK: tuple[Fault, ...] = (
    "429",
    "429-retry-after",
    "500",
    "503",
    "empty-choices",
    "fewer-choices",
    "reset",
    "truncated",
    "wrong-usage",
)
# Each of the slow ones takes until the timeout, which is long, since a machine that stands still for as long would have
# a good answer count as late: so they are few.
SLOW: tuple[Fault, ...] = ("timeout", "trickle")
FAULTS = (*QUICK * 12, *SLOW)
LIMITS = "limits: {retries: 2, timeout_s: 8, in_flight: 64}"


class EchoingServer(ModelServer):
    """Says the caller's key aloud in every refusal, as some servers do."""

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await super()._chat(request)
        if response.status < 400:
            return response
        error = {"error": {"message": f"Refused: {request.headers['Authorization']}", "code": None}}
        kept = {name: value for name, value in response.headers.items() if name == "Retry-After"}
        return web.json_response(error, status=response.status, headers=kept)


class Written(logging.Handler):
    """Keeps every log line, with its traceback and its extra fields."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{self.format(record)} {record.__dict__}")


class Counted(NamedTuple):
    """What the database holds, apart for tokens that the server reported and those that had to be estimated."""

    reported: tuple[int, int]
    estimated: tuple[int, int]
    estimated_calls: int


@dataclass(kw_only=True)
class Aftermath:
    samples: list[Sample] = field(default_factory=list)
    failures: list[ProviderError] = field(default_factory=list)
    lost: int = 0
    status: GatewayStatus
    ledger: Ledger
    settled: Amount
    reserved: Amount
    spent: Spent
    counted: Counted
    totals: Counter[str]
    texts: dict[str, bytes]


async def storm(folder: Path) -> Aftermath:
    """Ask 5,000 samples, two of each question, 128 questions at once."""
    samples: list[Sample] = []
    failures: list[ProviderError] = []
    lost = 0
    scopes: list[Scope] = []
    budget = Budget(dollars=Decimal(100))
    server = EchoingServer(fault_rate=0.2, faults=FAULTS, retry_after_s=0.02, hang_s=60.0, api_key=KEY)
    more = f"api_key_env: K\n    price: {{prompt: 1, completion: 2}}\n    {LIMITS}"
    with Database.open(f"sqlite:///{folder}/calls.db") as database:
        store = CallStore(database)
        async with server, Gateway(book_of(server, folder, more, env={"K": KEY}), store, budget=budget) as gateway:
            numbers = iter(range(ITEMS))

            async def work() -> None:
                nonlocal lost
                for number in numbers:
                    mine = scope(str(number))
                    scopes.append(mine)
                    asked = await gateway.ask(request(f"q{number}", max_tokens=60), 2, scope=mine, node="a")
                    samples.extend(asked.samples)
                    failures.extend(asked.failures)
                    lost += 2 - len(asked.samples) - len(asked.failures)

            async with asyncio.TaskGroup() as tasks:
                for _ in range(128):
                    tasks.create_task(work())
            status = gateway.status()
        spent = store.spent("r-1")
        store.close()
    said = [f"{failure.error!r} {failure.error}" for one in scopes for failure in one.failures]
    totals: Counter[str] = Counter()
    for one in scopes:
        sums = one.totals()
        totals.update(calls=sums.paid_calls, prompt=sums.paid_prompt_tokens, completion=sums.paid_completion_tokens)
    return Aftermath(
        samples=samples,
        failures=failures,
        lost=lost,
        status=status,
        ledger=server.ledger,
        settled=budget.settled,
        reserved=budget.reserved,
        spent=spent,
        counted=_counted(folder / "calls.db"),
        totals=totals,
        texts={"errors": "\n".join(said).encode(), "status": repr(status).encode()},
    )


def _counted(path: Path) -> Counted:
    connection = sqlite3.connect(path)
    sums = {
        bool(estimated): (prompt, completion, calls)
        for estimated, prompt, completion, calls in connection.execute(
            "SELECT tokens_estimated, sum(prompt_tokens), sum(completion_tokens), count(*) FROM call GROUP BY 1"
        )
    }
    connection.close()
    return Counted(sums[False][:2], sums[True][:2], sums[True][2])


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    folder = tmp_path_factory.mktemp("storm")
    written, root = Written(), logging.getLogger()
    level = root.level
    root.addHandler(written)
    root.setLevel(logging.DEBUG)
    try:
        with recording() if TRACING else nullcontext() as recorded:
            aftermath = asyncio.run(storm(folder))
            if recorded:
                aftermath.texts["traces"] = recorded.text().encode()
    finally:
        root.removeHandler(written)
        root.setLevel(level)
    aftermath.texts["logs"] = "\n".join(written.lines).encode()
    for file in folder.glob("calls.db*"):
        aftermath.texts[file.name] = file.read_bytes()
    return aftermath


def test_every_call_is_answered_once_or_fails_with_its_class(after: Aftermath) -> None:
    assert after.lost == 0
    assert len(after.samples) + len(after.failures) == 2 * ITEMS
    assert len({sample.key for sample in after.samples}) == len(after.samples)
    assert set(after.ledger.faults) == set(FAULTS)
    assert sum(after.ledger.faults.values()) > 0.18 * after.ledger.requests
    kinds = Counter(failure.kind for failure in after.failures)
    assert kinds
    assert set(kinds) <= {"connection", "malformed", "overloaded", "rate_limit", "timeout"}, kinds


def test_the_books_equal_the_servers_ledger_to_the_token(after: Aftermath) -> None:
    ledger, counted = after.ledger, after.counted
    billed = (ledger.prompt_tokens, ledger.completion_tokens)
    estimated = sum(counted.estimated)
    assert counted.reported == billed
    # Where the server reported no usage there is nothing to compare: such samples are counted by estimate, and marked.
    assert counted.estimated_calls >= ledger.faults["wrong-usage"] > 0
    assert len(after.samples) == ledger.calls == after.spent.calls == after.settled.calls == after.totals["calls"]
    assert after.settled.tokens == sum(billed) + estimated
    assert after.totals["prompt"] + after.totals["completion"] == sum(billed) + estimated
    assert after.status.paid.prompt_tokens == billed[0] + counted.estimated[0]
    assert after.status.paid.completion_tokens == billed[1] + counted.estimated[1]
    dollars = (Decimal(after.status.paid.prompt_tokens) + 2 * after.status.paid.completion_tokens) / 1_000_000
    assert after.settled.dollars == after.spent.cost == dollars
    assert after.reserved == Amount()
    assert max(ledger.by_sample.values()) == 1


def test_what_broke_off_is_reported_apart(after: Aftermath) -> None:
    faults, status = after.ledger.faults, after.status
    assert status.requests == after.ledger.requests
    assert status.failures == len(after.failures)
    assert status.uncertain >= faults["reset"] + faults["timeout"] + faults["trickle"]


def test_no_key_is_in_logs_database_or_errors(after: Aftermath) -> None:
    assert set(after.texts) >= {"calls.db", "errors", "logs"}
    assert b"Refused: Bearer [key]" in after.texts["logs"], "the server's echo was to be seen, without the key"
    assert b"test-model" in after.texts["calls.db"]
    assert after.texts["errors"]
    for place, text in after.texts.items():
        assert KEY[:12].encode() not in text, f"the planted key is in the {place}"


def test_no_key_is_in_traces(after: Aftermath) -> None:
    if not TRACING:
        pytest.skip("needs opentelemetry-sdk, of the dev extra")
    assert after.texts["traces"].count(b'"chat test-model"') == after.status.requests
    assert KEY[:12].encode() not in after.texts["traces"]
