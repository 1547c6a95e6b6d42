"""Budget forcing: thinking that is cut short at a number of tokens, or made to go on until there are enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar, NamedTuple, Self

from pydantic import Field, model_validator

from nodes.base import Candidate, Capability, Context, Estimator, NodePlan, Note, Range, Shape, State, exactly
from nodes.calls import candidate_of, failure_notes, nothing_left, together
from nodes.continuing import Continuing, prefix_tokens, words_of
from nodes.planning import fresh
from nodes.registry import technique
from providers.base import Completion, Sample

__all__ = ["BudgetForcing"]


class _Chain(NamedTuple):
    """A response on its way, without its opening."""

    thinking: str
    """What stands before the end of thinking."""
    answer: str | None
    """What stands behind it; None where the thinking was not ended."""
    thinking_tokens: int
    tokens: int
    """Of all parts, those that were thrown away included."""
    finish_reason: str
    waits: int = 0
    forced: bool = False
    notes: tuple[Note, ...] = ()


@technique("budget_forcing")
class BudgetForcing(Continuing):
    """Let the model think up to a number of tokens, then force the answer; with too little thought, make it go on.

    The reply is opened with `open` and written up to `max_thinking` tokens. Where `close` does not come, the thinking
    is ended for the model: `close` and `final` are put behind it, and the model writes on from there, up to
    `max_tokens`. An answer that the budget cut off is written to its end in the same way. Where the model ends its
    thinking, or its reply, before `min_thinking` tokens, the end is taken away and `wait` put there, at most `waits`
    times and within `max_thinking`; what stood behind that end is thrown away, paid and counted. Responses go their
    ways side by side. A response whose call to go on fails keeps what it has, and one whose answer cannot be forced is
    handed on unfinished, both noted; so is a reply that ended by itself without `close`. The tokens of thinking are
    those of the reply, shared out by length where an answer follows. The server has to leave the thinking in the text
    (no reasoning parser) and to continue an assistant's turn word for word: chat templates that strip the thinking from
    it do not serve, the interface for bare completions does. For models without a block of thinking, such as the
    embedded ones, `{open: "", close: "Answer:", final: ""}` forces the answer line after the worked steps.

    When to use it: with models that think, to hold cost and time to a budget or to draw the curve of accuracy by
        thinking; a cap that is too low costs answers. The words of `wait` help models that check themselves.
    Calls: k up to k·(2 + w), by what the model does.
    Paper: s1: Simple test-time scaling (arXiv 2501.19393); compared with other ways in Making Small Language Models
        Efficient Reasoners.
    Symbols: k is `samples`, w is `waits` (0 without `min_thinking`). `forced` = responses whose end of thinking was
        forced / responses; `thinking_tokens` and `waited` = tokens of thinking, and waits, in the mean of responses.
    Example:
        ```yaml
        name: at-most-1000-tokens-of-thought
        layers:
          - budget_forcing: {model: thinker, samples: 4, max_thinking: 1000, max_tokens: 300, temperature: 0.8}
          - vote
        ```
    """

    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    requires: ClassVar[frozenset[Capability]] = frozenset({"prefix_continuation"})
    measures = frozenset({"forced", "thinking_tokens", "waited"})
    vital = frozenset({"generate"})
    composes = True
    example_replies: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"generate": "3 rows of 4 cups are 12 cups.\n</think>\n\nAnswer: 12"}
    )

    samples: int = Field(default=1, ge=1, le=256, description="Responses.")
    max_thinking: int = Field(default=2048, ge=1, description="Most tokens of thinking.")
    min_thinking: int = Field(default=0, ge=0, description="Tokens of thinking below which it is made to go on.")
    waits: int = Field(default=2, ge=0, le=16, description="How often a response is made to go on, at most.")
    wait: str = Field(default="\nWait,", min_length=1, description="What stands in place of an end that came too soon.")
    open: str = Field(default="<think>\n", description="How the reply begins; empty for a model that opens it itself.")
    close: str = Field(default="</think>", min_length=1, description="What ends the thinking.")
    final: str = Field(default="\n\nFinal answer:", description="What stands behind an end that is forced.")
    keep_thinking: bool = Field(default=True, description="Hand on the thinking with the answer, or the answer alone.")
    max_tokens: int | None = Field(default=None, ge=1, description="Most tokens of the answer behind the thinking.")

    @model_validator(mode="after")
    def _least_below_most(self) -> Self:
        if self.min_thinking > self.max_thinking:
            raise ValueError(f"min_thinking is {self.min_thinking}, above max_thinking = {self.max_thinking}")
        return self

    def own_words(self) -> frozenset[str]:
        """Name the words of the texts that are put between the model's own."""
        return words_of(self.open, self.close, self.final, self.wait)

    async def run(self, state: State, context: Context) -> State:
        """Think and answer; raises `InsufficientCandidates` where every first call failed."""
        asked = await self.write(state.question, self.open, self.max_thinking, context, n=self.samples)
        notes = failure_notes(context.node, asked.failures, f"thinking of {self.model}")
        if not asked.samples:
            raise nothing_left(context.node, asked.failures)
        chains = await together(
            self._chain(state.question, sample, f"{context.node}:{number}", context)
            for number, sample in enumerate(asked.samples, 1)
        )
        numbered = enumerate(zip(asked.samples, chains, strict=True), 1)
        candidates = tuple(self._candidate(sample, chain, context.node, number) for number, (sample, chain) in numbered)
        return (
            replace(state, candidates=candidates)
            .measured(
                forced=sum(chain.forced for chain in chains) / len(chains),
                thinking_tokens=sum(chain.thinking_tokens for chain in chains) / len(chains),
                waited=sum(chain.waits for chain in chains) / len(chains),
            )
            .noted(*notes, *(note for chain in chains for note in chain.notes))
        )

    async def _chain(self, question: str, sample: Sample, name: str, context: Context) -> _Chain:
        # All calls of one response take its sample index, so that they do not depend on how fast the others are.
        chain = self._read(sample.completion)
        while self._is_short(chain):
            prefix = chain.thinking.rstrip() + self.wait
            left = self.max_thinking - chain.thinking_tokens
            asked = await self.write(question, self.open + prefix, left, context, first=sample.index)
            if not asked.samples:
                notes = failure_notes(context.node, asked.failures, f"more thinking for {name}")
                chain = chain._replace(notes=(*chain.notes, *notes))
                break
            more = self._read(asked.samples[0].completion)
            chain = more._replace(
                thinking=prefix + more.thinking,
                thinking_tokens=chain.thinking_tokens + more.thinking_tokens,
                tokens=chain.tokens + more.tokens,
                waits=chain.waits + 1,
            )
        return await self._end(question, chain, sample.index, name, context)

    def _read(self, completion: Completion) -> _Chain:
        thinking, end, answer = completion.text.partition(self.close)
        tokens = completion.usage.completion_tokens
        share = len(thinking) / max(1, len(completion.text)) if end else 1.0
        return _Chain(thinking, answer if end else None, round(tokens * share), tokens, completion.finish_reason)

    def _is_short(self, chain: _Chain) -> bool:
        came_to_an_end = chain.answer is not None or chain.finish_reason != "length"
        return came_to_an_end and chain.waits < self.waits and chain.thinking_tokens < self.min_thinking

    async def _end(self, question: str, chain: _Chain, index: int, name: str, context: Context) -> _Chain:
        if chain.answer is not None and chain.finish_reason != "length":
            return chain
        if chain.answer is None:
            before, begun = chain.thinking.rstrip() + "\n", self.final
        else:
            before, begun = chain.thinking, chain.answer
        notes = list(chain.notes)
        if chain.answer is None and chain.finish_reason != "length":
            notes.append(Note(context.node, "unparsed", f"no end of thinking in {name}, though it ended; it is forced"))
        prefix = self.open + before + self.close + begun
        asked = await self.write(question, prefix, self.max_tokens, context, first=index)
        if not asked.samples:
            notes += failure_notes(context.node, asked.failures, f"the answer of {name}, which stays unfinished")
            return chain._replace(notes=tuple(notes))
        completion = asked.samples[0].completion
        return chain._replace(
            thinking=before,
            answer=begun + completion.text,
            tokens=chain.tokens + completion.usage.completion_tokens,
            finish_reason=completion.finish_reason,
            forced=chain.answer is None,
            notes=tuple(notes),
        )

    def _candidate(self, sample: Sample, chain: _Chain, node: str, number: int) -> Candidate:
        if chain.answer is None:
            text = self.open + chain.thinking
        elif self.keep_thinking:
            text = self.open + chain.thinking + self.close + chain.answer
        else:
            text = chain.answer.strip()
        return replace(
            candidate_of(sample, node, number),
            text=text,
            completion_tokens=chain.tokens,
            finish_reason=chain.finish_reason,
            logprobs=None,
            mean_logprob=None,
        )

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell the first call of each response for certain, waits and a forced end as possible."""
        k, waits = self.samples, self.waits if self.min_thinking else 0
        think = estimator.completion(self.model, self.sampling_of(self.max_thinking), "generate")
        answer = estimator.completion(self.model, self.sampling_of(self.max_tokens), "generate")
        added = Range(*(bound * waits for bound in prefix_tokens(self.wait)))
        most = min((waits + 1) * think.high, self.max_thinking + think.high) + added.high
        thought = Range(0, think.likely, most)
        ending = prefix_tokens(f"\n{self.close}{self.final}")
        opened = shape.question.plus(prefix_tokens(self.open))
        calls = [self.foretell_written(estimator, opened, exactly(k), self.max_thinking, n=k)]
        if waits:
            waited = Range(0, k * waits / 2, k * waits)
            calls.append(self.foretell_written(estimator, opened.plus(thought), waited, self.max_thinking))
        calls.append(
            self.foretell_written(estimator, opened.plus(thought).plus(ending), Range(0, k / 2, k), self.max_tokens)
        )
        whole = prefix_tokens(self.open).plus(thought).plus(ending).plus(answer)
        text = whole._replace(low=think.low if self.keep_thinking else 0)
        return NodePlan(tuple(calls), fresh(shape, exactly(k), text))
