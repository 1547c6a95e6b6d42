"""Recorded outputs as a model: a JSONL file of questions with what models once answered, served without a network.

A question is found by the exact text of the last user message; sample i is the i-th recorded one. Token counts are
estimated from the text and marked so, since recordings rarely hold them.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import orjson

from db.errors import DataError
from providers.base import Completion, Message, Reply, Usage, WireRequest
from providers.errors import BadRequest
from providers.models import ReplaySource
from providers.wire import estimate_tokens

__all__ = ["ReplayTransport"]

_Row = Mapping[str, object]


class ReplayTransport:
    """A recording; all models of the file share it; it is read at the first call and kept.

    Raises `DataError` where the file is absent; a malformed line is a `DataError` with its number at the first call.
    """

    def __init__(self, source: ReplaySource) -> None:
        self._source = source
        self._loaded: Mapping[str, _Row] | None = None
        self._loading = asyncio.Lock()
        if not source.path.is_file():
            raise DataError(f"The recording {source.path} is not there; correct 'replay.path' in models.yaml.")

    async def complete(self, request: WireRequest) -> Reply:
        """Return recorded samples; raises `BadRequest` for a question or a sample that was not recorded."""
        rows = await self._rows()
        samples = self._samples(request, rows)
        completions: list[Completion] = []
        for place, index in enumerate(request.indices):
            if index >= len(samples):
                raise BadRequest(
                    f"The recording {self._source.path.name} holds {len(samples)} samples of '{request.model}' for "
                    f"this question; sample number {index + 1} was asked for."
                )
            prompt = sum(estimate_tokens(message.content) for message in request.messages) if place == 0 else 0
            usage = Usage(prompt, estimate_tokens(samples[index]), 0, True)
            completions.append(Completion(text=samples[index], finish_reason="stop", usage=usage))
        return Reply(completions=tuple(completions), served_model=request.model)

    async def list_models(self) -> tuple[str, ...]:
        """Name the models of the first row, where the path to the text leads over a model's name."""
        if "{model}" not in self._source.text:
            return ()
        rows = await self._rows()
        before = self._source.text[: self._source.text.index("{model}")]
        found = next((_walk(row, before, "") for row in rows.values()), None)
        return tuple(sorted(found)) if isinstance(found, dict) else ()

    def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Return None: nothing here can count."""
        return None

    async def aclose(self) -> None:
        """Nothing to give back."""

    async def _rows(self) -> Mapping[str, _Row]:
        if self._loaded is None:
            async with self._loading:
                if self._loaded is None:
                    self._loaded = await asyncio.to_thread(_read, self._source.path, self._source.question)
        return self._loaded

    def _samples(self, request: WireRequest, rows: Mapping[str, _Row]) -> list[str]:
        question = next((message.content for message in reversed(request.messages) if message.role == "user"), "")
        row = rows.get(question)
        name = self._source.path.name
        if row is None:
            raise BadRequest(f"The recording {name} does not hold the question '{_short(question)}'.")
        found = _walk(row, self._source.text, request.model)
        if isinstance(found, str):
            return [found]
        if isinstance(found, list) and all(isinstance(text, str) for text in found):
            return [str(text) for text in found]
        path = "/".join(str(step) for step in self._source.text)
        raise BadRequest(f"The recording {name} holds no text of '{request.model}' for this question (under {path}).")


def _read(path: Path, field: str) -> Mapping[str, _Row]:
    rows: dict[str, _Row] = {}
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise DataError(f"{path}, line {number}: not valid JSON.") from None
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            raise DataError(f"{path}, line {number}: has no text under '{field}', where replay.question points.")
        rows.setdefault(row[field], row)
    if not rows:
        raise DataError(f"{path}: holds no questions.")
    return rows


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield from file
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from None


def _walk(value: object, steps: Sequence[str | int], model: str) -> object:
    """Follow a path through JSON; None where it leads nowhere."""
    for place, step in enumerate(steps):
        if step == "*":
            return [_walk(entry, steps[place + 1 :], model) for entry in value] if isinstance(value, list) else None
        key = model if step == "{model}" else step
        if isinstance(value, dict) and isinstance(key, str):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and -len(value) <= key < len(value):
            value = value[key]
        else:
            return None
    return value


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
