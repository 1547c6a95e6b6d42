"""What an engine is asked and how it answers: a prompt, how to draw from it, and a future for the completions."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from providers.base import Completion, FinishReason, Progress, TokenLogprob, Usage
from providers.embedded.sampling import log_probabilities, stream_start
from providers.embedded.tokenizer import ChatTokenizer
from providers.embedded.weights import F32
from providers.errors import ProviderError

__all__ = ["Finished", "Job", "Plan", "Sequence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the tokens of a job are drawn, with every default applied."""

    temperature: float
    top_p: float
    max_new: int
    """Tokens that may be generated; the context's rest at most."""
    stop: tuple[bytes, ...]
    top_logprobs: int | None


class Finished(NamedTuple):
    """The answer to a job: a completion for each seed, and the logits (vocab,) that follow the prompt."""

    completions: tuple[Completion, ...]
    logits: F32


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """A prompt with the seeds of the samples wanted; none means that only the prompt's logits are asked for.

    The caller gives the job up by cancelling its future, which the engine looks at between steps.
    """

    prompt: npt.NDArray[np.int64]
    plan: Plan
    seeds: tuple[int, ...]
    future: Future[Finished] = field(default_factory=Future)
    progress: Progress | None = None
    """Where the engine says how far the job's one sample has come."""
    done: list[Completion | None] = field(init=False)

    def __post_init__(self) -> None:
        self.done = [None] * len(self.seeds)

    def tell(self, generated: int) -> None:
        """Say that the prompt was read and how many tokens were drawn; nothing more once the job was given up."""
        if self.progress is not None and not self.future.cancelled():
            self.progress.usage = Usage(len(self.prompt), generated)

    def put(self, place: int, completion: Completion, logits: F32) -> None:
        """Keep one sample's completion; with the last one the caller is told."""
        self.done[place] = completion
        finished = tuple(entry for entry in self.done if entry is not None)
        if len(finished) == len(self.done):
            self.succeed(Finished(finished, logits))

    def succeed(self, finished: Finished) -> None:
        """Give the caller the answer, unless it has gone."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(finished)

    def fail(self, error: ProviderError) -> None:
        """Give the caller an error, unless it has gone or has been answered."""
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Sequence:
    """One sample in the making: its text so far and when it ends."""

    def __init__(self, job: Job, place: int, prompt_logits: F32, tokenizer: ChatTokenizer) -> None:
        self.job, self.place, self.prompt_logits = job, place, prompt_logits
        self.stream = stream_start(job.seeds[place])
        self.count = 0
        self._tokenizer = tokenizer
        self._data = bytearray()
        self._logprobs: list[TokenLogprob] = []
        self._longest_stop = max((len(stop) for stop in job.plan.stop), default=0)

    def accept(self, token: int, logits: F32) -> FinishReason | None:
        """Take the next token, drawn from `logits` (vocab,); say whether and why the sample ends with it."""
        plan = self.job.plan
        self.count += 1
        self.job.tell(self.count)
        if plan.top_logprobs is not None:
            self._logprobs.append(self._logprob(token, logits, plan.top_logprobs))
        if token == self._tokenizer.end:
            return "stop"
        piece = self._tokenizer.token_bytes[token] if token < self._tokenizer.vocab else b""
        self._data += piece
        if plan.stop and self._cut(len(piece)):
            return "stop"
        return "length" if self.count >= plan.max_new else None

    def completion(self, reason: FinishReason) -> Completion:
        """Return the finished sample; the job's first one carries the prompt's tokens."""
        return Completion(
            text=self._data.decode(errors="replace"),
            finish_reason=reason,
            usage=Usage(len(self.job.prompt) if self.place == 0 else 0, self.count),
            logprobs=tuple(self._logprobs) if self.job.plan.top_logprobs is not None else None,
        )

    def _cut(self, added: int) -> bool:
        """Cut the text before the first stop string, if the last `added` bytes completed one."""
        begin = max(0, len(self._data) - added - self._longest_stop + 1)
        found = [place for stop in self.job.plan.stop if (place := self._data.find(stop, begin)) >= 0]
        if found:
            del self._data[min(found) :]
        return bool(found)

    def _logprob(self, token: int, logits: F32, top: int) -> TokenLogprob:
        values = log_probabilities(logits, token, top)
        text = self._tokenizer.text
        likeliest = zip(values.top_tokens.tolist(), values.top_values.tolist(), strict=True)
        return TokenLogprob(text(token), values.chosen, tuple((text(other), value) for other, value in likeliest))
