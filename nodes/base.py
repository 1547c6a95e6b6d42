"""The contract of a technique: what flows between nodes, what a node may use, and how it foretells its calls.

A technique is a frozen pydantic model (its settings) with an async `run` from state to state and a `plan` from shape to
calls. Nothing is mutated; candidates are never invented; a reply that cannot be read is recorded as a `Note`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from providers.base import Asked, Sampling, TokenLogprob

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from providers.errors import ProviderError
    from providers.scoring import ScoreKind

__all__ = [
    "ZERO",
    "AnswerKind",
    "CallPlan",
    "Candidate",
    "Capability",
    "Context",
    "Embedded",
    "Estimator",
    "Measured",
    "Need",
    "NodePlan",
    "Note",
    "NoteKind",
    "Range",
    "Score",
    "Shape",
    "State",
    "Technique",
    "exactly",
]

Need = Literal["candidates", "critiques", "scores", "tests", "verdicts"]
Capability = Literal["logprobs", "n", "prefix_continuation", "seed", "stop", "top_logprobs"]
AnswerKind = Literal["auto", "boxed", "choice", "exact", "math", "numeric", "text"]
NoteKind = Literal["call_failed", "fallback", "order", "skipped", "unparsed"]

_EMPTY: Mapping[str, float] = MappingProxyType({})
_NO_SOURCES: Mapping[str, str] = MappingProxyType({})


class Note(NamedTuple):
    """Something a reader of the trace must know: a failed call, an unreadable reply, a fallback that was taken."""

    node: str
    kind: NoteKind
    detail: str


class Score(NamedTuple):
    """What was found of one candidate; higher is better."""

    value: float
    source: str
    """Who says so: the scorer and its model, such as `genrm embedded/judge`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One response, with where it came from and what was said of it."""

    id: str
    """`node:number`, unique within one run of an architecture on one question."""
    text: str
    node: str
    model: str | None
    index: int = 0
    """Sample index within its request."""
    parents: tuple[str, ...] = ()
    """Ids of the candidates that it was made from."""
    scores: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    """By the name of the node that gave them; higher is better."""
    sources: Mapping[str, str] = field(default_factory=lambda: _NO_SOURCES)
    """Who gave the scores, by the name of the node, where the node says it (`Score.source`)."""
    critique: str | None = None
    verdict: bool | None = None
    verdict_reason: str | None = None
    tests_passed: tuple[bool | None, ...] = ()
    """One entry per unit test, None where the judge's line could not be read."""
    answer: str | None = None
    """The extracted, normalised answer, where a node extracted it."""
    mean_logprob: float | None = None
    completion_tokens: int = 0
    finish_reason: str | None = None
    logprobs: tuple[TokenLogprob, ...] | None = field(default=None, repr=False, compare=False)
    """The tokens with their probabilities, where the node asked for them (`top_logprobs`); no part of the trace."""

    def scored(self, node: str, score: float | Score) -> Candidate:
        """Return a copy with the score of one node added, as the latest one."""
        value, source = score if isinstance(score, Score) else (score, None)
        scores = {name: known for name, known in self.scores.items() if name != node}
        sources = self.sources if source is None else MappingProxyType({**self.sources, node: source})
        return replace(self, scores=MappingProxyType({**scores, node: value}), sources=sources)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What flows along the edges of an architecture."""

    question: str
    candidates: tuple[Candidate, ...] = ()
    """In order of preference where a node has ranked them, else in order of creation."""
    tests: tuple[str, ...] = ()
    """Unit tests in plain language."""
    measures: Mapping[str, float] = field(default_factory=lambda: _EMPTY)
    """Numbers that conditions (`when`, `until`) can read, such as `agreement`."""
    notes: tuple[Note, ...] = ()

    def measured(self, **measures: float) -> State:
        """Return a copy with measures added."""
        return replace(self, measures=MappingProxyType({**self.measures, **measures}))

    def noted(self, *notes: Note) -> State:
        """Return a copy with notes added."""
        return replace(self, notes=(*self.notes, *notes)) if notes else self


class Measured(NamedTuple):
    """A score of given text by a model, or why there is none."""

    value: float | None
    failure: ProviderError | None = None


class Embedded(NamedTuple):
    """Vectors of texts, one row each, or why there are none."""

    vectors: NDArray[np.float32] | None
    failure: ProviderError | None = None


class Context(Protocol):
    """What a node may use while it runs; made by the compiler, one per node and question."""

    @property
    def node(self) -> str:
        """The id of the node in its architecture."""
        ...

    @property
    def answer_kind(self) -> AnswerKind:
        """How the task's answers are to be extracted and compared."""
        ...

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
        """Render a prompt in the model's style and ask for n samples.

        The sample indices are taken in the moment of the call, before the first await, so that tasks started in a
        fixed order draw the same samples in every run; `first` names the first index instead, for calls that follow
        other calls (where the order of arrival is not fixed). With `prefix` the reply goes on behind that text (the
        model needs `prefix_continuation`), and the sample's text is what comes after it. A `cancellable` call, of one
        sample, may be cancelled while it runs: what it has used until then is paid and counted, and it is not kept.
        Failed calls come back in `failures`. Raises `BudgetExceeded` and `UserError`s (a refused key, say).
        """
        ...

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
        """Tell which of the samples first, …, first + n - 1 are kept from before; asks for none of them.

        A race needs it: what is kept comes at once, however long it once took.
        """
        ...

    async def score(
        self,
        model: str,
        kind: ScoreKind,
        template: str,
        variables: Mapping[str, object],
        *,
        reply: str | None = None,
    ) -> Measured:
        """Score text with a model: the rendered prompt, with `reply` as the assistant's turn where one is given.

        `yes`: p(yes) / (p(yes) + p(no)) of the next token, 0..1. `reward`: a reward model's number for prompt and
        reply. `likelihood`: the sum of ln p over the tokens of the reply. `pair`: a cross-encoder's number. Raises as
        `ask` does.
        """
        ...

    async def embed(self, model: str, texts: Sequence[str]) -> Embedded:
        """Return one vector for each text, all of one length; raises as `ask` does."""
        ...


class Range(NamedTuple):
    """A planned quantity: it lies between `low` and `high`, and `likely` is the best guess."""

    low: float
    likely: float
    high: float

    def plus(self, other: Range) -> Range:
        """Add two quantities."""
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def times(self, other: Range) -> Range:
        """Multiply two quantities that are not negative."""
        return Range(self.low * other.low, self.likely * other.likely, self.high * other.high)

    def at_most(self, bound: float) -> Range:
        """Clip at a bound."""
        return Range(*(min(value, bound) for value in self))


def exactly(value: float) -> Range:
    """Return a quantity that is known."""
    return Range(value, value, value)


ZERO = exactly(0)


class Shape(NamedTuple):
    """What a planner knows of a state: how many texts there will be and how many tokens each has."""

    question: Range
    """Tokens of the question."""
    candidates: Range = ZERO
    candidate_tokens: Range = ZERO
    critique_tokens: Range = ZERO
    """Per candidate; zero where candidates carry no critique."""
    tests: Range = ZERO
    test_tokens: Range = ZERO
    verdicts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """Calls of one kind that a node will make for one question."""

    model: str
    template: str
    calls: Range
    """Samples, which is what is counted and priced."""
    requests: Range
    """Requests over the wire; fewer than calls where n > 1 goes out as one (the prompt is paid once each)."""
    prompt_tokens: Range
    """Per request."""
    completion_tokens: Range
    """Per call."""


class Estimator(Protocol):
    """Foretells calls from templates; made by the planner, which knows models, limits and prompts."""

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
        """Plan `calls` samples of a prompt, `n` for each distinct prompt.

        `variables` fill the template with texts left empty (but with as many list entries as are likely); `inserted`
        is the number of tokens of all texts that will stand in it.
        """
        ...

    def score(
        self, model: str, template: str, variables: Mapping[str, object], *, inserted: Range, calls: Range
    ) -> CallPlan:
        """Plan `calls` scores (`Context.score`); `inserted` counts the tokens of the reply as well."""
        ...

    def embed(self, model: str, *, inserted: Range, calls: Range) -> CallPlan:
        """Plan the embedding of `calls` texts of `inserted` tokens each."""
        ...

    def completion(self, model: str, sampling: Sampling | None, template: str) -> Range:
        """Tokens of one reply: at least 1, at most the model's or the node's `max_tokens`."""
        ...


class NodePlan(NamedTuple):
    """The calls of a node and the shape of what it hands on."""

    calls: tuple[CallPlan, ...]
    shape: Shape


class Technique(BaseModel):
    """An inference-time technique and its settings; subclass it, and register it with `nodes.registry.technique`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    needs: ClassVar[frozenset[Need]] = frozenset()
    """What the state must hold before the node."""
    reads: ClassVar[frozenset[Need]] = frozenset()
    """What the node uses where the state holds it, beyond what it needs."""
    gives: ClassVar[frozenset[Need]] = frozenset()
    """What the node adds to the state."""
    drops: ClassVar[frozenset[Need]] = frozenset()
    """What no longer holds after the node (new candidates carry no critiques)."""
    requires: ClassVar[frozenset[Capability]] = frozenset()
    """What every model of the node must be able to do."""
    measures: ClassVar[frozenset[str]] = frozenset()
    """The names of the measures that the node sets, for conditions to read."""
    vital: ClassVar[frozenset[str]] = frozenset()
    """Templates whose failed call may end the node with `InsufficientCandidates` though others came through."""
    draws_question: ClassVar[Literal["at_start", "later"] | None] = None
    """When it draws samples of the question as a plain `generate` does: all at its start, or some after other replies.
    Such nodes share one sequence of samples, and lanes keep timing out of it."""
    races: ClassVar[bool] = False
    """Which samples count depends on which come first; the contract then asks for no order of arrival."""
    composes: ClassVar[bool] = False
    """Texts handed on are put together of parts of replies and candidates; the contract then looks at their words."""
    example_replies: ClassVar[Mapping[str, str | Callable[[Mapping[str, object]], str]]] = MappingProxyType({})
    """A well-formed reply to each of the technique's own templates, or a function of the template's variables; the
    contract answers with them. A score is the text of its number."""

    def models(self) -> tuple[str, ...]:
        """Name the models that the node will ask, in order, each once."""
        return ()

    def demands(self) -> frozenset[Need]:
        """What the state must hold before the node with these settings."""
        return self.needs

    def required(self) -> frozenset[Capability]:
        """What the node needs of its models with these settings."""
        return self.requires

    def required_of(self, model: str) -> frozenset[Capability]:
        """What the node needs of one of its models; more than one kind of model may have a part in it."""
        return self.required()

    @abstractmethod
    async def run(self, state: State, context: Context) -> State:
        """Do the node's work; raises `InsufficientCandidates` where nothing is left to hand on."""

    @abstractmethod
    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell the calls for one question and the shape of the result, without a call."""

    def own_words(self) -> frozenset[str]:
        """Words that the technique itself puts into texts that it composes, such as a phrase that forces an answer."""
        return frozenset()

    def settings(self) -> dict[str, Any]:
        """Return the settings as canonical JSON data, defaults included, as they enter the architecture's hash."""
        return self.model_dump(mode="json")
