"""One thread's share of an engine: slots that sequences join and leave between the steps of a batch."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from providers.embedded.arena import KvArena, round_up
from providers.embedded.attention import Chunk
from providers.embedded.forward import CHUNK, ROWS, Forward
from providers.embedded.jobs import Finished, Job, Sequence
from providers.embedded.model import EmbeddedModel
from providers.embedded.prompts import PromptCache, PromptState
from providers.embedded.sampling import draw, uniforms
from providers.embedded.weights import F32
from providers.errors import ProviderError

__all__ = ["Worker"]

_PROMPT_CACHE_BYTES = 32 * 2**20


@dataclass(slots=True)
class _Reading:
    """A job whose prompt is being read, and how many of its tokens have been."""

    job: Job
    done: int


class Worker:
    """Continuous batching over the slots 0..max_batch-1; one more slot is the desk where a prompt is read.

    A chunk of the prompt goes through the model together with the next token of every sequence: the weights are
    fetched from memory once for both, which is most of the cost of a pass of few rows.

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
        self._reading: _Reading | None = None
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
        """Samples of jobs already taken that wait for a slot."""
        reading = len(self._reading.job.seeds) if self._reading is not None else 0
        return len(self._pending) + reading

    @property
    def busy(self) -> bool:
        """Whether there is anything to do without a new job."""
        return self._reading is not None or bool(self._pending) or self.active > 0

    @property
    def hungry(self) -> bool:
        """Whether a new job could begin: the desk is free, and so is a slot."""
        return self._reading is None and not self._pending and self.active < self._max_batch

    def begin(self, job: Job) -> None:
        """Lay a job's prompt on the desk; one that was read lately is answered or given slots at once."""
        state = self._prompts.exact(job.prompt)
        if state is not None:
            self._begin_samples(job, state)
            return
        kv, start = self._prompts.longest(job.prompt)
        if kv is not None:
            self._arena.load(self._desk, kv[:, :, :, :start])
        self._reading = _Reading(job, start)

    def step(self) -> None:
        """Let go what was cancelled, then draw one token for every sequence and read on in the prompt on the desk."""
        self._drop_cancelled()
        self._admit()
        rows, chunk = self._rows(), None
        if self._reading is not None:
            prompt, start = self._reading.job.prompt, self._reading.done
            chunk = Chunk(prompt[start : start + CHUNK], start, self._desk)
        if not rows and chunk is None:
            return
        logits = self._forward.run(self._tokens[:rows], self._positions[:rows], chunk)
        if rows:
            self._draw(logits[:rows])
        if self._reading is not None:
            self._read_on(self._reading, logits[-1])
        self._compact()

    def fail(self, error: ProviderError) -> None:
        """Give every job an error and free every slot."""
        jobs = [job for job, _, _ in self._pending] + [entry.job for entry in self._slots if entry is not None]
        self._pending.clear()
        if self._reading is not None:
            jobs.append(self._reading.job)
            self._clear_desk()
        for slot, sequence in enumerate(self._slots):
            if sequence is not None:
                self._leave(slot)
        for job in jobs:
            job.fail(error)

    def _rows(self) -> int:
        top = max((slot for slot, sequence in enumerate(self._slots) if sequence is not None), default=-1)
        return round_up(top + 1, ROWS)

    def _draw(self, logits: F32) -> None:
        rows = len(logits)
        uniform = uniforms(self._streams[:rows], self._counts[:rows])
        tokens = draw(logits, self._temperatures[:rows], self._top_p[:rows], uniform).tolist()
        for slot, sequence in enumerate(self._slots[:rows]):
            if sequence is not None:
                self._positions[slot] += 1
                self._accept(slot, sequence, tokens[slot], logits[slot])

    def _read_on(self, reading: _Reading, logits: F32) -> None:
        """Take note that a chunk was read; behind the last one stand the prompt's logits."""
        job, length = reading.job, len(reading.job.prompt)
        reading.done += CHUNK
        if reading.done < length:
            return
        state = PromptState(job.prompt, self._arena.copy_out(self._desk, length), logits.copy())
        self._clear_desk()
        self._prompts.add(state)
        self._begin_samples(job, state)

    def _clear_desk(self) -> None:
        self._reading = None
        self._arena.release(self._desk)

    def _begin_samples(self, job: Job, state: PromptState) -> None:
        """Queue a job's samples, or answer it where only the prompt's logits are asked for."""
        job.tell(0)
        if not job.seeds:
            job.succeed(Finished((), state.logits))
        self._pending.extend((job, place, state) for place in range(len(job.seeds)))
        self._admit()

    def _admit(self) -> None:
        """Give free slots to the samples that wait."""
        while self._pending and self.active < self._max_batch:
            job, place, state = self._pending.popleft()
            if not job.future.cancelled():
                self._join(self._slots.index(None), Sequence(job, place, state.logits, self._model.tokenizer), state)

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
        if self._reading is not None and self._reading.job.future.cancelled():
            self._clear_desk()
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
