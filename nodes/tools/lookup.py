"""Lookup: the passages of a local file that share most with a query."""

from __future__ import annotations

import re
from typing import Any, ClassVar, NamedTuple

import orjson
from pydantic import Field, model_validator

from db.errors import DataError
from nodes.files import load_once, pinned, still
from nodes.retrieval import WordIndex, nearest
from nodes.tools.base import Tool, ToolError
from nodes.tools.registry import tool

__all__ = ["Lookup"]

_BLANK = re.compile(r"\n[ \t]*\n\s*")


class _Passages(NamedTuple):
    texts: tuple[str, ...]
    words: WordIndex


@tool("lookup")
class Lookup(Tool):
    """Search a local file by words (BM25) and return the passages that fit best, the best first.

    A name that ends in `.jsonl` has one object a line, with `text` and, where it is there, `title`; any other file is
    text in UTF-8, whose passages are set apart by empty lines. The file's digest stands in the architecture; a file
    that has changed since is refused.

    When to use it: for facts that stand in a file of yours and not in the model. Say in `about` what the file holds.
    Limits: words must match, since nothing is stemmed or translated; passages are cut at `passage_chars`; the file is
        held in memory. A query that shares no word with any passage fails.
    """

    usage: ClassVar[str] = "search in a local collection of texts, such as lookup[words of what is sought]"

    file: str = Field(min_length=1, description="A JSONL file with `text` and `title`, or a text file.")
    file_sha256: str | None = Field(default=None, description="Digest of the file; filled in where it is left out.")
    passages: int = Field(default=2, ge=1, le=20, description="Most passages that are returned.")
    passage_chars: int = Field(default=600, ge=20, le=20_000, description="Most characters of one passage.")

    @model_validator(mode="before")
    @classmethod
    def _pin(cls, data: Any) -> Any:  # raw settings, as pydantic hands them to a validator
        return pinned(data, "file")

    async def call(self, text: str) -> str:
        """Return the passages; raises `ToolError` where none fits, and `DataError` where the file is broken."""
        path = still(self.file, self.file_sha256)
        known = load_once(path, _read_lines if path.endswith(".jsonl") else _read_text)
        scores = known.words.scores(text)
        found = [known.texts[place] for place in nearest(scores, self.passages) if scores[place] > 0]
        if not found:
            raise ToolError(f"no passage shares a word with {text.strip()[:60]!r}")
        return "\n\n".join(_cut(passage, self.passage_chars) for passage in found)


def _cut(passage: str, most: int) -> str:
    return passage if len(passage) <= most else f"{passage[: most - 1].rstrip()}…"


def _read_lines(content: bytes) -> _Passages:
    texts = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
            text, title = row["text"], row.get("title")
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            text, title = None, None
        if not isinstance(text, str) or not isinstance(title, str | None):
            raise DataError(f"line {number}: no passage; a line is a JSON object with the texts `text` and `title`.")
        texts.append(f"{title}: {text.strip()}" if title else text.strip())
    return _indexed(texts)


def _read_text(content: bytes) -> _Passages:
    try:
        whole = content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"byte {error.start}: not UTF-8; save the file as UTF-8.") from None
    return _indexed([part.strip() for part in _BLANK.split(whole)])


def _indexed(texts: list[str]) -> _Passages:
    kept = tuple(text for text in texts if text)
    if not kept:
        raise DataError("line 1: the file holds no passage.")
    return _Passages(kept, WordIndex(kept))
