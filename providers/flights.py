"""What was in flight when a process died: counts that survive `kill -9`, so that a resumed run can report them.

Each gateway keeps a small file, mapped into memory and locked while its process lives, with one slot per run: how many
samples of it have been sent for and are not stored yet. A write is a store to memory, which the kernel keeps whatever
becomes of the process. A file that nobody holds the lock of is what a dead process left.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import logging
import mmap
import os
import secrets
import struct
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from db.database import Database

__all__ = ["Flight", "Flights"]

_LOG: Final = logging.getLogger("colonnade.providers")
_SLOT: Final = struct.Struct("<16sq")
_SLOTS: Final = 512
_SIZE: Final = _SLOT.size * _SLOTS
_SHARED: Final = _SLOTS - 1
"""The slot of all runs that find none of their own; its mark is no run's, so every run takes it for its own."""
_NO_MARK: Final = bytes(16)


class _Place(NamedTuple):
    folder: Path
    name: str


class Flight:
    """Samples of one request: counted from the first time they are sent for until the block ends, stored or failed."""

    __slots__ = ("_flights", "_n", "_run_id", "_up")

    def __init__(self, flights: Flights, run_id: str, n: int) -> None:
        self._flights = flights
        self._run_id = run_id
        self._n = n
        self._up = False

    def begin(self) -> None:
        """Count the samples as sent for; a repeated attempt counts them once."""
        if not self._up:
            self._up = True
            self._flights.add(self._run_id, self._n)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._up:
            self._up = False
            self._flights.add(self._run_id, -self._n)


class Flights:
    """The counts of one gateway; the file is made at the first call and removed by `close`.

    It lies in `.flights/` beside an SQLite file. A server's database has no such place, and the file is in the folder
    for temporary files, where it is found by what runs later on the same machine. Without a database nothing is kept.
    """

    def __init__(self, database: Database | None) -> None:
        self._place = None if database is None else _place(database)
        self.interrupted = 0
        """Samples of the runs at work here that dead processes had sent for and not stored."""
        self._file: _File | None = None
        self._slots: dict[str, int] = {}
        self._counts = [0] * _SLOTS
        self._free = list(range(_SHARED - 1, -1, -1))
        self._idle: OrderedDict[str, None] = OrderedDict()

    def flight(self, run_id: str, n: int) -> Flight:
        """Return the count of one request, for use in a `with` block."""
        return Flight(self, run_id, n)

    def add(self, run_id: str, n: int) -> None:
        """Add to what a run has in flight."""
        if self._place is None:
            return
        slot = self._slots.get(run_id)
        if slot is None:
            slot = self._take(run_id, self._place)
        self._counts[slot] += n
        self._written(self._place).put(slot, self._counts[slot])
        if slot != _SHARED:
            if self._counts[slot]:
                self._idle.pop(run_id, None)
            else:
                self._idle[run_id] = None

    def close(self) -> None:
        """Remove the file; harmless when repeated."""
        if self._file is not None:
            self._file.remove()
            self._file = None

    def _take(self, run_id: str, place: _Place) -> int:
        if not self._free and self._idle:
            oldest, _ = self._idle.popitem(last=False)
            self._free.append(self._slots.pop(oldest))
        slot = self._free.pop() if self._free else _SHARED
        self._slots[run_id] = slot
        self._written(place).mark(slot, _NO_MARK if slot == _SHARED else _mark(run_id))
        self._look_back(run_id, place)
        return slot

    def _look_back(self, run_id: str, place: _Place) -> None:
        found = sum(file.taken(_mark(run_id)) for file in _left(place))
        if found:
            self.interrupted += found
            _LOG.warning(
                "Run %s was cut off with %d samples sent for and not stored: they may have been billed, and are asked "
                "for again.",
                run_id,
                found,
                extra={"run_id": run_id, "interrupted": found},
            )

    def _written(self, place: _Place) -> _File:
        if self._file is None:
            self._file = _File.made(place)
        return self._file


class _File:
    """A mapped file whose lock is held."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, _SIZE)

    @classmethod
    def made(cls, place: _Place) -> _File:
        """Make a file; it gets its name when it is locked, so that nobody takes it for one left behind."""
        place.folder.mkdir(parents=True, exist_ok=True)
        path = place.folder / f"{place.name}-{secrets.token_hex(6)}.flights"
        early = path.with_suffix(".new")
        descriptor = os.open(early, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, _SIZE)
        early.rename(path)
        return cls(path, descriptor)

    @classmethod
    def left(cls, path: Path) -> _File | None:
        """Open a file that nobody holds; None where its process lives, or another one has just dealt with it."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if os.fstat(descriptor).st_nlink == 0:
            os.close(descriptor)
            return None
        return cls(path, descriptor)

    def mark(self, slot: int, mark: bytes) -> None:
        _SLOT.pack_into(self._map, slot * _SLOT.size, mark, 0)

    def put(self, slot: int, count: int) -> None:
        struct.pack_into("<q", self._map, slot * _SLOT.size + 16, count)

    def taken(self, mark: bytes) -> int:
        """Return what a run had in flight, and strike it out."""
        found = 0
        for slot, (own, count) in enumerate(_SLOT.iter_unpack(self._map[:])):
            if count and own in (mark, _NO_MARK):
                found += count
                self.put(slot, 0)
        return found

    def empty(self) -> bool:
        return not any(count for _, count in _SLOT.iter_unpack(self._map[:]))

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        self._map.close()
        os.close(self._descriptor)


def _mark(run_id: str) -> bytes:
    return hashlib.sha256(run_id.encode()).digest()[:16]


def _place(database: Database) -> _Place:
    if database.dialect == "sqlite":
        path = Path(str(database.engine.url.database)).absolute()
        return _Place(path.parent / ".flights", path.name)
    name = hashlib.sha256(database.url_without_password.encode()).hexdigest()[:16]
    return _Place(Path(tempfile.gettempdir()) / f"colonnade-{os.getuid()}", name)


def _left(place: _Place) -> Iterator[_File]:
    """Yield the files of dead processes, locked; afterwards those that hold nothing more are removed."""
    for path in sorted(place.folder.glob(f"{glob.escape(place.name)}-*.flights")):
        file = _File.left(path)
        if file is None:
            continue
        yield file
        if file.empty():
            file.remove()
        else:
            file.release()
