"""The evaluation as a real Prefect flow on Prefect's built-in server: chunks, artifacts, a broken chunk tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CommandResult, ServerProcess
from tests.helpers import artifacts, write_architecture, write_models, write_task

pytestmark = [
    pytest.mark.usefixtures("own_prefect"),
    pytest.mark.xdist_group("prefect"),
    # Prefect leaves a socket to its server open when a loop ends.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]


def test_eval_runs_as_a_flow_and_leaves_artifacts(
    cli: Callable[..., CommandResult], workplace: Path, model_server: Callable[..., ServerProcess]
) -> None:
    server = model_server()
    write_models(workplace, server.url)
    architecture, task = write_architecture(workplace), write_task(workplace, 10)
    done = cli("eval", architecture, "--task", task, "--chunk", 4, "--json")
    assert done.code == 0, done.err
    record = done.records[0]
    assert record["items"] == 10
    assert server.ledger()["calls"] == 30
    found = asyncio.run(artifacts())
    assert found[f"evaluation-{record['run_id']}"] == "table"
    assert "progress" in found.values()
    again = cli("eval", architecture, "--task", task, "--chunk", 4, "--json")
    assert again.records[0]["reused"] is True
    assert server.ledger()["calls"] == 30


def test_a_flow_opens_a_session_of_its_own_and_tries_a_broken_chunk_again(
    workplace: Path, model_server: Callable[..., ServerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows import prefect_flow
    from flows.evaluate import Chunk, ChunkDone, EvaluateJob, TaskChoice, run_chunk
    from flows.session import SessionSettings

    server = model_server()
    job = EvaluateJob(
        architecture={"name": "one", "layers": [{"generate": {"model": "m", "max_tokens": 64}}]},
        task=TaskChoice(name=str(write_task(workplace, 6))),
        session=SessionSettings(models=write_models(workplace, server.url)),
        chunk=3,
    )
    tries: list[int] = []

    async def breaks_once(chunk: Chunk) -> ChunkDone:
        tries.append(chunk.number)
        if tries.count(1) == 1 and chunk.number == 1:
            raise OSError("the disk was away for a moment")
        return await run_chunk(chunk)

    monkeypatch.setattr(prefect_flow, "run_chunk", breaks_once)
    evaluation = asyncio.run(prefect_flow.evaluate_flow(job))
    assert (evaluation.status, len(evaluation.results)) == ("done", 6)
    assert sorted(tries) == [0, 1, 1]
    assert server.ledger()["calls"] == 6
