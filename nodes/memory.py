"""A memory of concepts: a JSONL file that items of a run append to and later items read.

    {"item": "5c1f0a…", "situation": "A heap is halved.", "concept": "Halve before you add what comes later."}

A line is appended in one piece under a lock, so that many workers may share a file. One item has one line at most:
asked again, it adds nothing. An item whose concept is there already has a line with `"concept": null`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from db.errors import DataError
from nodes.files import load_once

__all__ = ["Concept", "item_key", "read_memory", "store"]

_KEY: Final = 16


class Concept(NamedTuple):
    """What an item taught: where it applies, and what to do there."""

    situation: str
    concept: str


class Memory(NamedTuple):
    """What stands in a file."""

    concepts: tuple[Concept, ...]
    """Each once, in the order in which they were stored."""
    items: frozenset[str]
    """The items that have their line."""


_NOTHING = Memory((), frozenset())


def item_key(question: str) -> str:
    """Return the key of an item: the first 16 hexadecimal digits of the SHA-256 of its question."""
    return hashlib.sha256(question.encode("utf-8", "surrogatepass")).hexdigest()[:_KEY]


def read_memory(path: str | Path) -> Memory:
    """Read a memory; a file that is not there yet is an empty one.

    Raises `DataError` with the number of a line that is wrong.
    """
    return load_once(path, _parse) if Path(path).exists() else _NOTHING


def store(path: str | Path, item: str, concept: Concept) -> bool:
    """Append what an item taught, unless the item has its line; return whether the memory has one concept more.

    Raises `DataError` where the file cannot be written.
    """
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise DataError(f"The memory {str(path)!r} cannot be written ({error.strerror or error}).") from None
    try:
        _lock(descriptor)
        try:
            content = _whole(descriptor)
            known = _parse(content)
        except DataError as error:
            raise DataError(f"{path}, {error}") from None
        if item in known.items:
            return False
        is_new = _folded(concept) not in map(_folded, known.concepts)
        line = {"item": item, "situation": concept.situation, "concept": concept.concept if is_new else None}
        # A line that somebody else left open is ended first, or the two would be one that nobody can read.
        ended = b"" if not content or content.endswith(b"\n") else b"\n"
        # One write to a file opened for appending: a reader sees the whole line or nothing of it.
        os.write(descriptor, ended + orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        os.fsync(descriptor)
        return is_new
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows has none; there one process may use a memory at a time
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def _whole(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    parts = []
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def _parse(content: bytes) -> Memory:
    found: dict[str, Concept] = {}
    items = set()
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
            items.add(str(row["item"]))
            if row["concept"] is not None:
                concept = Concept(str(row.get("situation") or ""), str(row["concept"]))
                found.setdefault(_folded(concept), concept)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise DataError(
                f"line {number}: no entry of a memory; take the line out, or name another file as the memory."
            ) from None
    return Memory(tuple(found.values()), frozenset(items))


def _folded(concept: Concept) -> str:
    return " ".join(concept.concept.split()).casefold().rstrip(".")


def texts_of(concepts: Sequence[Concept]) -> list[str]:
    """Return what a question is compared with: the situation and the concept."""
    return [f"{concept.situation} {concept.concept}".strip() for concept in concepts]
