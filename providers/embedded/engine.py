"""The engine of an embedded model: threads of its own that serve a queue of jobs, so the event loop stays free."""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple

import numpy as np

from providers.embedded.jobs import Job
from providers.embedded.model import EmbeddedModel
from providers.embedded.worker import Worker
from providers.errors import ConnectionFailed, Overloaded

__all__ = ["Engine", "Load"]


class Load(NamedTuple):
    """What an engine is doing: samples being generated, and samples or jobs that wait."""

    active: int
    waiting: int


class Engine:
    """A queue of jobs and `threads` workers of `max_batch` slots each; usable from any thread."""

    def __init__(self, model: EmbeddedModel, *, max_batch: int, threads: int) -> None:
        self._name = model.name
        self._queue: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._workers = [Worker(model, max_batch) for _ in range(threads)]
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), name=f"embedded-{model.name}-{number}", daemon=True)
            for number, worker in enumerate(self._workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job; its future carries the answer. Raises `ConnectionFailed` on a closed engine."""
        with self._changed:
            if self._closing or not all(thread.is_alive() for thread in self._threads):
                raise ConnectionFailed(f"the embedded model '{self._name}' is closed in this process.")
            self._queue.append(job)
            self._changed.notify()

    def load(self) -> Load:
        """Return how much is being done and how much waits."""
        with self._changed:
            queued = sum(not job.future.cancelled() for job in self._queue)
        workers = self._workers
        return Load(sum(worker.active for worker in workers), queued + sum(worker.waiting for worker in workers))

    def close(self) -> None:
        """Fail what is in flight with `ConnectionFailed` and join the threads; a second call does nothing."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _serve(self, worker: Worker) -> None:
        """Run a worker until the engine closes; an error fails the jobs that the worker holds, not the engine."""
        job: Job | None = None
        with np.errstate(over="ignore"):  # exp of a large gate overflows to infinity, which yields the right 0
            while not self._closing:
                try:
                    job = self._next(worker)
                    if job is not None:
                        worker.begin(job)
                    if not worker.hungry or not self._queue:
                        worker.step()
                except Exception as error:  # noqa: BLE001 - a thread has no caller: the jobs carry the error
                    failure = Overloaded(f"the embedded model '{self._name}' failed: {type(error).__name__}: {error}.")
                    failure.__cause__ = error
                    if job is not None:
                        job.fail(failure)
                    worker.fail(failure)
        self._drain(worker)

    def _next(self, worker: Worker) -> Job | None:
        """Take a job where the worker has room, waiting for one only where it has nothing else to do."""
        with self._changed:
            while not self._closing:
                while self._queue and worker.hungry:
                    job = self._queue.popleft()
                    if not job.future.cancelled():
                        return job
                if worker.busy:
                    return None
                self._changed.wait()
        return None

    def _drain(self, worker: Worker) -> None:
        closed = ConnectionFailed(f"the embedded model '{self._name}' was closed while it was generating.")
        worker.fail(closed)
        with self._changed:
            while self._queue:
                self._queue.popleft().fail(closed)
