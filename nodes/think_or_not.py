"""Think or not: an answer at once, and thinking only where that answer is not sure enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from nodes.ballots import read_answers
from nodes.base import (
    AnswerKind,
    Candidate,
    Capability,
    Context,
    Estimator,
    Need,
    NodePlan,
    Note,
    Range,
    Shape,
    State,
    exactly,
)
from nodes.calls import candidate_of, failure_notes, nothing_left
from nodes.continuing import Continuing, prefix_tokens, words_of
from nodes.planning import fresh, spread
from nodes.registry import technique
from nodes.scorers.registry import OwnScorer
from nodes.settling import Ties, settle
from providers.base import Asked
from providers.errors import ProviderError

__all__ = ["ThinkOrNot"]


class _Said(NamedTuple):
    """What one way of answering came to."""

    candidate: Candidate | None
    """None where every call failed."""
    agreement: float
    confidence: float
    notes: tuple[Note, ...]
    failures: tuple[ProviderError, ...]


@technique("think_or_not")
class ThinkOrNot(Continuing):
    """Let a model answer k times without thinking, and think only where these answers are not sure enough.

    With `thinking: prefill` the reply begins with an empty block of thinking (`no_thinking`), so that the model answers
    at once; `opening` is what stands behind it and begins the answer itself. With `thinking: prompt` the system message
    says so (`instruction`), for models that obey it (such as `/no_think`). The confidence is the share of the k samples
    that give the leading answer, where one that failed or states no answer counts against it, or with a `scorer` the
    score of the response that the vote chose, brought to 0..1. From `threshold` on that response is handed on. Below it
    `thoughts` plain samples are drawn, those that `generate` draws, in which the model thinks as it is used to, and the
    vote among these decides; the quick answers have no part in it. Where all thinking fails, the quick answer is handed
    on, noted. The paper trains the model to choose; here the agreement chooses.
    The embedded models have no thinking to leave out; made to begin with `{no_thinking: "", opening: "Answer:"}` they
    guess, all alike and wrong, so that there a scorer has to judge.

    When to use it: with a model that thinks long and knows many answers without it; k quick answers cost little beside
        one long chain. Not where quick answers are wrong in unison.
    Calls: k, or k + m where it thinks, with the scorer's one set of calls.
    Paper: AdaptThink: Reasoning Models Can Learn When to Think (arXiv 2505.13417).
    Symbols: k is `samples`, m is `thoughts`; `thought` = 1 where it thought, else 0; `confidence` = that of the quick
        answer; `agreement` = votes of the winner / votes, of the samples that decided; `drawn` = samples asked for.
    Example:
        ```yaml
        name: think-if-need-be
        layers:
          - think_or_not: {model: thinker, samples: 3, thoughts: 1, threshold: 1.0, quick_tokens: 300}
        ```
    """

    gives = frozenset({"candidates", "scores"})
    drops = frozenset({"critiques", "verdicts"})
    measures = frozenset({"agreement", "confidence", "drawn", "thought"})
    composes = True

    samples: int = Field(default=3, ge=1, le=64, description="Quick answers.")
    thoughts: int = Field(default=1, ge=1, le=64, description="Samples with thinking, where it thinks.")
    threshold: float = Field(default=1.0, ge=0, le=1, description="Confidence from which on it does not think.")
    scorer: OwnScorer | None = Field(default=None, description="What gives the confidence; null for the agreement.")
    thinking: Literal["prefill", "prompt"] = Field(default="prefill", description="How thinking is left out.")
    no_thinking: str = Field(default="<think>\n\n</think>\n\n", description="The empty block of `prefill`.")
    opening: str = Field(default="", description="How a quick answer begins with `prefill`; it is part of the answer.")
    instruction: str = Field(
        default="Answer at once, without thinking or working first.",
        description="The system message of `prompt`, behind that of `system`.",
    )
    quick_tokens: int | None = Field(default=None, ge=1, description="Most tokens of a quick answer.")
    temperature: float | None = Field(default=0.8, ge=0, allow_inf_nan=False, description="Sampling temperature.")
    ties: Ties = Field(default="first", description="What decides between equals in the votes.")
    kind: AnswerKind | None = Field(default=None, description="Kind of answer to extract, if not that of the task.")

    @model_validator(mode="after")
    def _can_tell(self) -> Self:
        if self.samples < 2 and self.scorer is None:
            raise ValueError("one quick answer always agrees with itself; set samples to 2 or more, or give a scorer")
        if self.thinking == "prefill" and not self.no_thinking + self.opening:
            raise ValueError("thinking: prefill needs a text in no_thinking or opening")
        return self

    def models(self) -> tuple[str, ...]:
        """Name the model, then the scorer's."""
        return tuple(dict.fromkeys((self.model, *(self.scorer.models() if self.scorer else ()))))

    def demands(self) -> frozenset[Need]:
        """What the scorer needs of the state."""
        return self.scorer.demands() - {"candidates"} if self.scorer else frozenset()

    def required(self) -> frozenset[Capability]:
        """Continuing a prefix, where that leaves the thinking out."""
        return frozenset({"prefix_continuation"}) if self.thinking == "prefill" else frozenset()

    def required_of(self, model: str) -> frozenset[Capability]:
        """The model continues a prefix; the scorer needs of its models what it needs."""
        own = self.required() if model == self.model else frozenset()
        scoring = self.scorer.required() if self.scorer and model in self.scorer.models() else frozenset()
        return own | scoring

    def own_words(self) -> frozenset[str]:
        """Name the words that begin a quick answer."""
        return words_of(self.opening)

    async def run(self, state: State, context: Context) -> State:
        """Answer, and think if need be; raises `InsufficientCandidates` where every call failed."""
        quick = await self._quick(state, context)
        if quick.candidate is not None and quick.confidence >= self.threshold:
            return self._handed_on(state, quick.candidate, quick.agreement, quick, (), context.node)
        asked = await self.write(state.question, "", self.max_tokens, context, n=self.thoughts)
        deep = self._settled(asked, "", self.samples + 1, "thinking", context)
        notes = list(deep.notes)
        if deep.candidate is not None:
            return self._handed_on(state, deep.candidate, deep.agreement, quick, deep.notes, context.node, thought=True)
        if quick.candidate is None:
            raise nothing_left(context.node, (*quick.failures, *deep.failures))
        notes.append(Note(context.node, "fallback", "all thinking failed; the quick answer is handed on"))
        return self._handed_on(state, quick.candidate, quick.agreement, quick, tuple(notes), context.node, thought=True)

    async def _quick(self, state: State, context: Context) -> _Said:
        prefix, begun, system = self._quick_way
        asked = await self.write(state.question, prefix, self._quick_tokens, context, n=self.samples, system=system)
        said = self._settled(asked, begun, 1, "a quick answer", context)
        if self.scorer is None or said.candidate is None:
            return said
        scored = await self.scorer.score(replace(state, candidates=(said.candidate,)), (said.candidate,), context)
        (score,) = scored.scores
        # One that could not be scored is never sure enough, whatever the threshold.
        confidence = -1.0 if score is None else self.scorer.unit(score.value)
        return said._replace(confidence=confidence, notes=(*said.notes, *scored.notes))

    @property
    def _quick_tokens(self) -> int | None:
        return self.quick_tokens or self.max_tokens

    @property
    def _quick_way(self) -> tuple[str, str, str | None]:
        """The prefix, what of it is part of the answer, and the system message."""
        if self.thinking == "prefill":
            return self.no_thinking + self.opening, self.opening, None
        return "", "", f"{self.system}\n\n{self.instruction}" if self.system else self.instruction

    def _settled(self, asked: Asked, begun: str, number: int, what: str, context: Context) -> _Said:
        notes = failure_notes(context.node, asked.failures, f"{what} of {self.model}")
        if not asked.samples:
            return _Said(None, 0.0, 0.0, tuple(notes), asked.failures)
        made = [candidate_of(sample, context.node, number + i) for i, sample in enumerate(asked.samples)]
        # A reply without a word is no answer, and must not become one by what it was made to begin with.
        whole = [replace(c, text=begun + c.text) if begun and words_of(c.text) else c for c in made]
        read = read_answers(whole, self.kind or context.answer_kind, context.node)
        settled = settle(read.candidates, context.node, ties=self.ties)
        votes = settled.agreement * settled.answers
        confidence = min(1.0, round(votes) / (len(asked.samples) + len(asked.failures)))
        notes += [*read.notes, *settled.notes]
        return _Said(settled.candidate, settled.agreement, confidence, tuple(notes), asked.failures)

    def _handed_on(
        self,
        state: State,
        candidate: Candidate,
        agreement: float,
        quick: _Said,
        notes: tuple[Note, ...],
        node: str,
        *,
        thought: bool = False,
    ) -> State:
        confidence = max(0.0, quick.confidence)
        return (
            replace(state, candidates=(candidate.scored(node, agreement if thought else confidence),))
            .measured(
                agreement=agreement,
                confidence=confidence,
                drawn=self.samples + thought * self.thoughts,
                thought=float(thought),
            )
            .noted(*quick.notes, *notes)
        )

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell the quick answers for certain, and the thinking as possible."""
        prefix, begun, system = self._quick_way
        inserted, k = shape.question.plus(prefix_tokens(prefix)), self.samples
        quick = self.foretell_written(estimator, inserted, exactly(k), self._quick_tokens, n=k, system=system)
        answer = quick.completion_tokens.plus(prefix_tokens(begun))
        scoring = self.scorer.plan(fresh(shape, exactly(1), answer), estimator) if self.scorer else ()
        m = self.thoughts
        deep = self.foretell_written(estimator, shape.question, Range(0, m / 2, m), self.max_tokens, n=m)
        tokens = spread([answer, deep.completion_tokens])
        return NodePlan((quick, *scoring, deep), fresh(shape, exactly(1), tokens))
