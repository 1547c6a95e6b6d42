"""The batch as a real Prefect flow on its built-in server: chunks are tasks, progress and report are artifacts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.batch import BatchChunk, BatchChunkDone, run_batch_chunk
from providers.testing_server import ModelServer
from tests.conftest import CommandResult, ServerProcess
from tests.flows.batch_support import batch_job, numbers, read_lines, write_rows
from tests.helpers import artifacts, write_architecture, write_models

pytestmark = [
    pytest.mark.usefixtures("own_prefect"),
    pytest.mark.xdist_group("prefect"),
    # Prefect leaves a socket to its server open when a loop ends.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]


def test_a_batch_runs_as_a_flow_and_leaves_artifacts(
    cli: Callable[..., CommandResult], workplace: Path, model_server: Callable[..., ServerProcess]
) -> None:
    server = model_server()
    write_models(workplace, server.url)
    architecture, rows = write_architecture(workplace), write_rows(workplace, numbers(9))
    order = ["batch", "run", architecture, rows, "--template", "Double {number}.", "--out", "out.jsonl", "--chunk", 4]
    done = cli(*order, "--json")
    assert done.code == 0, done.err
    record = done.records[0]
    assert (record["rows"], server.ledger()["calls"]) == (9, 27)
    found = asyncio.run(artifacts())
    assert found[f"batch-{record['run_id']}"] == "table"
    assert "progress" in found.values()
    again = cli(*order, "--json", "--resume")
    assert again.records[0]["run_id"] == record["run_id"]
    assert server.ledger()["calls"] == 27


async def test_a_flow_opens_a_session_of_its_own_and_tries_a_broken_chunk_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import batch_flow

    tries: list[int] = []

    async def breaks_once(chunk: BatchChunk) -> BatchChunkDone:
        tries.append(chunk.number)
        if tries.count(1) == 1 and chunk.number == 1:
            raise ConnectionError("the network was away")
        return await run_batch_chunk(chunk)

    monkeypatch.setattr(batch_flow, "run_batch_chunk", breaks_once)
    async with ModelServer() as server:
        write_models(tmp_path, server.url)
        report = await batch_flow.batch_flow(batch_job(tmp_path, numbers(9)))
    assert tries.count(1) == 2
    assert report.rows == 9
    assert [row["number"] for row in read_lines(tmp_path / "out.jsonl")] == list(range(9))
