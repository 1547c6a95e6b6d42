"""One thread's share of an engine: slots that sequences join and leave between the steps of a batch."""

from __future__ import annotations

from collections import deque

import numpy as np

from providers.embedded.arena import KvArena, round_up
from providers.embedded.forward import CHUNK, ROWS, Forward
from providers.embedded.jobs import Finished, Job, Sequence
from providers.embedded.model import EmbeddedModel
from providers.embedded.prompts import PromptCache, PromptState
from providers.embedded.sampling import draw, uniforms
from providers.embedded.weights import F32
from providers.errors import ProviderError

__all__ = ["Worker"]

_PROMPT_CACHE_BYTES = 32 * 2**20


class Worker:
    """Continuous batching over the slots 0..max_batch-1; one more slot is the desk where prompts are read.

    Not thread-safe: the engine's thread owns it. Sequences keep to the low slots, since a step computes all slots up
    to the highest one in use.
    """

    def __init__(self, model: EmbeddedModel, max_batch: int) -> None:
        self._model, self._max_batch = model, max_batch
        self._desk = round_up(max_batch, ROWS)
        self._arena = KvArena(self._desk + 1, model.config)
        self._forward = Forward(model.weights, model.config, self._arena, max_batch)
        self._prompts = PromptCache(_PROMPT_CACHE_BYTES)
        self._pending: deque[tuple[Job, int, PromptState]] = deque()
        self._slots: list[Sequence | None] = [None] * self._desk
        self._tokens = np.zeros(self._desk, np.int64)
        self._positions = np.zeros(self._desk, np.int64)
        self._temperatures = np.zeros(self._desk, np.float32)
        self._top_p = np.ones(self._desk, np.float32)
        self._streams = np.zeros(self._desk, np.uint64)
        self._counts = np.zeros(self._desk, np.uint64)

    @property
    def active(self) -> int:
        """Sequences that hold a slot."""
        return sum(sequence is not None for sequence in self._slots)

    @property
    def waiting(self) -> int:
        """Samples of a job already taken that wait for a slot."""
        return len(self._pending)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do without a new job."""
        return bool(self._pending) or self.active > 0

    @property
    def hungry(self) -> bool:
        """Whether a new job would find a slot."""
        return not self._pending and self.active < self._max_batch

    def begin(self, job: Job) -> None:
        """Read a job's prompt and queue its samples, or answer it where only the prompt's logits are asked for."""
        state = self._read(job)
        if state is None:
            return
        if not job.seeds:
            job.succeed(Finished((), state.logits))
            return
        self._pending.extend((job, place, state) for place in range(len(job.seeds)))
        self.admit()

    def admit(self) -> None:
        """Give free slots to the samples that wait."""
        while self._pending and self.active < self._max_batch:
            job, place, state = self._pending.popleft()
            if not job.future.cancelled():
                self._join(self._slots.index(None), Sequence(job, place, state.logits, self._model.tokenizer), state)

    def step(self) -> None:
        """Let go what was cancelled, then draw one token for every sequence."""
        self._drop_cancelled()
        self.admit()
        rows = self._rows()
        if not rows:
            return
        logits = self._forward.decode(self._tokens[:rows], self._positions[:rows])
        uniform = uniforms(self._streams[:rows], self._counts[:rows])
        tokens = draw(logits, self._temperatures[:rows], self._top_p[:rows], uniform).tolist()
        for slot, sequence in enumerate(self._slots[:rows]):
            if sequence is not None:
                self._positions[slot] += 1
                self._accept(slot, sequence, tokens[slot], logits[slot])
        self._compact()

    def fail(self, error: ProviderError) -> None:
        """Give every job an error and free every slot."""
        jobs = [job for job, _, _ in self._pending] + [entry.job for entry in self._slots if entry is not None]
        self._pending.clear()
        for slot, sequence in enumerate(self._slots):
            if sequence is not None:
                self._leave(slot)
        for job in jobs:
            job.fail(error)

    def _rows(self) -> int:
        top = max((slot for slot, sequence in enumerate(self._slots) if sequence is not None), default=-1)
        return round_up(top + 1, ROWS)

    def _read(self, job: Job) -> PromptState | None:
        """Return the prompt's state, or None where the job was cancelled meanwhile."""
        state = self._prompts.exact(job.prompt)
        if state is not None:
            return state
        kv, start = self._prompts.longest(job.prompt)
        if kv is not None:
            self._arena.load(self._desk, kv[:, :, :, :start])
        logits = None
        for begin in range(start, len(job.prompt), CHUNK):
            if job.future.cancelled():
                return None
            logits = self._forward.prefill(job.prompt[begin : begin + CHUNK], begin, self._desk)
        assert logits is not None, "a prompt has at least one token that is not shared"
        state = PromptState(job.prompt, self._arena.copy_out(self._desk, len(job.prompt)), logits.copy())
        self._arena.release(self._desk)
        self._prompts.add(state)
        return state

    def _join(self, slot: int, sequence: Sequence, state: PromptState) -> None:
        plan = sequence.job.plan
        self._slots[slot] = sequence
        self._arena.load(slot, state.kv)
        self._positions[slot] = len(state.tokens)
        self._temperatures[slot], self._top_p[slot] = plan.temperature, plan.top_p
        self._streams[slot], self._counts[slot] = sequence.stream, 0
        one = slice(slot, slot + 1)
        uniform = uniforms(self._streams[one], self._counts[one])
        token = int(draw(state.logits[None], self._temperatures[one], self._top_p[one], uniform)[0])
        self._accept(slot, sequence, token, state.logits)

    def _accept(self, slot: int, sequence: Sequence, token: int, logits: F32) -> None:
        self._tokens[slot] = token
        self._counts[slot] += np.uint64(1)
        reason = sequence.accept(token, logits)
        if reason is not None:
            self._leave(slot)
            if not sequence.job.future.cancelled():
                sequence.job.put(sequence.place, sequence.completion(reason), sequence.prompt_logits)

    def _leave(self, slot: int) -> None:
        self._slots[slot] = None
        self._arena.touch(slot, int(self._positions[slot]) + 1)
        self._arena.release(slot)
        self._tokens[slot] = self._positions[slot] = 0
        self._temperatures[slot], self._top_p[slot] = 0.0, 1.0

    def _drop_cancelled(self) -> None:
        for slot, sequence in enumerate(self._slots):
            if sequence is not None and sequence.job.future.cancelled():
                self._leave(slot)
        if any(job.future.cancelled() for job, _, _ in self._pending):
            self._pending = deque(entry for entry in self._pending if not entry[0].future.cancelled())
        self._compact()

    def _compact(self) -> None:
        """Move the highest sequences into holes where that spares the next step a block of rows."""
        while not self._pending and self._rows() > round_up(self.active, ROWS):
            source = max(slot for slot, sequence in enumerate(self._slots) if sequence is not None)
            target = self._slots.index(None)
            self._arena.move(source, target, int(self._positions[source]))
            for column in (self._tokens, self._positions, self._temperatures, self._top_p, self._streams, self._counts):
                column[target] = column[source]
            self._slots[target] = self._slots[source]
            self._leave(source)
