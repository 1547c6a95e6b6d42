"""Iterative decode: rounds of samples that see the best and the worst response so far, with their scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

from pydantic import Field

from nodes.base import (
    CallPlan,
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
from nodes.calls import candidate_of, failure_notes, latest_score, nothing_left
from nodes.choosing import best
from nodes.drawing import Drawn
from nodes.planning import fresh, listing, spread
from nodes.registry import technique
from nodes.revising import Revising
from nodes.scorers.registry import OwnScorer
from nodes.shown import quoted, shown
from providers.errors import ProviderError

__all__ = ["IterativeDecode"]

_SCORE_TOKENS = Range(1, 3, 12)
"""Tokens of one score as it stands in the prompt."""


class _Pool(NamedTuple):
    candidates: tuple[Candidate, ...]
    """All responses so far, scored, in order of creation."""
    notes: tuple[Note, ...]
    failures: tuple[ProviderError, ...]
    tried: int
    """Samples asked for so far, which number the next ones."""


@technique("iterative_decode")
class IterativeDecode(Revising):
    """Sample in rounds, each of which sees the best and the worst response so far with their scores, and keep the best.

    The first round draws plain samples, those that `generate` draws. Every response is scored once, when it is made. A
    response that could not be scored gets the scorer's worst value. The rounds end when the best score
    reaches `threshold`, or after `rounds`. A round whose calls all fail is noted, and the next one tries again.
    The compact prompt shows the two responses in the form of `fuse`, without their scores.

    When to use it: where a scorer is much surer than the generator, since all that is gained comes from its signal;
        with a noisy or coarse scorer the rounds chase its errors. It is slower than best-of-n at the same cost,
        because rounds wait for one another.
    Calls: N·t, and those of the scorer for N·t candidates, with 1 ≤ t ≤ T; t = T without `threshold`.
    Paper: Review, Refine, Repeat: Understanding Iterative Decoding of AI Agents with Dynamic Evaluation and Selection
        (arXiv 2504.01931).
    Symbols: N is `samples`, T is `rounds`, t the rounds that were held (the measure `rounds`); `best_score` is the
        highest score found.
    Example:
        ```yaml
        name: iad
        layers:
          - iterative_decode: {model: fast, samples: 4, rounds: 3, scorer: {use: judge, model: strong}, threshold: 9}
        ```
    """

    gives = frozenset({"candidates", "scores"})
    drops = frozenset({"critiques", "verdicts"})
    measures = frozenset({"best_score", "rounds"})

    scorer: OwnScorer = Field(description="The scorer: its name, or a mapping with `use` and its settings.")
    samples: int = Field(default=4, ge=1, le=64, description="Samples of each round.")
    rounds: int = Field(default=3, ge=1, le=16, description="Most rounds, that of the first samples included.")
    threshold: float | None = Field(
        default=None, allow_inf_nan=False, description="The best score at which no further round is held."
    )
    show: Literal["best", "best_and_worst"] = Field(
        default="best_and_worst", description="Which responses a round sees."
    )
    keep: int = Field(default=1, ge=1, description="How many of the best are handed on.")

    def models(self) -> tuple[str, ...]:
        """Name the models that write and those of the scorer."""
        return tuple(dict.fromkeys((*super().models(), *self.scorer.models())))

    def demands(self) -> frozenset[Need]:
        """What the scorer needs of the state."""
        return self.needs | (self.scorer.demands() - {"candidates"})

    def required_of(self, model: str) -> frozenset[Capability]:
        """What the scorer needs of its models."""
        return self.scorer.required() if model in self.scorer.models() else frozenset()

    async def run(self, state: State, context: Context) -> State:
        """Hold the rounds; raises `InsufficientCandidates` where every sample of every round failed."""
        pool = _Pool((), (), (), 0)
        held = 0
        while held < self.rounds and not self._content(pool):
            pool = await self._round(state, pool, context)
            held += 1
        if not pool.candidates:
            raise nothing_left(context.node, pool.failures)
        ordered = sorted(pool.candidates, key=lambda candidate: -candidate.scores[context.node])
        return (
            replace(state, candidates=tuple(ordered[: self.keep]))
            .measured(best_score=ordered[0].scores[context.node], rounds=held)
            .noted(*pool.notes)
        )

    def _content(self, pool: _Pool) -> bool:
        if self.threshold is None or not pool.candidates:
            return False
        return (latest_score(best(pool.candidates)) or 0.0) >= self.threshold

    async def _round(self, state: State, pool: _Pool, context: Context) -> _Pool:
        number = pool.tried + 1
        if pool.candidates:
            drawn = await self._improve(state.question, pool.candidates, number, context)
        else:
            drawn = await self.draw(context, state, self.samples, number=number)
        notes = [*pool.notes, *drawn.notes]
        scored: tuple[Candidate, ...] = ()
        if drawn.candidates:
            found = await self.scorer.score(replace(state, candidates=drawn.candidates), drawn.candidates, context)
            # Critiques are dropped here, so a scorer's feedback is not handed on as one.
            scored = found._replace(feedback=()).onto(drawn.candidates, context.node, otherwise=self.scorer.worst)
            notes += found.notes
        failures = (*pool.failures, *drawn.failures)
        return _Pool((*pool.candidates, *scored), tuple(notes), failures, pool.tried + self.samples)

    async def _improve(self, question: str, candidates: tuple[Candidate, ...], number: int, context: Context) -> Drawn:
        seen = self._seen(candidates)
        variables = {
            "question": quoted(question),
            "candidates": shown(seen, critiques=False),
            "scores": [f"{latest_score(candidate) or 0.0:.4g}" for candidate in seen],
        }
        asked = await self.revise(context, "iterative_decode", variables, self.samples)
        parents = tuple(candidate.id for candidate in seen)
        made = tuple(
            candidate_of(sample, context.node, number + place, parents) for place, sample in enumerate(asked.samples)
        )
        what = f"a better response with {self.revising_model}"
        return Drawn(made, failure_notes(context.node, asked.failures, what), asked.failures)

    def _seen(self, candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        top = best(candidates)
        # The last of equals, so that the worst is another one than the best wherever there are two.
        bottom = min(reversed(candidates), key=lambda candidate: latest_score(candidate) or 0.0)
        return (top,) if self.show == "best" or bottom.id == top.id else (top, bottom)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell N samples for each round, and the scorer's calls on them."""
        least = 1 if self.threshold is not None else self.rounds
        rounds = Range(least, (least + self.rounds) / 2, self.rounds)
        each = exactly(self.samples)
        draws = self.foretell_draws(shape, estimator, each, self.samples)
        calls = [draws]
        tokens = draws.completion_tokens
        if self.rounds > 1:
            revised = estimator.completion(self.revising_model, self.sampling(), "iterative_decode")
            tokens = spread([tokens, revised])
            calls += self._foretell_better(shape, estimator, rounds, tokens)
        batch = fresh(shape, each, tokens)
        calls += [_times(call, rounds) for call in self.scorer.plan(batch, estimator)]
        kept = Range(*(min(self.keep, self.samples * count) for count in rounds))
        return NodePlan(tuple(calls), fresh(shape, kept, tokens))

    def _foretell_better(self, shape: Shape, estimator: Estimator, rounds: Range, tokens: Range) -> list[CallPlan]:
        later = Range(*(count - 1 for count in rounds))
        if self.show == "best":
            return [self._foretell_seeing(1, shape, estimator, later, tokens)]
        if self.samples > 1:
            return [self._foretell_seeing(2, shape, estimator, later, tokens)]
        # After one round of one sample there is but one response to see.
        second = later.at_most(1)
        rest = Range(*(count - once for count, once in zip(later, second, strict=True)))
        return [
            self._foretell_seeing(1, shape, estimator, second, tokens),
            self._foretell_seeing(2, shape, estimator, rest, tokens),
        ]

    def _foretell_seeing(self, seen: int, shape: Shape, estimator: Estimator, rounds: Range, tokens: Range) -> CallPlan:
        blank, inserted = listing(fresh(shape, exactly(seen), tokens), critiques=False)
        return self.foretell_revisions(
            estimator,
            "iterative_decode",
            {"question": "", "candidates": blank, "scores": [""] * seen},
            inserted=inserted.plus(exactly(seen).times(_SCORE_TOKENS)),
            calls=rounds.times(exactly(self.samples)),
            n=self.samples,
        )


def _times(call: CallPlan, rounds: Range) -> CallPlan:
    return replace(call, calls=call.calls.times(rounds), requests=call.requests.times(rounds))
