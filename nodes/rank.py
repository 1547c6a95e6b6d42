"""Rank: the candidates in order of quality, compared with one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal, NamedTuple

from pydantic import Field

from nodes.base import ZERO, Candidate, Context, Estimator, NodePlan, Note, Range, Shape, State
from nodes.calls import failure_notes, needed, together
from nodes.comparing import blank_pair, pair_variables
from nodes.parsing import read_preference, read_ranking
from nodes.planning import kept, listing
from nodes.registry import technique
from nodes.settings import OneModel
from nodes.shown import quoted, shown
from providers.base import Asked

__all__ = ["Rank"]


class _Ranked(NamedTuple):
    scores: list[float]
    """Aligned with the candidates, in 0..1: the share of the others that each one beats."""
    notes: list[Note]


@technique("rank")
class Rank(OneModel):
    """Compare the candidates with one another, put the best first, and keep as many as are wanted.

    `listwise` shows all candidates in one call and asks for an order. `pairwise` asks about every pair twice, once in
    each order (models favour a place), and counts wins; a tie counts half for both. Every candidate gets a score: the
    share of the others that it beats, from 1 for the first to 0 for the last. Candidates that the reply leaves out
    share the mean of the places that are left. Where the reply cannot be read, or the call fails, the order that came
    in is kept, all scores are 0.5, and a note says so. A lone candidate is not asked about.

    When to use it: to choose among several candidates where answers cannot be voted on, or in front of a fuse that
        should see only the best. List-wise is cheap; pairwise is surer with small models, at a price that grows with
        the square of the number of candidates.
    Calls: 1 (list-wise) or n·(n − 1) (pairwise); 0 for a lone candidate.
    Paper: Archon (arXiv 2409.15254), component "ranker"; LLM-Blender: Ensembling Large Language Models with Pairwise
        Ranking and Generative Fusion (arXiv 2306.02561), whose trained PairRM is here replaced by calls to a model.
    Symbols: n is the number of candidates that come in, `keep` is K in the paper.
    Example:
        ```yaml
        name: best-of-five
        layers:
          - generate: {model: fast, samples: 5, temperature: 0.8}
          - rank: {model: strong, keep: 1}
        ```
    """

    needs = frozenset({"candidates"})
    gives = frozenset({"scores"})

    keep: int | None = Field(default=None, ge=1, description="How many of the best are handed on; null for all.")
    method: Literal["listwise", "pairwise"] = Field(
        default="listwise", description="One call, or one per ordered pair."
    )
    use_critiques: bool = Field(default=True, description="Show each candidate's critique, where it has one.")

    async def run(self, state: State, context: Context) -> State:
        """Rank the candidates; raises `InsufficientCandidates` where there are none."""
        candidates = needed(state, context.node)
        if len(candidates) == 1:
            ranked = _Ranked([1.0], [Note(context.node, "skipped", "a lone candidate needs no ranking")])
        elif self.method == "listwise":
            ranked = await self._listwise(state.question, candidates, context)
        else:
            ranked = await self._pairwise(state.question, candidates, context)
        scored = [c.scored(context.node, score) for c, score in zip(candidates, ranked.scores, strict=True)]
        scored.sort(key=lambda candidate: -candidate.scores[context.node])
        return replace(state, candidates=tuple(scored[: self.keep])).noted(*ranked.notes)

    async def _listwise(self, question: str, candidates: Sequence[Candidate], context: Context) -> _Ranked:
        count = len(candidates)
        listed = shown(candidates, critiques=self.use_critiques)
        variables = {"question": quoted(question), "candidates": listed, "keep": min(self.keep or count, count)}
        asked = await self.ask(context, "rank", variables)
        if not asked.samples:
            fallback = Note(context.node, "fallback", "no ranking came; the order is kept and all scores are equal")
            return _Ranked([0.5] * count, [*failure_notes(context.node, asked.failures, "rank"), fallback])
        ranking = read_ranking(asked.samples[0].completion.text, count)
        if ranking is None:
            detail = "the reply gives no ranking; the order is kept and all scores are equal"
            return _Ranked([0.5] * count, [Note(context.node, "unparsed", detail)])
        scores = [0.0] * count
        for place, position in enumerate(ranking.order):
            mean_place = place if place < ranking.named else (ranking.named + count - 1) / 2
            scores[position] = (count - 1 - mean_place) / (count - 1)
        if ranking.named >= min(self.keep or count, count - 1):
            return _Ranked(scores, [])
        detail = f"the ranking names {ranking.named} of {count} candidates; the others follow in their order"
        return _Ranked(scores, [Note(context.node, "fallback", detail)])

    async def _pairwise(self, question: str, candidates: Sequence[Candidate], context: Context) -> _Ranked:
        count = len(candidates)
        orders = [order for a, b in combinations(range(count), 2) for order in ((a, b), (b, a))]
        replies = await together(
            self._compare(question, candidates[first], candidates[second], context) for first, second in orders
        )
        wins = [0.0] * count
        notes: list[Note] = []
        for (first, second), asked in zip(orders, replies, strict=True):
            pair = f"comparison of {candidates[first].id} with {candidates[second].id}"
            preference = read_preference(asked.samples[0].completion.text) if asked.samples else None
            notes += failure_notes(context.node, asked.failures, pair)
            if preference is None:
                notes.append(Note(context.node, "unparsed" if asked.samples else "fallback", f"{pair}: taken as a tie"))
                preference = 0.5
            wins[first] += preference
            wins[second] += 1.0 - preference
        return _Ranked([won / (2 * (count - 1)) for won in wins], notes)

    async def _compare(self, question: str, first: Candidate, second: Candidate, context: Context) -> Asked:
        variables = pair_variables(question, first, second, critiques=self.use_critiques)
        return await self.ask(context, "rank_pair", variables)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell one call, or two for every pair."""
        if shape.candidates.high < 2:
            return NodePlan((), kept(shape, self.keep))
        if self.method == "listwise":
            blank, inserted = listing(shape, critiques=self.use_critiques)
            variables = {"question": "", "candidates": blank, "keep": min(self.keep or len(blank), len(blank))}
            calls = Range(*(1 if count >= 2 else 0 for count in shape.candidates))
            call = self.foretell(estimator, "rank", variables, inserted, calls)
        else:
            pair = blank_pair(shape, critiques=self.use_critiques)
            calls = Range(*(count * max(0, count - 1) for count in shape.candidates))
            call = self.foretell(estimator, "rank_pair", pair.variables, pair.inserted, calls)
        return NodePlan((call,) if call.calls != ZERO else (), kept(shape, self.keep))
