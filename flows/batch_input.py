"""Rows of a batch's input, one at a time: JSON lines, CSV or Parquet; a row that cannot be read stays a row."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from db.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

__all__ = [
    "INPUT_SUFFIXES",
    "InputFile",
    "InputRow",
    "input_state",
    "inspect_input",
    "need_pyarrow",
    "open_parquet",
    "read_input",
]

INPUT_SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson", ".csv", ".csv.gz", ".tsv", ".parquet")

_LONGEST_FIELD = 10_000_000
_READ_BYTES = 1 << 20
_PARQUET_ROWS = 1_000


class InputRow(NamedTuple):
    """One row, good or bad."""

    number: int
    """Counted from 1, bad rows included; it names the row in every go at the job."""
    line: int
    """The line on which it begins, counted from 1; in Parquet, which has no lines, the number."""
    values: Mapping[str, object]
    """The columns; none where the row is bad."""
    reason: str = ""
    """Why the row cannot be used."""


class InputFile(NamedTuple):
    """What one reading of a file tells."""

    digest: str
    """SHA-256 of its bytes, in hex."""
    rows: int
    """Bad rows included."""
    columns: tuple[str, ...]
    """Those of the first good row, or of the header; empty where no row is good."""
    state: tuple[int, int]
    """Size and time of the last change, to see that the file stays what it was."""


def inspect_input(path: Path) -> InputFile:
    """Read a file through once; raises `DataError` for one that is absent, empty or of an unknown kind."""
    rows, columns, state = 0, tuple[str, ...](), input_state(path)
    for row in read_input(path):
        rows += 1
        columns = columns or tuple(row.values)
    if not rows:
        raise DataError(f"The data file {str(path)!r} holds no rows; put one question on each line.")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return InputFile(digest.hexdigest(), rows, columns, state)


def input_state(path: Path) -> tuple[int, int]:
    """Return a file's size and the time of its last change, zeros where there is none."""
    return (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else (0, 0)


def read_input(path: Path) -> Iterator[InputRow]:
    """Yield the rows of a file without holding them all; a row that cannot be read comes with its reason.

    Raises `DataError` for a file that is absent, of an unknown kind, or broken as a whole (its compression, its
    header, its pages), and `ConfigError` for Parquet without pyarrow.
    """
    name = path.name.lower()
    if not path.is_file():
        near = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
        raise DataError(f"There is no data file {str(path)!r}; check the path.{did_you_mean(path.name, near)}")
    if not name.endswith(INPUT_SUFFIXES):
        raise DataError(f"The data file {str(path)!r} is of an unknown kind; name it {', '.join(INPUT_SUFFIXES)}.")
    if name.endswith(".parquet"):
        yield from _parquet_rows(path)
        return
    reader = _json_rows if "json" in name else _csv_rows
    try:
        with gzip.open(path, "rb") if name.endswith(".gz") else path.open("rb") as file:
            yield from reader(path, file)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: the gzip data is broken ({error}); get the file again.") from error


def _json_rows(path: Path, file: Iterable[bytes]) -> Iterator[InputRow]:
    number = 0
    for line, raw in enumerate(file, start=1):
        if raw.strip():
            number += 1
            yield _json_row(number, line, raw)


def _json_row(number: int, line: int, raw: bytes) -> InputRow:
    try:
        row = json.loads(raw.decode("utf-8-sig" if line == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        return InputRow(number, line, {}, f"line {line}: the text is not UTF-8 ({error.reason})")
    except (ValueError, RecursionError) as error:
        what = "nested too deep" if isinstance(error, RecursionError) else "a number of too many digits"
        if isinstance(error, json.JSONDecodeError):
            what = f"{error.msg}, column {error.colno}"
        return InputRow(number, line, {}, f"line {line}: not valid JSON ({what})")
    if not isinstance(row, dict):
        return InputRow(number, line, {}, f"line {line}: a JSON object with named columns is needed")
    return InputRow(number, line, row, "" if row else f"line {line}: the row has no columns")


def _csv_rows(path: Path, file: Iterable[bytes]) -> Iterator[InputRow]:
    csv.field_size_limit(_LONGEST_FIELD)
    # A byte that is no UTF-8 becomes a lone surrogate, which is found in its own row and not where the buffer ended.
    text = (line.decode("utf-8-sig" if first else "utf-8", "surrogateescape") for first, line in _marked(file))
    reader = csv.reader(text, delimiter="\t" if ".tsv" in path.name.lower() else ",", strict=True)
    header: list[str] | None = None
    numbers = count(1)
    while True:
        begin = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if header is None:
                raise DataError(f"{path}, line 1: the header is not valid CSV ({error}).") from error
            yield InputRow(next(numbers), begin, {}, f"line {begin}: not valid CSV ({error})")
            continue
        if header is None:
            header = _header(path, fields)
        elif fields:
            yield _csv_row(next(numbers), begin, header, fields)


def _marked(file: Iterable[bytes]) -> Iterator[tuple[bool, bytes]]:
    return ((place == 0, line) for place, line in enumerate(file))


def _csv_row(number: int, line: int, header: list[str], fields: list[str]) -> InputRow:
    if len(fields) != len(header):
        reason = f"line {line}: {len(fields)} fields where the header has {len(header)} columns"
        return InputRow(number, line, {}, reason)
    if any("\udc80" <= character <= "\udcff" for field in fields if not field.isascii() for character in field):
        return InputRow(number, line, {}, f"line {line}: the text is not UTF-8")
    return InputRow(number, line, dict(zip(header, fields, strict=True)))


def _header(path: Path, names: list[str]) -> list[str]:
    header = [name.strip() for name in names]
    if not all(header) or len(set(header)) != len(header):
        raise DataError(f"{path}, line 1: the header needs a different name for each column ({', '.join(header)}).")
    return header


def need_pyarrow() -> None:
    """Raise `ConfigError` where pyarrow, which is an extra, is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigError("Parquet needs pyarrow; install it with: pip install 'colonnade[parquet]'.")


def open_parquet(path: Path) -> ParquetFile:
    """Open a Parquet file; raises `ConfigError` without pyarrow and `DataError` for what is no Parquet.

    Columns of one name, of which a row would keep the last, are a `DataError` too.
    """
    need_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from error
    names = file.schema_arrow.names
    if len(set(names)) != len(names):
        file.close()
        raise DataError(f"{path}: a different name is needed for each column ({', '.join(names)}).")
    return file


def _parquet_rows(path: Path) -> Iterator[InputRow]:
    import pyarrow as pa

    numbers = count(1)
    with open_parquet(path) as file:
        try:
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                for values in batch.to_pylist():
                    number = next(numbers)
                    yield InputRow(number, number, values)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: no readable Parquet ({str(error).splitlines()[0].rstrip('.')}).")
