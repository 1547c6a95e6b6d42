"""Pairwise ranking: candidates compared two by two, the liking for a place taken out, best first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from nodes.base import ZERO, Candidate, Context, Estimator, NodePlan, Note, Range, Shape, State
from nodes.calls import failure_notes, needed, together
from nodes.comparing import blank_pair, pair_variables
from nodes.measuring import failed_measurement
from nodes.parsing import read_preference
from nodes.planning import kept
from nodes.position_bias import Comparison, Corrected, Correction, corrected
from nodes.registry import technique
from nodes.sampled_pairs import pair_count, sampled_pairs
from nodes.settings import OneModel

__all__ = ["PairwiseRank"]


class _Outcome(NamedTuple):
    value: float | None
    """In 0..1, 1 where the first is better; None where the call failed or cannot be read."""
    notes: list[Note]


class _Ranked(NamedTuple):
    scores: tuple[float, ...]
    position_bias: float
    notes: list[Note]


@technique("pairwise_rank")
class PairwiseRank(OneModel):
    """Compare candidates in pairs, take out what their place in the prompt adds, and put the best first.

    With `by: chat` a model is asked which of two is better, in the words of `rank`; with `by: cross_encoder` a trained
    pair ranker reads question and both responses and gives one number, a logit or a probability that the first is
    better (`scale`). `correction` says how the place is taken out: `swap` takes the mean of both orders,
    `bradley_terry` fits a strength for each response with one effect of the place, which also ranks responses that
    never met and needs but one order, `none` takes comparisons as they are. Of many pairs `comparisons` are drawn from
    the question, spread evenly over the responses. The score is the mean preference over the others, in 0..1. A
    comparison that failed or cannot be read is noted and does not count (with `swap` its order is a tie); where none
    counts, the order is kept and all scores are 0.5. A lone candidate is not asked about.

    When to use it: where a `rank` or a `tournament` is misled by places, or a small trained ranker is at hand; with
        `comparisons` of some n·log2 n and `bradley_terry` it ranks all candidates for little more than a tournament.
        `position_bias` says whether the correction is needed at all.
    Calls: n·(n - 1), or 2·K; half without `both_orders`.
    Paper: LLM-Blender: Ensembling Large Language Models with Pairwise Ranking and Generative Fusion (arXiv
        2306.02561), PairRanker. Drawing the pairs from a ring and the fit of strengths are ours.
    Symbols: n is the number of candidates that come in, K is `comparisons`. `position_bias` = how much more than half
        of the comparisons the first place wins, doubled: 0 is fair, 1 is always.
    Example:
        ```yaml
        name: blended
        layers:
          - generate: {model: [fast, strong], samples: 3, temperature: 0.8}
          - pairwise_rank: {model: strong, comparisons: 9, correction: bradley_terry, keep: 3}
          - fuse: {model: strong}
        ```
    """

    needs = frozenset({"candidates"})
    reads = frozenset({"critiques"})
    gives = frozenset({"scores"})
    measures = frozenset({"position_bias"})

    by: Literal["chat", "cross_encoder"] = Field(default="chat", description="What kind of model compares.")
    comparisons: int | None = Field(default=None, ge=1, description="Pairs that are compared; null for all.")
    both_orders: bool = Field(default=True, description="Compare each pair in both orders.")
    correction: Correction = Field(default="swap", description="How the liking for a place is taken out.")
    scale: Literal["logit", "probability"] = Field(
        default="logit", description="What the number of a cross-encoder is, of the first being better."
    )
    keep: int | None = Field(default=None, ge=1, description="How many of the best are handed on; null for all.")
    use_critiques: bool = Field(default=True, description="Show a chat model each candidate's critique, if any.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.correction == "swap" and not self.both_orders:
            raise ValueError("`swap` needs `both_orders`; with one order use `bradley_terry` or `none`")
        if self.by == "cross_encoder":
            drawn = ("temperature", "top_p", "max_tokens", "system")
            given = [name for name in drawn if getattr(self, name) is not None]
            if given:
                raise ValueError(f"a cross-encoder writes nothing, so leave out {', '.join(f'`{n}`' for n in given)}")
        return self

    @property
    def _shows_critiques(self) -> bool:
        return self.use_critiques and self.by == "chat"

    async def run(self, state: State, context: Context) -> State:
        """Rank the candidates; raises `InsufficientCandidates` where there are none."""
        candidates = needed(state, context.node)
        if len(candidates) == 1:
            ranked = _Ranked((1.0,), 0.0, [Note(context.node, "skipped", "a lone candidate needs no ranking")])
        else:
            ranked = await self._rank(state.question, candidates, context)
        scored = [c.scored(context.node, score) for c, score in zip(candidates, ranked.scores, strict=True)]
        scored.sort(key=lambda candidate: -candidate.scores[context.node])
        return (
            replace(state, candidates=tuple(scored[: self.keep]))
            .measured(position_bias=ranked.position_bias)
            .noted(*ranked.notes)
        )

    async def _rank(self, question: str, candidates: Sequence[Candidate], context: Context) -> _Ranked:
        count = len(candidates)
        pairs = sampled_pairs(count, self.comparisons, question)
        orders = [order for a, b in pairs for order in (((a, b), (b, a)) if self.both_orders else ((a, b),))]
        outcomes = await together(
            self._compare(question, candidates[first], candidates[second], context) for first, second in orders
        )
        notes = [note for outcome in outcomes for note in outcome.notes]
        known = [
            Comparison(first, second, outcome.value)
            for (first, second), outcome in zip(orders, outcomes, strict=True)
            if outcome.value is not None
        ]
        if not known:
            notes.append(
                Note(context.node, "fallback", "no comparison counts; the order is kept, all scores are equal")
            )
            return _Ranked((0.5,) * count, 0.0, notes)
        met = {place for one in known for place in (one.first, one.second)}
        if alone := [candidate.id for place, candidate in enumerate(candidates) if place not in met]:
            notes.append(Note(context.node, "skipped", f"compared with no other: {', '.join(alone)}"))
        found: Corrected = corrected(known, count, self.correction)
        return _Ranked(found.scores, found.position_bias, notes)

    async def _compare(self, question: str, first: Candidate, second: Candidate, context: Context) -> _Outcome:
        what = f"comparison of {first.id} with {second.id}"
        variables = pair_variables(question, first, second, critiques=self._shows_critiques)
        if self.by == "cross_encoder":
            reply = str(variables["second"])
            found = await context.score(self.model, "pair", "pair_score", variables, reply=reply)
            if found.value is None:
                return _Outcome(None, failed_measurement(context.node, found, what))
            value = self._probability(found.value)
            detail = f"{what}: {found.value:g} is no {self.scale}"
        else:
            asked = await self.ask(context, "rank_pair", variables)
            if not asked.samples:
                return _Outcome(None, failure_notes(context.node, asked.failures, what))
            value, detail = read_preference(asked.samples[0].completion.text), f"{what}: no preference in the reply"
        return _Outcome(value, [Note(context.node, "unparsed", detail)] if value is None else [])

    def _probability(self, number: float) -> float | None:
        if self.scale == "probability":
            return number if 0 <= number <= 1 else None
        return 0.5 * (1 + math.tanh(0.5 * number)) if math.isfinite(number) else None

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell the comparisons, each in one order or both."""
        each = 2 if self.both_orders else 1
        calls = Range(*(each * pair_count(math.floor(count), self.comparisons) for count in shape.candidates))
        if calls == ZERO:
            return NodePlan((), kept(shape, self.keep))
        variables, inserted = blank_pair(shape, critiques=self._shows_critiques)
        if self.by == "cross_encoder":
            call = estimator.score(self.model, "pair_score", variables, inserted=inserted, calls=calls)
        else:
            call = self.foretell(estimator, "rank_pair", variables, inserted, calls)
        return NodePlan((call,), kept(shape, self.keep))
