"""Compute-optimal: a pilot shows how hard a question is, and a table says what to spend on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from db.errors import DataError
from nodes.ballots import read_answers
from nodes.base import (
    ZERO,
    AnswerKind,
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
from nodes.calls import candidate_of, failure_notes, nothing_left
from nodes.learned import names_file
from nodes.planning import fresh, spread
from nodes.pools import Pool, chosen, ease_of, foretell_scores, scored
from nodes.registry import technique
from nodes.revising import Revising
from nodes.scorers.registry import OwnScorer
from nodes.shown import blanks, quoted, shown
from nodes.spending import Estimate, Spending, SpendingTable, bin_of, check_table

__all__ = ["ComputeOptimal"]

Finite = Annotated[float, Field(allow_inf_nan=False)]


@technique("compute_optimal")
class ComputeOptimal(Revising):
    """Draw a pilot, estimate from it how easy the question is, and spend the rest by a table from ease to strategy.

    The estimate stands for the chance that one sample is right. `agreement` is the share of the pilot that gives the
    leading answer; `score` the mean score of the pilot (brought to 0..1), the predicted difficulty of the paper;
    `weighted` the summed score of the leading answer's samples over their number; `best` the highest score, which
    asks whether a right response is there already. `thresholds` cut it into bins, the easiest first, and `table` holds
    for each bin how many further `samples` are drawn, how many `revisions` the leading response then goes through,
    and how to `choose` among all responses: by `vote`, by a vote `weighted` with scores, or the `best` score. Where the
    whole pilot failed, the question counts as hardest. Table and thresholds are set by hand or read from a file that
    `evals.compute_optimal` learned on a dev split under a mean budget; they then stand in the architecture as its own.
    Absolute thresholds of pass@1 that papers use are 0.5 and 0.1 (easy, medium, hard).

    When to use it: wherever questions differ in difficulty and a number of samples for all would waste most of them;
        with a scorer that knows right from wrong, two samples of pilot, `weighted` and rich last bins do well.
    Calls: p for the pilot, then samples + revisions of one entry of the table; the scorer's for those that it scores.
    Paper: Scaling LLM Test-Time Compute Optimally can be More Effective than Scaling Model Parameters (arXiv
        2408.03314); Can 1B LLM Surpass 405B LLM? Rethinking Compute-Optimal Test-Time Scaling (arXiv 2502.06703), the
        absolute thresholds. Their models were trained to revise.
    Symbols: p is `pilot`; `ease` = the estimate; `bin` = from 1, the easiest; `drawn` = samples and revisions;
        `agreement` = share of all votes (by weight with `weighted`) for the answer handed on.
    Example:
        ```yaml
        name: compute-optimal
        layers:
          - compute_optimal:
              model: fast
              scorer: {use: verdict_probability, model: strong}
              pilot: 2
              estimate: weighted
              thresholds: [0.9, 0.1]
              table:
                - {choose: weighted}
                - {samples: 2, choose: weighted}
                - {samples: 8, choose: weighted}
        ```
    """

    gives = frozenset({"candidates", "scores"})
    drops = frozenset({"critiques", "verdicts"})
    measures = frozenset({"agreement", "bin", "drawn", "ease"})

    pilot: int = Field(default=4, ge=1, le=1000, description="Samples that the difficulty is estimated from.")
    estimate: Estimate = Field(default="agreement", description="What of the pilot stands for the ease.")
    thresholds: tuple[Finite, ...] = Field(default=(0.75, 0.5), description="The least ease of each bin but the last.")
    table: tuple[Spending, ...] = Field(
        default=(Spending(), Spending(samples=4), Spending(samples=12)),
        description="What is spent in each bin, the easiest first: `samples`, `revisions`, `choose`.",
    )
    table_file: str | None = Field(default=None, description="A learned table, in place of thresholds and table.")
    scorer: OwnScorer | None = Field(default=None, description="What gives scores, where estimate or choice use any.")
    kind: AnswerKind | None = Field(default=None, description="Kind of answer to extract, if not that of the task.")

    @model_validator(mode="before")
    @classmethod
    def _learned(cls, data: Any) -> Any:  # what pydantic hands to a validator of raw settings
        """Put a learned table in the settings, so that the architecture and its hash hold what it is."""
        if not names_file(data, "table_file"):
            return data
        try:
            found = SpendingTable.load(data["table_file"])
        except DataError as error:
            raise ValueError(str(error)) from None
        for key, learned in (("pilot", found.pilot), ("estimate", found.estimate)):
            if data.get(key, learned) != learned:
                raise ValueError(f"table_file was learned with {key}: {learned}; it is {data[key]} here")
        filled = {"pilot": found.pilot, "estimate": found.estimate, "thresholds": found.thresholds}
        return {**data, **filled, "table": found.table, "table_file": None}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_table(self.thresholds, self.table)
        wanted = self.estimate != "agreement" or any(spending.needs_scores for spending in self.table)
        if wanted and self.scorer is None:
            raise ValueError("`estimate` or `choose` goes by scores, which needs a `scorer`")
        if self.scorer is not None and not wanted:
            raise ValueError("neither `estimate` nor `choose` goes by scores; leave out the `scorer`")
        return self

    def models(self) -> tuple[str, ...]:
        """Name the model that is sampled, the one that revises where any does, and those of the scorer."""
        revising = (self.revising_model,) if any(spending.revisions for spending in self.table) else ()
        scoring = self.scorer.models() if self.scorer else ()
        return tuple(dict.fromkeys((self.model, *revising, *scoring)))

    def demands(self) -> frozenset[Need]:
        """What the scorer needs of the state."""
        return self.needs | (self.scorer.demands() - {"candidates"} if self.scorer else frozenset())

    def required_of(self, model: str) -> frozenset[Capability]:
        """What the scorer needs of its models."""
        return self.scorer.required() if self.scorer and model in self.scorer.models() else frozenset()

    async def run(self, state: State, context: Context) -> State:
        """Draw the pilot and spend the rest; raises `InsufficientCandidates` where every call failed."""
        pool = await self._drawn(Pool(), self.pilot, state, context)
        if self.estimate != "agreement":
            pool = await self._scored(pool, state, context)
        ease = ease_of(pool, self.estimate)
        place = bin_of(ease, self.thresholds)
        if not pool.candidates:
            place = len(self.table) - 1
            pool = pool._replace(
                notes=(*pool.notes, Note(context.node, "fallback", "the whole pilot failed; taken for hardest"))
            )
        pool = await self._spent(self.table[place], pool, state, context)
        settled = chosen(pool, self.table[place].choose, context.node)
        return (
            replace(state, candidates=(settled.candidate,))
            .measured(agreement=settled.agreement, bin=place + 1, drawn=pool.drawn, ease=ease)
            .noted(*pool.notes, *settled.notes)
        )

    async def _spent(self, spending: Spending, pool: Pool, state: State, context: Context) -> Pool:
        if spending.samples:
            pool = await self._drawn(pool, spending.samples, state, context)
        if not pool.candidates:
            raise nothing_left(context.node, pool.failures)
        if spending.needs_scores:
            pool = await self._scored(pool, state, context)
        if spending.revisions:
            leading = chosen(pool, spending.choose, context.node).candidate
            for _ in range(spending.revisions):
                before = len(pool.candidates)
                pool = await self._revised(pool, leading, state, context)
                leading = pool.candidates[-1] if len(pool.candidates) > before else leading
            if spending.needs_scores:
                pool = await self._scored(pool, state, context)
        return pool

    async def _drawn(self, pool: Pool, n: int, state: State, context: Context) -> Pool:
        drawn = await self.draw(context, state, n, number=len(pool.candidates) + 1)
        read = read_answers(drawn.candidates, self.kind or context.answer_kind, context.node)
        return pool._replace(
            candidates=(*pool.candidates, *read.candidates),
            drawn=pool.drawn + n,
            notes=(*pool.notes, *drawn.notes, *read.notes),
            failures=(*pool.failures, *drawn.failures),
        )

    async def _revised(self, pool: Pool, leading: Candidate, state: State, context: Context) -> Pool:
        seen = shown((leading,), critiques=False)
        variables = {
            "question": quoted(state.question),
            "candidates": seen,
            "candidate": seen[0].text,
            "critique": None,
        }
        asked = await self.revise(context, "revise", variables)
        number = len(pool.candidates) + 1
        made = [candidate_of(sample, context.node, number, (leading.id,)) for sample in asked.samples]
        read = read_answers(made, self.kind or context.answer_kind, context.node)
        failed = failure_notes(context.node, asked.failures, f"revision of {leading.id}")
        return pool._replace(
            candidates=(*pool.candidates, *read.candidates),
            drawn=pool.drawn + 1,
            notes=(*pool.notes, *failed, *read.notes),
        )

    async def _scored(self, pool: Pool, state: State, context: Context) -> Pool:
        return pool if self.scorer is None else await scored(pool, self.scorer, state, context)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell the pilot, and between the least and the most that the table spends."""
        pilot = self.foretell_draws(shape, estimator, exactly(self.pilot), self.pilot)
        calls, tokens = [pilot], pilot.completion_tokens
        if any(spending.samples for spending in self.table):
            calls.append(self._foretell_samples(shape, estimator, pilot))
        if any(spending.revisions for spending in self.table):
            tokens = spread([tokens, estimator.completion(self.revising_model, self.sampling(), "revise")])
            variables = {"question": "", "candidates": blanks(1), "candidate": "", "critique": None}
            turns = _any_of([spending.revisions for spending in self.table])
            inserted = shape.question.plus(tokens)
            calls.append(self.foretell_revisions(estimator, "revise", variables, inserted=inserted, calls=turns))
        calls += self._foretell_scores(shape, estimator, tokens)
        return NodePlan(tuple(calls), fresh(shape, exactly(1), tokens))

    def _foretell_samples(self, shape: Shape, estimator: Estimator, pilot: CallPlan) -> CallPlan:
        plans = [
            self.foretell_draws(shape, estimator, exactly(entry.samples), max(1, entry.samples)) for entry in self.table
        ]
        return replace(
            pilot,
            calls=_any_of([plan.calls.likely for plan in plans]),
            requests=_any_of([plan.requests.likely for plan in plans]),
        )

    def _foretell_scores(self, shape: Shape, estimator: Estimator, tokens: Range) -> list[CallPlan]:
        if self.scorer is None:
            return []
        rounds = [[exactly(count) for count in self._rounds(entry) if count] for entry in self.table]
        plans = [foretell_scores(self.scorer, shape, estimator, tokens, each) for each in rounds if each]
        unscored = [ZERO] * (len(rounds) - len(plans))
        return [
            replace(
                calls[0],
                calls=spread([*unscored, *(call.calls for call in calls)]),
                requests=spread([*unscored, *(call.requests for call in calls)]),
                prompt_tokens=spread([call.prompt_tokens for call in calls]),
            )
            for calls in zip(*plans, strict=True)
        ]

    def _rounds(self, spending: Spending) -> tuple[int, ...]:
        """Return how many are scored together: the pilot, the samples behind it, the revisions."""
        if not spending.needs_scores:
            return (0 if self.estimate == "agreement" else self.pilot,)
        if self.estimate == "agreement":
            return self.pilot + spending.samples, spending.revisions
        return self.pilot, spending.samples, spending.revisions


def _any_of(counts: Sequence[float]) -> Range:
    return Range(min(counts), math.fsum(counts) / len(counts), max(counts))
