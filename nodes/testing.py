"""What tests of techniques need, ours and those of other packages: a scripted context and a scripted planner.

`ScriptedContext` renders the real prompts and answers them from a script, without a gateway; it keeps every prompt in
its `history`. `ScriptedEstimator` weighs the same prompts for `plan`. Both count one token per byte, so that the tokens
of a prompt are exactly those of its parts. The checks that use them are in `nodes.contract`.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from db.errors import ColonnadeError
from nodes.base import (
    AnswerKind,
    CallPlan,
    Candidate,
    Embedded,
    Measured,
    Range,
    Shape,
    State,
    Technique,
    exactly,
)
from nodes.prompting import render
from nodes.registry import get
from providers.base import Asked, Completion, Message, Sample, Sampling, Usage
from providers.errors import MalformedReply, ProviderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from providers.scoring import ScoreKind

__all__ = [
    "Prompt",
    "Script",
    "ScriptedContext",
    "ScriptedEstimator",
    "Tried",
    "byte_count",
    "drafted",
    "in_order",
    "shape_of",
    "try_out",
    "word_vectors",
]


class Prompt(NamedTuple):
    """One request that a technique made."""

    model: str
    template: str
    variables: Mapping[str, object]
    messages: tuple[Message, ...]
    n: int
    sampling: Sampling | None
    first: int | None
    kind: Literal["sample", "score", "embed"] = "sample"

    @property
    def text(self) -> str:
        """The last message: the user's, or the assistant's where a reply is to be continued or scored."""
        return self.messages[-1].content


Script: TypeAlias = Callable[[Prompt, int], str | ColonnadeError]
"""Gives the reply to a prompt and a sample index: a text, a `ProviderError` for a failed call, or an error to raise."""


def in_order(replies: Iterable[str | ColonnadeError]) -> Script:
    """Return a script that gives replies one after the other, a sample each, whatever is asked."""
    queue = iter(replies)

    def script(prompt: Prompt, index: int) -> str | ColonnadeError:
        try:
            return next(queue)
        except StopIteration:
            raise AssertionError(f"The script has no reply left for {prompt.template!r} (sample {index}).") from None

    return script


class ScriptedContext:
    """A `Context` that answers from a script; samples are counted per request as the gateway counts them.

    With `arrival`, replies arrive in an order that this source of randomness chooses.
    """

    def __init__(
        self,
        script: Script,
        *,
        node: str = "node",
        answer_kind: AnswerKind = "auto",
        style: str = "default",
        arrival: random.Random | None = None,
    ) -> None:
        self.node = node
        self.answer_kind: AnswerKind = answer_kind
        self.history: list[Prompt] = []
        self._script = script
        self._style = style
        self._arrival = arrival
        self._taken: Counter[tuple[object, ...]] = Counter()

    @property
    def calls(self) -> int:
        """Samples asked for so far."""
        return sum(prompt.n for prompt in self.history)

    async def ask(
        self,
        model: str,
        template: str,
        variables: Mapping[str, object],
        *,
        n: int = 1,
        sampling: Sampling | None = None,
        first: int | None = None,
        system: str | None = None,
        prefix: str | None = None,
        cancellable: bool = False,
    ) -> Asked:
        """Answer one request from the script."""
        messages = render(self._style, template, variables, system=system)
        if prefix is not None:
            messages = (*messages, Message("assistant", prefix))
        request = (model, messages, sampling or Sampling())
        if first is None:
            first_index = self._taken[request]
            self._taken[request] += n
        else:
            first_index = first
        prompt = Prompt(model, template, variables, messages, n, sampling, first)
        self.history.append(prompt)
        replies = [(index, self._script(prompt, index)) for index in range(first_index, first_index + n)]
        await self._arrive()
        for _, reply in replies:
            if isinstance(reply, ColonnadeError) and not isinstance(reply, ProviderError):
                raise reply
        samples = tuple(_sample(prompt, index, reply) for index, reply in replies if isinstance(reply, str))
        return Asked(samples, tuple(reply for _, reply in replies if isinstance(reply, ProviderError)))

    async def stored(
        self,
        model: str,
        template: str,
        variables: Mapping[str, object],
        *,
        n: int,
        sampling: Sampling | None = None,
        first: int = 0,
        system: str | None = None,
    ) -> frozenset[int]:
        """Name nothing: a script keeps no samples."""
        return frozenset()

    async def score(
        self,
        model: str,
        kind: ScoreKind,
        template: str,
        variables: Mapping[str, object],
        *,
        reply: str | None = None,
    ) -> Measured:
        """Read a score in the script's reply, which is the text of a number."""
        messages = render(self._style, template, variables)
        if reply is not None:
            messages = (*messages, Message("assistant", reply))
        prompt = Prompt(model, template, variables, messages, 1, None, 0, "score")
        self.history.append(prompt)
        said = self._script(prompt, 0)
        await self._arrive()
        if isinstance(said, ProviderError):
            return Measured(None, said)
        if isinstance(said, ColonnadeError):
            raise said
        try:
            return Measured(float(said))
        except ValueError:
            return Measured(None, MalformedReply("the scripted reply is no number"))

    async def embed(self, model: str, texts: Sequence[str]) -> Embedded:
        """Return vectors of the words of each text; the script may let a text fail."""
        messages = tuple(Message("user", text) for text in texts)
        prompt = Prompt(model, "embed", {}, messages, len(texts), None, 0, "embed")
        self.history.append(prompt)
        replies = [self._script(prompt, index) for index in range(len(texts))]
        await self._arrive()
        for reply in replies:
            if isinstance(reply, ProviderError):
                return Embedded(None, reply)
            if isinstance(reply, ColonnadeError):
                raise reply
        return Embedded(word_vectors(texts))

    async def _arrive(self) -> None:
        if self._arrival is not None:
            for _ in range(self._arrival.randrange(8)):
                await asyncio.sleep(0)


def word_vectors(texts: Sequence[str], size: int = 64) -> NDArray[np.float32]:
    """Return unit vectors that count the words of each text by a hash, (texts, size): alike where words are shared."""
    import numpy as np

    vectors = np.zeros((len(texts), size), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split() or [""]:
            vectors[row, int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big") % size] += 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def byte_count(messages: Sequence[Message]) -> int:
    """Count the tokens of a prompt in the scripted world: one per byte."""
    return sum(len(message.content.encode()) for message in messages)


def _sample(prompt: Prompt, index: int, text: str) -> Sample:
    key = hashlib.sha256(repr((prompt.model, prompt.messages, prompt.sampling, index)).encode()).hexdigest()
    usage = Usage(byte_count(prompt.messages), len(text.encode()))
    completion = Completion(text=text, finish_reason="stop", usage=usage)
    return Sample(
        key=key, model=prompt.model, index=index, completion=completion, cached=False, cost=None, latency_s=0.0
    )


class Tried(NamedTuple):
    """What came of trying out a technique."""

    state: State
    context: ScriptedContext

    @property
    def texts(self) -> list[str]:
        """The texts handed on, in order."""
        return [candidate.text for candidate in self.state.candidates]

    @property
    def notes(self) -> list[tuple[str, str]]:
        """Kind and detail of the notes."""
        return [(note.kind, note.detail) for note in self.state.notes]


def drafted(*texts: str) -> tuple[Candidate, ...]:
    """Return candidates of a node `draft` with these texts."""
    return tuple(
        Candidate(id=f"draft:{number}", text=text, node="draft", model="fast", index=number - 1)
        for number, text in enumerate(texts, 1)
    )


def try_out(
    technique: Technique | str,
    state: State,
    replies: Iterable[str | ColonnadeError] | Script = (),
    *,
    answer_kind: AnswerKind = "auto",
    style: str = "default",
    **settings: object,
) -> Tried:
    """Run a technique, or the one of that name with these settings, as node `here`, and return what came of it."""
    if isinstance(technique, str):
        technique = get(technique).model_validate(settings)
    script = replies if callable(replies) else in_order(replies)
    context = ScriptedContext(script, node="here", answer_kind=answer_kind, style=style)
    return Tried(asyncio.run(technique.run(state, context)), context)


class ScriptedEstimator:
    """An `Estimator` for scripted replies, whose lengths in bytes lie in `reply`."""

    def __init__(self, reply: Range, *, style: str = "default") -> None:
        self._reply = reply
        self._style = style

    def call(
        self,
        model: str,
        template: str,
        variables: Mapping[str, object],
        *,
        inserted: Range,
        calls: Range,
        n: int = 1,
        sampling: Sampling | None = None,
        system: str | None = None,
    ) -> CallPlan:
        """Plan calls whose prompt is the template with its texts left empty, and the texts."""
        around = byte_count(render(self._style, template, variables, system=system))
        return CallPlan(
            model=model,
            template=template,
            calls=calls,
            requests=Range(*(count / n for count in calls)),
            prompt_tokens=inserted.plus(exactly(around)),
            completion_tokens=self.completion(model, sampling, template),
        )

    def score(
        self, model: str, template: str, variables: Mapping[str, object], *, inserted: Range, calls: Range
    ) -> CallPlan:
        """Plan scores, which write nothing."""
        return replace(
            self.call(model, template, variables, inserted=inserted, calls=calls), completion_tokens=exactly(0)
        )

    def embed(self, model: str, *, inserted: Range, calls: Range) -> CallPlan:
        """Plan embeddings, of as many requests as there are texts at most."""
        return CallPlan(
            model=model,
            template="embed",
            calls=calls,
            requests=Range(min(1, calls.low), min(1, calls.likely), calls.high),
            prompt_tokens=inserted,
            completion_tokens=exactly(0),
        )

    def completion(self, model: str, sampling: Sampling | None, template: str) -> Range:
        """Return the length of a reply."""
        return self._reply


def shape_of(state: State) -> Shape:
    """Return the shape of a state, in bytes, as a planner would know it that has seen the state."""
    texts = [len(candidate.text.encode()) for candidate in state.candidates]
    critiques = [len((candidate.critique or "").encode()) for candidate in state.candidates]
    tests = [len(test.encode()) for test in state.tests]
    return Shape(
        question=exactly(len(state.question.encode())),
        candidates=exactly(len(texts)),
        candidate_tokens=_range(texts),
        critique_tokens=_range(critiques),
        tests=exactly(len(tests)),
        test_tokens=_range(tests),
        verdicts=any(candidate.verdict is not None for candidate in state.candidates),
    )


def _range(lengths: Sequence[int]) -> Range:
    return Range(min(lengths), sum(lengths) / len(lengths), max(lengths)) if lengths else exactly(0)
