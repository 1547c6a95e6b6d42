"""The transport of the models that ship inside: no key, no server, no network."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import numpy as np

from db.errors import ConfigError
from providers.base import Message, Reply, Sampling, WireRequest
from providers.embedded.jobs import Finished, Job, Plan
from providers.embedded.model import load_model, model_folder
from providers.embedded.pool import lease_engine
from providers.errors import BadRequest, CallTimeout, ContextLengthExceeded

__all__ = ["EmbeddedTransport"]


class EmbeddedTransport:
    """Answers from an embedded model; also a `StepScorer`.

    `model` is the name of a shipped model or a folder in Hugging Face's Llama layout (see `docs/embedded-models.md`).
    Transports of one model share its weights, and with equal settings its engine: `threads` threads that each
    generate up to `max_batch` samples at once, further ones wait. The same seed yields the same text whatever is
    generated beside it. Generated tokens include the closing `<|end|>`, in usage and log probabilities, as with vLLM.
    Raises `ConfigError` for an unknown model, a bad setting, or files that are missing or corrupted.
    """

    def __init__(self, model: str = "mini", *, max_batch: int = 32, threads: int = 1) -> None:
        if not 1 <= max_batch <= 512 or not 1 <= threads <= 64:
            raise ConfigError(f"max_batch must be 1 to 512 and threads 1 to 64, not {max_batch} and {threads}.")
        self._model = load_model(model_folder(model))
        self._names = {model, self._model.name, f"embedded/{self._model.name}"}
        self._lease = lease_engine(self._model, max_batch=max_batch, threads=threads)

    async def complete(self, request: WireRequest) -> Reply:
        """Generate a completion for each index of the request.

        Raises `ContextLengthExceeded` where no token would fit behind the prompt, `BadRequest` for parameters out of
        range, `CallTimeout` after `timeout_s`, `ConnectionFailed` where the transport is closed meanwhile.
        """
        if not request.indices or len(request.seeds) != len(request.indices):
            raise BadRequest(f"{len(request.seeds)} seeds were given for {len(request.indices)} samples.")
        finished = await self._ask(request, request.seeds)
        return Reply(completions=finished.completions, served_model=self._model.name)

    async def score(self, request: WireRequest) -> float:
        """Return p(" yes") / (p(" yes") + p(" no")) of the token that follows the prompt; nothing is generated."""
        yes, no = (self._model.tokenizer.single(word) for word in (" yes", " no"))
        if yes is None or no is None:
            raise BadRequest(f"the model '{self._model.name}' cannot score: its vocabulary lacks ' yes' or ' no'.")
        logits = (await self._ask(request, ())).logits
        return 1.0 / (1.0 + math.exp(min(float(logits[no]) - float(logits[yes]), 700.0)))

    async def list_models(self) -> tuple[str, ...]:
        """Name the one model that this transport answers with."""
        return (self._model.name,)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Count the tokens of a prompt, the generation prompt included; exact, 2 too many for one to be continued."""
        return len(self._model.tokenizer.encode_chat(messages))

    async def aclose(self) -> None:
        """Give the engine back; with its last user its threads end and what is in flight fails."""
        await asyncio.to_thread(self._lease.give_back)

    async def _ask(self, request: WireRequest, seeds: tuple[int, ...]) -> Finished:
        """Have the engine do a request; the job is dropped when this task is cancelled or its time is up.

        From then on its progress stands still: a token that the engine is drawing at that moment is nobody's.
        """
        job = self._job(request, seeds)
        self._lease.engine.submit(job)
        try:
            async with asyncio.timeout(request.timeout_s):
                return await asyncio.wrap_future(job.future)
        except TimeoutError:
            raise CallTimeout(f"the embedded model '{self._model.name}' took over {request.timeout_s:g} s.") from None

    def _job(self, request: WireRequest, seeds: tuple[int, ...]) -> Job:
        if request.model not in self._names:
            raise BadRequest(f"this transport serves '{self._model.name}', not '{request.model}'.")
        prompt = self._model.tokenizer.encode_chat(request.messages, continue_final=request.continue_final)
        context = self._model.config.context
        room = context - len(prompt)
        if room < 1:
            raise ContextLengthExceeded(
                f"the prompt has {len(prompt)} tokens, '{self._model.name}' takes {context} with the answer."
            )
        plan = _plan(request.sampling, room, self._model.config.vocab)
        return Job(prompt=np.array(prompt, np.int64), plan=plan, seeds=seeds, progress=request.progress)


def _plan(sampling: Sampling, room: int, vocab: int) -> Plan:
    """Apply defaults (temperature 1, top_p 1, tokens to the end of the context) and refuse what is out of range."""
    temperature = 1.0 if sampling.temperature is None else sampling.temperature
    top_p = 1.0 if sampling.top_p is None else sampling.top_p
    max_tokens = room if sampling.max_tokens is None else sampling.max_tokens
    if not 0.0 <= temperature < math.inf:
        raise BadRequest(f"temperature must be 0 or more, not {temperature}.")
    if not 0.0 < top_p <= 1.0:
        raise BadRequest(f"top_p must be above 0 and at most 1, not {top_p}.")
    if max_tokens < 1:
        raise BadRequest(f"max_tokens must be 1 or more, not {max_tokens}.")
    if sampling.top_logprobs is not None and not 0 <= sampling.top_logprobs <= vocab:
        raise BadRequest(f"top_logprobs must be 0 to {vocab}, not {sampling.top_logprobs}.")
    if "" in sampling.stop:
        raise BadRequest("a stop string must not be empty.")
    return Plan(
        temperature=temperature,
        top_p=top_p,
        max_new=min(max_tokens, room),
        stop=tuple(stop.encode() for stop in sampling.stop),
        top_logprobs=sampling.top_logprobs,
    )
