"""Files that settings of a technique name: read once for each change, and pinned by what stood in them.

    file: examples.jsonl        # what a user writes
    file_sha256: 9f2c…          # what the settings add when they are first read

The digest is part of the architecture's id, so that two runs are of one architecture only where the file was the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from db.errors import DataError

__all__ = ["digest_of", "load_once", "pinned", "still"]

_T = TypeVar("_T")
_SHORT = 16
"""Digits of the digest that are kept: 64 bits tell a changed file from the old one."""


class _Stamp(NamedTuple):
    mtime_ns: int
    size: int


_loaded: dict[tuple[str, Callable[[bytes], Any]], tuple[_Stamp, Any]] = {}


def load_once(path: str | Path, read: Callable[[bytes], _T]) -> _T:
    """Return what `read` makes of a file's bytes, made anew only where the file has changed since.

    Raises `DataError` where there is no such file; what `read` raises as a `DataError` gets the path in front.
    """
    file = Path(path)
    stamp = _stamp(file)
    key = (str(file.absolute()), read)
    known = _loaded.get(key)
    if known is None or known[0] != stamp:
        try:
            known = (stamp, read(file.read_bytes()))
        except DataError as error:
            raise DataError(f"{path}, {error}") from None
        _loaded[key] = known
    value: _T = known[1]
    return value


def digest_of(path: str | Path) -> str:
    """Return the first 16 hexadecimal digits of a file's SHA-256; raises `DataError` where there is no such file."""
    return load_once(path, _digest)


def pinned(data: object, *names: str) -> object:
    """Return raw settings in which each file that one of the settings names has its digest beside it.

    For a validator that runs before all others. A digest that is given already is kept, so that the settings of an
    old run can be read where the file is no longer there.
    """
    if not isinstance(data, dict):
        return data
    missing = [
        name for name in names if isinstance(data.get(name), str) and data.get(f"{name}_sha256") is None and data[name]
    ]
    try:
        return {**data, **{f"{name}_sha256": digest_of(data[name]) for name in missing}}
    except DataError as error:
        raise ValueError(str(error)) from None


def still(path: str, digest: str | None) -> str:
    """Return the path of a file that has not changed since its digest was taken; raises `DataError` otherwise."""
    found = digest_of(path)
    if digest is not None and found != digest:
        raise DataError(
            f"The file {path!r} has changed since this architecture was made (SHA-256 {found}, not {digest}); "
            "bring the old file back, or leave the digest out to take the new one."
        )
    return path


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_SHORT]


def _stamp(file: Path) -> _Stamp:
    try:
        found = file.stat()
    except OSError as error:
        raise DataError(f"The file {str(file)!r} cannot be read ({error.strerror or error}); check the path.") from None
    if not file.is_file():
        raise DataError(f"The file {str(file)!r} is no plain file; give the path of one.")
    return _Stamp(found.st_mtime_ns, found.st_size)
