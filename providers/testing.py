"""The contract of a transport as tests that anyone can run over their own.

    class TestMine(TransportContract):
        @pytest.fixture
        async def subject(self) -> AsyncIterator[Subject]:
            yield Subject(transport=MyTransport(), model="m", unknown_model="no-such-model", features=frozenset({"n"}))

Needs pytest with pytest-asyncio in its `auto` mode (or an `asyncio` mark on the class).
"""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import dataclass, replace

from providers.base import Completion, Message, Reply, Sampling, Transport, WireRequest
from providers.errors import ProviderError
from providers.models import Feature

__all__ = ["Subject", "TransportContract"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A transport to be tested, with what it needs and claims."""

    transport: Transport
    model: str
    """A model that it serves."""
    unknown_model: str | None
    """A name that it does not serve; None where every name is served."""
    features: frozenset[Feature] = frozenset()
    messages: tuple[Message, ...] = (Message("user", "What is 2 + 3?"),)
    """A conversation that it can answer."""
    generates: bool = True
    """False for a recording, which knows no limit of tokens."""
    samples: int = 3
    """Samples that it can give of the conversation."""

    def request(self, n: int = 1, *, first: int = 0, sampling: Sampling | None = None) -> WireRequest:
        """Return a request for n samples."""
        indices = tuple(range(first, first + n))
        return WireRequest(
            model=self.model,
            messages=self.messages,
            sampling=sampling or Sampling(temperature=0.8, max_tokens=32),
            indices=indices,
            seeds=tuple(1_000_003 * (index + 1) for index in indices),
            timeout_s=60.0,
        )


class TransportContract:
    """Subclass it, and give the fixture `subject`."""

    def test_it_is_a_transport(self, subject: Subject) -> None:
        """It has the methods of the protocol."""
        assert isinstance(subject.transport, Transport)

    async def test_one_sample(self, subject: Subject) -> None:
        """One index brings one completion, whole and counted."""
        reply = await subject.transport.complete(subject.request())
        assert len(reply.completions) == 1
        _check(reply.completions[0], carries_prompt=True)

    async def test_several_samples(self, subject: Subject) -> None:
        """With `n` a request brings up to n completions; the first alone carries the prompt's tokens."""
        if "n" not in subject.features:
            return
        reply = await subject.transport.complete(subject.request(subject.samples))
        assert 1 <= len(reply.completions) <= subject.samples
        _check(reply.completions[0], carries_prompt=True)
        for completion in reply.completions[1:]:
            _check(completion, carries_prompt=False)

    async def test_many_requests_at_once(self, subject: Subject) -> None:
        """Concurrent requests are each answered."""
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(subject.transport.complete(subject.request())) for _ in range(12)]
        for task in asked:
            _check(task.result().completions[0], carries_prompt=True)

    async def test_max_tokens(self, subject: Subject) -> None:
        """The limit of tokens holds, and an answer that it cuts says so."""
        if not subject.generates:
            return
        reply = await subject.transport.complete(subject.request(sampling=Sampling(temperature=0.8, max_tokens=2)))
        completion = reply.completions[0]
        assert completion.usage.completion_tokens <= 2
        assert completion.finish_reason in ("length", "stop")

    async def test_stop(self, subject: Subject) -> None:
        """A stop string ends the answer and is not part of it."""
        if "stop" not in subject.features:
            return
        free = await self._greedy(subject, Sampling(temperature=0.0, max_tokens=32))
        if len(free.text) < 2:
            return
        mark = free.text[len(free.text) // 2]
        cut = await self._greedy(subject, Sampling(temperature=0.0, max_tokens=32, stop=(mark,)))
        assert mark not in cut.text
        assert free.text.startswith(cut.text)

    async def test_logprobs(self, subject: Subject) -> None:
        """Log probabilities come where they are asked for, and only there."""
        plain = await subject.transport.complete(subject.request())
        assert plain.completions[0].logprobs is None
        if "logprobs" not in subject.features:
            return
        top = 2 if "top_logprobs" in subject.features else 0
        asked = Sampling(temperature=0.8, max_tokens=8, top_logprobs=top)
        completion = (await subject.transport.complete(subject.request(sampling=asked))).completions[0]
        assert completion.logprobs
        for entry in completion.logprobs:
            assert entry.logprob <= 1e-6
            assert len(entry.top) == top

    async def test_a_cancelled_request_leaves_the_transport_usable(self, subject: Subject) -> None:
        """Cancellation is passed on at once, and the next request is answered."""
        task = asyncio.create_task(subject.transport.complete(subject.request()))
        await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=30.0)
        assert done, "the cancelled request went on for 30 seconds"
        assert task.cancelled() or isinstance(task.result(), Reply)
        _check((await subject.transport.complete(subject.request())).completions[0], carries_prompt=True)

    async def test_an_unknown_model_is_a_provider_error(self, subject: Subject) -> None:
        """What the endpoint refuses becomes a `ProviderError` that is not retried and that can be pickled."""
        if subject.unknown_model is None:
            return
        request = replace(subject.request(), model=subject.unknown_model)
        refusal: ProviderError | None = None
        try:
            await subject.transport.complete(request)
        except ProviderError as error:
            refusal = error
        assert refusal is not None, f"'{subject.unknown_model}' was answered"
        assert not refusal.retryable
        assert str(pickle.loads(pickle.dumps(refusal))) == str(refusal)

    async def test_models_are_names(self, subject: Subject) -> None:
        """The list of models holds names; where it is not empty the model is among them."""
        names = await subject.transport.list_models()
        assert all(name for name in names)
        assert not names or subject.model in names

    def test_counting_tokens(self, subject: Subject) -> None:
        """A count is exact or None; more text is never fewer tokens."""
        short = subject.transport.count_tokens(subject.messages)
        longer = subject.transport.count_tokens((*subject.messages, Message("user", "and 4 more words here")))
        if short is None:
            assert longer is None
        else:
            assert longer is not None
            assert 0 < short < longer

    async def _greedy(self, subject: Subject, sampling: Sampling) -> Completion:
        return (await subject.transport.complete(subject.request(sampling=sampling))).completions[0]


def _check(completion: Completion, *, carries_prompt: bool) -> None:
    usage = completion.usage
    assert completion.finish_reason in ("stop", "length", "content_filter")
    assert usage.completion_tokens >= 0
    assert (usage.prompt_tokens > 0) == carries_prompt
    assert 0 <= usage.cached_prompt_tokens <= usage.prompt_tokens
