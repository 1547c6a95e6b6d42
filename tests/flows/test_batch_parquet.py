"""Parquet in and out: the input's types are kept, those of other files are found."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from db.errors import DataError
from flows.batch import BatchChunk, BatchChunkDone, batch, run_batch_chunk
from flows.batch_job import BatchJob
from flows.session import open_session
from providers.testing_server import ModelServer
from tests.flows.batch_support import batch_job, doubled, numbers, write_rows
from tests.helpers import write_models


async def result(folder: Path, job: BatchJob) -> pa.Table:
    async with ModelServer(reply=doubled) as server:
        write_models(folder, server.url)
        async with open_session(job.session) as session:
            report = await batch(job, session)
        assert report.status == "done"
    return pq.read_table(job.out)


async def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "number": pa.array(range(9), pa.int16()),
            "day": pa.array([datetime(2026, 1, 1, tzinfo=UTC), *[None] * 8], pa.timestamp("us", tz="UTC")),
            "price": pa.array([Decimal("1.25")] * 9, pa.decimal128(10, 2)),
            "raw": pa.array([b"\xff\x00"] * 9),
            "tags": pa.array([["a", "b"]] * 9),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    job = batch_job(tmp_path, [], out="out.parquet", gold="number", scorer="numeric")
    out = await result(tmp_path, job.model_copy(update={"input": tmp_path / "rows.parquet"}))
    assert out.select(table.column_names).equals(table)
    assert out.schema.field("score").type == pa.float64()
    assert out.column("score").to_pylist() == [1.0, *[0.0] * 8]
    assert out.column("calls").to_pylist() == [3] * 9
    assert out.schema.field("calls").type == pa.int64()


async def test_types_of_json_lines_are_found_and_mixed_ones_are_text(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"number": 1, "some": 1, "late": None, "mixed": 1, "both": "x", "object": {"a": 1}},
        {"number": 2, "some": 1.5, "mixed": "one", "both": [1], "huge": 2**70},
        "{broken",
        {"number": 3, "late": "there", "nothing": None},
    ]
    out = await result(tmp_path, batch_job(tmp_path, rows, out="out.parquet"))
    kinds = {field.name: field.type for field in out.schema}
    assert kinds["number"] == pa.int64()
    assert kinds["some"] == pa.float64()
    assert kinds["late"] == kinds["mixed"] == kinds["both"] == kinds["huge"] == kinds["nothing"] == pa.string()
    assert out.column("mixed").to_pylist() == ["1", "one", None]
    assert out.column("both").to_pylist() == ["x", "[1]", None]
    assert out.column("object").to_pylist() == [{"a": 1}, None, None]
    assert "score" not in kinds


async def test_types_that_change_far_down_the_file(tmp_path: Path) -> None:
    from flows.batch_output import _inferred

    rows = [*numbers(6_000), {"number": "many"}]
    kinds = _inferred(write_rows(tmp_path, rows))
    assert kinds["number"] == pa.string()
    assert kinds["right"] == pa.int64()


async def test_large_numbers_beside_fractions_far_down_the_file_are_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Floating point would round them; the job is paid when they come to be written."""
    monkeypatch.setattr("flows.batch_output._GROUP_ROWS", 2)
    large = 2**60 + 1
    rows: list[Any] = [
        {"number": 1, "id": large, "some": 3},
        {"number": 2, "id": None},
        {"number": 3, "id": 0.5, "some": 0.5},
    ]
    out = await result(tmp_path, batch_job(tmp_path, rows, out="out.parquet"))
    assert out.column("id").to_pylist() == [str(large), None, "0.5"]
    assert out.column("some").to_pylist() == [3.0, None, 0.5]


async def test_an_output_that_was_begun_is_not_left_behind(tmp_path: Path) -> None:
    async with ModelServer(reply=doubled) as server:
        write_models(tmp_path, server.url)
        job = batch_job(tmp_path, numbers(5), out="out.parquet")

        async def changes(chunk: BatchChunk) -> BatchChunkDone:
            done = await run_batch_chunk(chunk)
            write_rows(tmp_path, numbers(4))
            return done

        async with open_session(job.session) as session:
            with pytest.raises(DataError, match="was changed while the job ran"):
                await batch(job, session, runner=changes)
    assert not list(tmp_path.glob(".out.parquet*"))


async def test_what_parquet_has_no_form_for_is_text(tmp_path: Path) -> None:
    """Half a character, and objects without fields: the job is paid when they come to be written."""
    rows: list[Any] = [
        {"number": 1, "half": "a\ud800b", "within": [{"x": "\ud800"}], "empty": {}, "deep": [{"y": {}}]},
        {"number": 2, "half": "whole", "within": [], "empty": {}, "deep": []},
    ]
    out = await result(tmp_path, batch_job(tmp_path, rows, out="out.parquet"))
    assert out.column("half").to_pylist() == ["a?b", "whole"]
    assert out.column("within").to_pylist() == ['[{"x": "\\ud800"}]', "[]"]
    assert out.column("empty").to_pylist() == ["{}", "{}"]
    assert out.column("deep").to_pylist() == ['[{"y": {}}]', "[]"]
