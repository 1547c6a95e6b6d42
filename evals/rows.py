"""Rows of a data file, one at a time: JSON lines or CSV, plain or gzipped, with the line number of every row."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from db.errors import DataError, did_you_mean

__all__ = ["SUFFIXES", "Row", "read_rows"]

SUFFIXES = (".jsonl", ".jsonl.gz", ".ndjson", ".csv", ".csv.gz", ".tsv")

_LONGEST_FIELD = 10_000_000


class Row(NamedTuple):
    """One row and the line on which it begins, counted from 1."""

    line: int
    values: Mapping[str, object]


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file without holding them all.

    Raises `DataError`, with the line number, for a file that is absent, empty, of an unknown kind, or malformed.
    """
    if not path.is_file():
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"There is no data file {str(path)!r}; check the path.{did_you_mean(path.name, near)}")
    if not path.name.lower().endswith(SUFFIXES):
        raise DataError(f"The data file {str(path)!r} is of an unknown kind; name it {', '.join(SUFFIXES)}.")
    empty = True
    for row in _decoded(path):
        empty = False
        yield row
    if empty:
        raise DataError(f"The data file {str(path)!r} holds no rows (line 1); put one question on each line.")


def _decoded(path: Path) -> Iterator[Row]:
    line = 0
    reader = _json_rows if "json" in path.name.rpartition("/")[2].lower() else _csv_rows
    try:
        with _open(path) as file:
            for row in reader(path, file):
                line = row.line
                yield row
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, after line {line}: the text is not UTF-8 ({error.reason}); save it as UTF-8."
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}, after line {line}: the gzip data is broken ({error}); get the file again.") from error


def _open(path: Path) -> IO[str]:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _json_rows(path: Path, file: IO[str]) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}: not valid JSON ({error.msg}, column {error.colno}).") from error
        if not isinstance(row, dict):
            raise DataError(
                f"{path}, line {number}: a JSON object with named columns is needed, not {line.strip()[:40]}."
            )
        yield Row(number, row)


def _csv_rows(path: Path, file: IO[str]) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(file, delimiter="\t" if path.name.endswith(".tsv") else ",", strict=True)
    header: list[str] | None = None
    begin = 1
    try:
        for values in reader:
            if header is None:
                header = _header(path, values)
            elif values and len(values) != len(header):
                raise DataError(
                    f"{path}, line {begin}: {len(values)} fields where the header has {len(header)} columns."
                )
            elif values:
                yield Row(begin, dict(zip(header, values, strict=True)))
            begin = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {max(reader.line_num, begin)}: not valid CSV ({error}).") from error


def _header(path: Path, names: list[str]) -> list[str]:
    header = [name.strip() for name in names]
    if not all(header) or len(set(header)) != len(header):
        raise DataError(f"{path}, line 1: the header needs a different name for each column ({', '.join(header)}).")
    return header
