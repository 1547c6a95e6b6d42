"""Tournament: candidates meet in pairs, round by round, until one is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from nodes.base import Candidate, Context, Estimator, NodePlan, Note, Range, Shape, State
from nodes.calls import failure_notes, latest_score, needed, together
from nodes.comparing import blank_pair, pair_variables
from nodes.pairings import Method, Pair, knockout_round, matches, rounds, swiss_round
from nodes.parsing import read_preference
from nodes.planning import kept
from nodes.registry import technique
from nodes.settings import OneModel
from providers.base import Asked

__all__ = ["Tournament"]


@technique("tournament")
class Tournament(OneModel):
    """Let candidates meet in pairs before a judge, and put them in order by how far they come.

    Candidates are seeded by their latest score (without scores by their order). In a `knockout` the loser of a match is
    out; the best seed meets the last, so that the best two meet in the final at the earliest, and where the number is
    no power of 2 the best seeds pass the first round without a match. In a `swiss` tournament nobody is out: in each of
    ⌈log2 n⌉ rounds neighbours in the standings meet (if they can, such as have not met), whoever is left over gets a
    win, and points decide. Every match is asked about `comparisons` times in each order (models favour a place); a
    comparison that failed or cannot be read counts as a tie and is noted, and a match that ends in a tie goes to the
    better seed. The score is the share of the rounds won. A lone candidate is not asked about.

    When to use it: to choose one of many candidates by comparison for a number of calls that grows with n, where
        all pairs (`rank: {method: pairwise}`) would take n·(n - 1). A knockout gives the winner; a swiss tournament
        also a fair order of the others.
    Calls: 2·K·(n - 1) (knockout) or 2·K·⌊n/2⌋·⌈log2 n⌉ (swiss); half without `both_orders`.
    Paper: Provable Scaling Laws for the Test-Time Compute of Large Language Models (arXiv 2411.19477), the knockout.
    Symbols: n is the number of candidates that come in, K is `comparisons`.
    Example:
        ```yaml
        name: knockout
        layers:
          - generate: {model: fast, samples: 8, temperature: 0.8}
          - tournament: {model: strong, keep: 1}
        ```
    """

    needs = frozenset({"candidates"})
    reads = frozenset({"scores", "critiques"})
    gives = frozenset({"scores"})

    method: Method = Field(default="knockout", description="Who meets whom.")
    comparisons: int = Field(default=1, ge=1, le=16, description="Comparisons of a match in each order.")
    both_orders: bool = Field(default=True, description="Ask about each match in both orders.")
    keep: int | None = Field(default=1, ge=1, description="How many of the best are handed on; null for all.")
    use_critiques: bool = Field(default=True, description="Show each candidate's critique, where it has one.")

    async def run(self, state: State, context: Context) -> State:
        """Hold the tournament; raises `InsufficientCandidates` where there are no candidates."""
        seeded = sorted(needed(state, context.node), key=_seed_key)
        if len(seeded) == 1:
            note = Note(context.node, "skipped", "a lone candidate needs no tournament")
            return replace(state, candidates=(seeded[0].scored(context.node, 1.0),)).noted(note)
        notes: list[Note] = []
        hold = self._knockout if self.method == "knockout" else self._swiss
        points = await hold(state.question, seeded, context, notes)
        order = sorted(range(len(seeded)), key=lambda seed: (-points[seed], seed))
        ranked = [seeded[seed].scored(context.node, points[seed] / rounds(len(seeded))) for seed in order]
        return replace(state, candidates=tuple(ranked[: self.keep])).noted(*notes)

    async def _knockout(
        self, question: str, seeded: Sequence[Candidate], context: Context, notes: list[Note]
    ) -> list[int]:
        points = [0] * len(seeded)
        alive = list(range(len(seeded)))
        while len(alive) > 1:
            pairs = knockout_round(alive)
            won = set(await self._round(question, seeded, pairs, context, notes))
            # Whoever has no match in a round has won it.
            alive = [seed for seed in alive if seed in won or not any(seed in pair for pair in pairs)]
            for seed in alive:
                points[seed] += 1
        return points

    async def _swiss(
        self, question: str, seeded: Sequence[Candidate], context: Context, notes: list[Note]
    ) -> list[int]:
        points = [0] * len(seeded)
        met: set[Pair] = set()
        rested: set[int] = set()
        for _ in range(rounds(len(seeded))):
            pairs = swiss_round(points, met, rested)
            resting = set(range(len(seeded))) - {seed for pair in pairs for seed in pair}
            for seed in (*await self._round(question, seeded, pairs, context, notes), *resting):
                points[seed] += 1
            met.update(pairs)
            rested |= resting
        return points

    async def _round(
        self, question: str, seeded: Sequence[Candidate], pairs: Sequence[Pair], context: Context, notes: list[Note]
    ) -> list[int]:
        """Return the winner of each pair; all matches of a round are held at the same time."""
        orders = [
            (place, order)
            for place, pair in enumerate(pairs)
            for order in (((pair.better, pair.other), (pair.other, pair.better)) if self.both_orders else (pair,))
        ]
        replies = await together(
            self._compare(question, seeded[first], seeded[second], context) for _, (first, second) in orders
        )
        balance = [0.0] * len(pairs)
        for (place, (first, second)), asked in zip(orders, replies, strict=True):
            what = f"match of {seeded[first].id} and {seeded[second].id}"
            notes += failure_notes(context.node, asked.failures, what)
            for sample in asked.samples:
                preference = read_preference(sample.completion.text)
                if preference is None:
                    notes.append(Note(context.node, "unparsed", f"{what}: taken as a tie"))
                    continue
                balance[place] += preference - 0.5 if first == pairs[place].better else 0.5 - preference
        return [pair.better if sum_ >= 0 else pair.other for pair, sum_ in zip(pairs, balance, strict=True)]

    async def _compare(self, question: str, first: Candidate, second: Candidate, context: Context) -> Asked:
        variables = pair_variables(question, first, second, critiques=self.use_critiques)
        return await context.ask(
            self.model, "rank_pair", variables, n=self.comparisons, sampling=self.sampling(), system=self.system
        )

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell the matches, each in both orders."""
        held = Range(*(matches(math.floor(count), self.method) for count in shape.candidates))
        if not held.high:
            return NodePlan((), kept(shape, self.keep))
        variables, inserted = blank_pair(shape, critiques=self.use_critiques)
        calls = held.times(Range(*[self.comparisons * (2 if self.both_orders else 1)] * 3))
        call = estimator.call(
            self.model,
            "rank_pair",
            variables,
            inserted=inserted,
            calls=calls,
            n=self.comparisons,
            sampling=self.sampling(),
            system=self.system,
        )
        return NodePlan((call,), kept(shape, self.keep))


def _seed_key(candidate: Candidate) -> float:
    return math.inf if (score := latest_score(candidate)) is None else -score
