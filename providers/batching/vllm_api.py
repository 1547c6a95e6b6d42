"""vLLM's offline `run-batch`: a program that reads OpenAI's input file and writes OpenAI's output file.

It runs in a session of its own and outlives this process. A lock on a file of the batch, which the program holds as
long as it lives, tells a later process that it is still at work.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from db.errors import ConfigError
from providers.base import Reply, WireRequest
from providers.batching.base import BatchState, Line, Result
from providers.batching.openai_api import completion_line, read_line
from providers.errors import MalformedReply
from providers.wire import read_reply, request_body

__all__ = ["VLLMBatches"]


class VLLMBatches:
    """One model, run by a command; the files of its batches lie in a folder."""

    def __init__(
        self, command: Sequence[str], model: str, folder: Path, *, extra_body: Mapping[str, object] | None = None
    ) -> None:
        self._command = tuple(command)
        self._model = model
        self._folder = folder
        self._extra = dict(extra_body or {})
        self._running: dict[str, asyncio.subprocess.Process] = {}

    def takes(self, request: WireRequest) -> bool:
        """Take all chat completions."""
        return True

    def line(self, id: str, request: WireRequest) -> Line:
        """Write a chat completion."""
        return completion_line(id, {**request_body(request), **self._extra})

    async def prepare(self, mark: str, lines: Sequence[Line]) -> str:
        """Write the input file."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(mark, "in.jsonl")
        await asyncio.to_thread(path.write_bytes, b"\n".join(line.data for line in lines) + b"\n")
        return str(path)

    async def create(self, mark: str, prepared: str, lines: Sequence[Line]) -> str:
        """Start the program; raises `ConfigError` where it is not there."""
        log = self._path(mark, "log")
        with self._locked(mark) as lock, log.open("wb") as written:
            arguments = ("-i", prepared, "-o", str(self._path(mark, "part.jsonl")), "--model", self._model)
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=written,
                    stderr=written,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
            except OSError as error:
                raise ConfigError(
                    f"The program '{self._command[0]}' for batches of '{self._model}' cannot be started "
                    f"({error.strerror}); give its path in models.yaml as batch: {{api: vllm, command: [...]}}."
                ) from None
            self._running[mark] = process
            self._path(mark, "pid").write_text(str(process.pid))
        return mark

    async def find(self, mark: str, *, lines: int, since: datetime, known: Collection[str]) -> str | None:
        """Tell whether the program was started."""
        return mark if self._path(mark, "lock").exists() else None

    async def state(self, id: str) -> BatchState:
        """Look whether the program still holds its lock."""
        total = _count(self._path(id, "in.jsonl"))
        done = _count(self._path(id, "part.jsonl"))
        if self._alive(id):
            return BatchState(stage="running", done=done, total=total)
        # Of a program that an earlier process started, what it did not write is asked for again.
        code = await self._running[id].wait() if id in self._running else 0
        if code and not done and not self._path(id, "cancelled").exists():
            said = f"the program ended with {code}, see {self._path(id, 'log')}"
            return BatchState(stage="refused", done=0, total=total, said=said)
        return BatchState(stage="ended", done=done, total=total)

    async def results(self, id: str) -> AsyncIterator[Result]:
        """Read the output file; a last line that breaks off is left out."""
        path = self._path(id, "part.jsonl")
        if not path.exists():
            return
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n") or _whole(line):
                    yield read_line(line, None)

    async def cancel(self, id: str) -> None:
        """End the program."""
        if self._alive(id):
            self._path(id, "cancelled").touch()
            with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
                # Its lock is held, so that the number is still its own.
                os.killpg(int(self._path(id, "pid").read_text()), signal.SIGTERM)

    def read(self, answer: object, request: WireRequest) -> Reply:
        """Read a chat completion."""
        return read_reply(answer, request)

    async def aclose(self) -> None:
        """Leave programs at work alone: whoever comes next finds what they write."""
        self._running.clear()

    def _path(self, mark: str, name: str) -> Path:
        return self._folder / f"{mark}.{name}"

    def _alive(self, mark: str) -> bool:
        with self._open(mark) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    @contextlib.contextmanager
    def _locked(self, mark: str) -> Iterator[int]:
        with self._open(mark) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock

    @contextlib.contextmanager
    def _open(self, mark: str) -> Iterator[int]:
        # The lock belongs to the open file, which the program inherits; closing ours leaves its alone.
        lock = os.open(self._path(mark, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield lock
        finally:
            os.close(lock)


def _count(path: Path) -> int:
    if not path.exists():
        return 0
    with path.open("rb") as lines:
        return sum(1 for _ in lines)


def _whole(line: str) -> bool:
    try:
        read_line(line, None)
    except MalformedReply:
        return False
    return True
