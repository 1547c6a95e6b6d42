"""Segment and summarise: reasoning in short parts, each of which sees the question and a summary, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

from pydantic import Field

from nodes.base import CallPlan, Candidate, Context, Estimator, NodePlan, Note, Range, Shape, State, exactly
from nodes.calls import candidate_of, failure_notes, nothing_left, together
from nodes.planning import fresh
from nodes.registry import technique
from nodes.segments import Chain, states_answer
from nodes.settings import ModelName, OneModel
from nodes.shown import quoted
from providers.base import Asked, Sample, Sampling

__all__ = ["SegmentSummarise"]


@technique("segment_summarise")
class SegmentSummarise(OneModel):
    """Let a model reason in segments; after each one a summary takes the place of all that was written before.

    A segment sees the question and the summary, writes some steps, and states the answer where it reaches it: a line
    `Answer: …`, a `\\boxed{}`, `####`, or an `"answer"` in JSON. Until then the summariser makes one summary of the
    old summary and the new segment, and the next segment begins. The segment numbered `max_segments` is told to answer.
    The context grows within a segment and falls back after it, so that its size is bounded however long the whole
    becomes. What is handed on is the last segment, which states the answer, not the way to it. A segment that fails is
    asked again as the next one; where a summary fails, the segment itself stands behind the old summary, which for once
    makes the context longer. Both are noted, and so is a response that ends without an answer. Responses go their ways
    side by side. The embedded models can neither stop in the middle nor summarise, and have no prompts for it.

    When to use it: for questions whose reasoning is longer than a model's context or than it can keep in mind, and
        where a long context is dear. Short questions are answered in the first segment, and cost one call. Models
        that were not trained for it lose what their summaries leave out.
    Calls: k up to k·(2·s − 1).
    Paper: InftyThink: Breaking the Length Limits of Long-Context Reasoning in Large Language Models (arXiv
        2503.06692), whose models were trained for it; here they are told.
    Symbols: k is `samples`, s is `max_segments`. `segments` = segments in the mean of responses; `answered` = responses
        that state an answer / responses; `peak_context` = most tokens that a segment had before it and wrote.
    Example:
        ```yaml
        name: long-thought-in-short-parts
        layers:
          - segment_summarise: {model: strong, summariser: fast, max_segments: 6, max_tokens: 800, summary_tokens: 200}
        ```
    """

    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    measures = frozenset({"answered", "peak_context", "segments"})
    vital = frozenset({"segment"})
    example_replies: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"segment": "There are 3 rows, and each holds 4 cups.", "summarise": "3 rows of 4 cups; multiply next."}
    )

    samples: int = Field(default=1, ge=1, le=256, description="Responses.")
    max_segments: int = Field(default=6, ge=1, le=64, description="Most segments of a response.")
    summariser: ModelName | None = Field(default=None, description="The model that summarises; null for `model`.")
    max_tokens: int | None = Field(default=None, ge=1, description="Most tokens of one segment.")
    summary_tokens: int | None = Field(default=None, ge=1, description="Most tokens of a summary.")

    @property
    def summarising_model(self) -> str:
        """The model that summarises."""
        return self.summariser or self.model

    def models(self) -> tuple[str, ...]:
        """Name the model and the summariser."""
        return tuple(dict.fromkeys((self.model, self.summarising_model)))

    async def run(self, state: State, context: Context) -> State:
        """Reason; raises `InsufficientCandidates` where the first segment of every response failed."""
        question = quoted(state.question)
        asked = await self._segment(question, None, 1, context, n=self.samples)
        notes = failure_notes(context.node, asked.failures, f"segment 1 of {self.model}")
        if not asked.samples:
            raise nothing_left(context.node, asked.failures)
        chains = await together(
            self._chain(question, sample, f"{context.node}:{number}", context)
            for number, sample in enumerate(asked.samples, 1)
        )
        candidates = tuple(_candidate(chain, context.node, number) for number, chain in enumerate(chains, 1))
        return (
            replace(state, candidates=candidates)
            .measured(
                answered=sum(states_answer(chain.text) for chain in chains) / len(chains),
                peak_context=max(chain.peak for chain in chains),
                segments=sum(chain.segments for chain in chains) / len(chains),
            )
            .noted(*notes, *(note for chain in chains for note in chain.notes))
        )

    async def _segment(
        self,
        question: str,
        progress: str | None,
        number: int,
        context: Context,
        *,
        n: int = 1,
        first: int | None = None,
    ) -> Asked:
        return await context.ask(
            self.model,
            "segment",
            _segment_variables(question, progress, is_last=number >= self.max_segments),
            n=n,
            sampling=self.sampling(),
            first=first,
            system=self.system,
        )

    async def _chain(self, question: str, sample: Sample, name: str, context: Context) -> Chain:
        # All calls of one response take its sample index, so that they do not depend on how fast the others are.
        chain = Chain(sample).grown(sample)
        for number in range(2, self.max_segments + 1):
            if states_answer(chain.text):
                return chain
            if chain.progress is None:
                chain = await self._summarised(question, chain, sample.index, name, context)
            asked = await self._segment(question, chain.progress, number, context, first=sample.index)
            notes = failure_notes(context.node, asked.failures, f"segment {number} of {name}")
            chain = replace(chain, notes=(*chain.notes, *notes))
            for written in asked.samples:
                chain = chain.grown(written)
        if states_answer(chain.text):
            return chain
        return replace(chain, notes=(*chain.notes, Note(context.node, "unparsed", f"no answer is stated in {name}")))

    async def _summarised(self, question: str, chain: Chain, index: int, name: str, context: Context) -> Chain:
        segment = quoted(chain.text)
        asked = await context.ask(
            self.summarising_model,
            "summarise",
            {"question": question, "progress": chain.summary, "segment": segment},
            sampling=self._summary_sampling(),
            first=index,
        )
        notes = failure_notes(context.node, asked.failures, f"summary of segment {chain.segments} of {name}")
        tokens = chain.tokens + sum(sample.completion.usage.completion_tokens for sample in asked.samples)
        summary = quoted(asked.samples[0].completion.text) if asked.samples else ""
        if summary:
            return replace(chain, summary=summary, progress=summary, tokens=tokens)
        if not notes:
            notes.append(Note(context.node, "unparsed", f"the summary of segment {chain.segments} of {name} is empty"))
        whole = f"{chain.summary}\n{segment}" if chain.summary else segment
        return replace(chain, progress=whole, tokens=tokens, notes=(*chain.notes, *notes))

    def _summary_sampling(self) -> Sampling:
        return replace(self.sampling(), max_tokens=self.summary_tokens)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell the first segment of each response for certain, and everything after it as possible."""
        k, later = self.samples, self.max_segments - 2
        segment = estimator.completion(self.model, self.sampling(), "segment")
        summary = estimator.completion(self.summarising_model, self._summary_sampling(), "summarise")
        # Where a summary fails, the segment stands behind the one before it, or alone.
        seen = Range(min(summary.low, segment.low), summary.likely, summary.high + segment.high + 1)
        calls = [self._foretell(shape, estimator, exactly(k), None, is_last=self.max_segments == 1, n=k)]
        if self.max_segments > 1:
            once, more = Range(0, k / 2, k), Range(0, k * later / 4, k * later)
            calls.append(self._foretell_summaries(shape.question.plus(segment), estimator, once, None))
            if later > 0:
                calls.append(self._foretell_summaries(shape.question.plus(segment).plus(summary), estimator, more, "-"))
                calls.append(self._foretell(shape, estimator, more, seen, is_last=False))
            calls.append(self._foretell(shape, estimator, once, seen, is_last=True))
        return NodePlan(tuple(calls), fresh(shape, exactly(k), segment))

    def _foretell(
        self, shape: Shape, estimator: Estimator, calls: Range, seen: Range | None, *, is_last: bool, n: int = 1
    ) -> CallPlan:
        return estimator.call(
            self.model,
            "segment",
            _segment_variables("", "-" if seen else None, is_last=is_last),
            inserted=shape.question.plus(seen or exactly(0)),
            calls=calls,
            n=n,
            sampling=self.sampling(),
            system=self.system,
        )

    def _foretell_summaries(
        self, inserted: Range, estimator: Estimator, calls: Range, progress: str | None
    ) -> CallPlan:
        return estimator.call(
            self.summarising_model,
            "summarise",
            {"question": "", "progress": progress, "segment": ""},
            inserted=inserted,
            calls=calls,
            sampling=self._summary_sampling(),
        )


def _segment_variables(question: str, progress: str | None, *, is_last: bool) -> Mapping[str, object]:
    return {"question": question, "progress": progress, "is_last": is_last}


def _candidate(chain: Chain, node: str, number: int) -> Candidate:
    return replace(candidate_of(chain.latest, node, number), completion_tokens=chain.tokens)
