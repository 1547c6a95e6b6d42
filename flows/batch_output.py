"""The join of a batch's parts with its input: one output in the order of the input, and a file of the failed rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from db.errors import DataError
from flows.batch_input import InputRow, input_state, open_parquet, read_input
from flows.batch_parts import failed_path, json_line, whole_file
from flows.batch_report import Sums

if TYPE_CHECKING:
    import pyarrow as pa

    from flows.batch_job import OpenBatch
    from flows.batch_parts import Parts

__all__ = ["join_parts", "sum_parts"]

_GROUP_ROWS = 5_000
_EXACT = 2**53
"""Whole numbers up to here are exact as floating point."""


class _Joined(NamedTuple):
    row: InputRow
    came: dict[str, Any]
    """The row of the part."""


class _Sink(Protocol):
    def __call__(self, row: dict[str, Any]) -> object: ...


def sum_parts(batch: OpenBatch, parts: Parts) -> Sums:
    """Add up the parts that stand."""
    sums, score = Sums(), batch.added.get("score")
    for number in range(-(-batch.input.rows // parts.chunk)):
        if parts.stands(number):
            for came in parts.read(number):
                sums.add(came, came.get("out", {}).get(score))
    return sums


def join_parts(batch: OpenBatch, parts: Parts) -> Sums:
    """Write the output and the file of failed rows, each whole or not at all; raises `DataError` for another input."""
    sums, score = Sums(), batch.added.get("score")
    writer = _parquet if parts.out.name.lower().endswith(".parquet") else _json
    with whole_file(failed_path(parts.out)) as failed, writer(batch, parts.out) as good:
        for row, came in _joined(batch, parts):
            sums.add(came, came.get("out", {}).get(score))
            if came["ok"]:
                good({**row.values, **came["out"]})
            else:
                failed.write(json_line(_failure(row, came)))
    if not sums.failed:
        failed_path(parts.out).unlink()
    return sums


def _joined(batch: OpenBatch, parts: Parts) -> Iterator[_Joined]:
    if input_state(batch.job.input) != batch.input.state:
        raise DataError(f"{batch.job.input} was changed while the job ran; put it back, or use --overwrite.")
    rows = read_input(batch.job.input)
    for number in range(-(-batch.input.rows // parts.chunk)):
        for came in parts.read(number):
            row = next(rows)
            if row.number != came["row"]:
                raise DataError(f"{parts.path(number)} does not fit {batch.job.input}; begin anew with --overwrite.")
            yield _Joined(row, came)


def _failure(row: InputRow, came: dict[str, Any]) -> dict[str, Any]:
    return {
        "row": row.number,
        "line": row.line,
        "error": came["error"],
        "reason": came["reason"],
        "retried_by_resume": came["retry"],
        "input": row.values,
    }


@contextmanager
def _json(batch: OpenBatch, out: Path) -> Iterator[_Sink]:
    with whole_file(out) as file:
        yield lambda row: file.write(json_line(row))


@contextmanager
def _parquet(batch: OpenBatch, out: Path) -> Iterator[_Sink]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(batch)
    early = out.with_name(f".{out.name}.new")
    group: list[dict[str, Any]] = []
    try:
        with pq.ParquetWriter(early, schema) as writer:

            def flush() -> None:
                columns = [_column([row.get(field.name) for row in group], field.type) for field in schema]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
                group.clear()

            def put(row: dict[str, Any]) -> None:
                group.append(row)
                if len(group) == _GROUP_ROWS:
                    flush()

            yield put
            flush()
    except BaseException:
        early.unlink(missing_ok=True)
        raise
    with early.open("rb") as file:
        os.fsync(file.fileno())
    early.replace(out)


def _schema(batch: OpenBatch) -> pa.Schema:
    """Return the input's columns, then those that are added."""
    import pyarrow as pa

    kinds = {
        "score": pa.float64(),
        "cost": pa.float64(),
        "paid": pa.float64(),
        "tokens": pa.int64(),
        "calls": pa.int64(),
    }
    if batch.job.input.name.lower().endswith(".parquet"):
        with open_parquet(batch.job.input) as file:
            fields = list(file.schema_arrow)
    else:
        fields = [pa.field(name, kind) for name, kind in _inferred(batch.job.input).items()]
    added = [pa.field(name, kinds.get(what, pa.string())) for what, name in batch.added.items()]
    return pa.schema([*fields, *added])


def _inferred(path: Path) -> dict[str, pa.DataType]:
    """Find the type of every column of a file that states none; columns of mixed types become text."""
    import pyarrow as pa

    kinds: dict[str, pa.DataType] = {}
    rows, large = read_input(path), set[str]()
    while group := [row.values for row in islice(rows, _GROUP_ROWS)]:
        for name in dict.fromkeys(name for values in group for name in values):
            column = [values.get(name) for values in group]
            kind = _kind(column)
            kinds[name] = _either(kinds.get(name, kind), kind)
            if pa.types.is_integer(kind) and any(isinstance(value, int) and abs(value) > _EXACT for value in column):
                large.add(name)

    def without_form(name: str, kind: pa.DataType) -> bool:
        rounded = name in large and pa.types.is_floating(kind)
        return pa.types.is_null(kind) or _holds_nothing(kind) or rounded

    return {name: pa.string() if without_form(name, kind) else kind for name, kind in kinds.items()}


def _holds_nothing(kind: pa.DataType) -> bool:
    """Tell whether objects without any field are in a type, for which Parquet has no form."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return kind.num_fields == 0 or any(_holds_nothing(kind.field(place).type) for place in range(kind.num_fields))
    return bool(pa.types.is_list(kind)) and _holds_nothing(kind.value_type)


def _kind(values: Sequence[Any]) -> pa.DataType:
    import pyarrow as pa

    try:
        return pa.array(values).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        return pa.string()


def _either(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    try:
        return (
            pa.unify_schemas([pa.schema([("x", first)]), pa.schema([("x", second)])], promote_options="permissive")
            .field("x")
            .type
        )
    except pa.ArrowTypeError:
        return pa.string()


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_string(kind):
        values = [None if value is None else _text(value) for value in values]
    return pa.array(values, type=kind)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json_line(value).strip()
    # Half a character (a lone surrogate), which JSON can hold and UTF-8 cannot, becomes a question mark.
    return text.encode(errors="replace").decode()
