"""Solve and verify: a budget divided between solutions and written verifications of each of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from nodes.ballots import Read, read_answers
from nodes.base import AnswerKind, Candidate, Context, Estimator, NodePlan, Note, Shape, State, exactly
from nodes.calls import nothing_left
from nodes.drawing import Drawing
from nodes.planning import fresh
from nodes.registry import technique
from nodes.scorers.genrm import GenRM
from nodes.settings import ModelName
from nodes.settling import settle
from nodes.solve_or_verify import Division, divide

__all__ = ["SolveVerify"]


@technique("solve_verify")
class SolveVerify(Drawing):
    """Divide a budget between solutions and verifications of each, and hand on the answer with the best verdicts.

    The budget C is counted in solutions, and a verification (the scorer `genrm`: reasoning, then a verdict) costs λ of
    one. Below `verify_from` all of it buys solutions and a plain vote decides, since that is the better buy at small
    budgets. From there on V grows as C^0.39 and S takes the rest, S(1 + λV) <= C, as the paper's law says that
    solutions should grow faster (S as C^0.57). With `weighted` each vote weighs the share of its verifications that say
    correct; `best` takes the solution with the greatest share. A solution without a readable verdict weighs nothing;
    where no verdict speaks for any, all votes weigh the same. The paper finds that written verification only draws
    level with a vote at up to 8 times the budget; where verification is surer than solving, as the embedded judge's is,
    it pays much earlier, so set `verify_from` low there.

    When to use it: to give one number, the budget, and get the better of self-consistency and verified best-of-n for
        it. λ is the length of a verification over that of a solution, times the ratio of prices with a dearer verifier.
    Calls: S + 2·S·V.
    Paper: When To Solve, When To Verify: Compute-Optimal Problem Solving and Generative Verification for LLM Reasoning
        (arXiv 2504.01005).
    Symbols: C is `budget`, λ is `cost_ratio`; `solutions` = S; `verifications` = V; `agreement` = weight of the winner
        / all weight (with `best`, among the best); `answers` = solutions that voted.
    Example:
        ```yaml
        name: solve-and-verify
        layers:
          - solve_verify: {model: fast, verifier: strong, budget: 32, cost_ratio: 1, verify_from: 8}
        ```
    """

    gives = frozenset({"candidates", "scores"})
    drops = frozenset({"critiques", "verdicts"})
    measures = frozenset({"agreement", "answers", "solutions", "verifications"})

    budget: float = Field(default=32, ge=1, le=10_000, allow_inf_nan=False, description="The budget C, in solutions.")
    cost_ratio: float = Field(
        default=1.0, gt=0, le=1000, allow_inf_nan=False, description="What a verification costs, in solutions: λ."
    )
    verify_from: float = Field(
        default=16, ge=1, allow_inf_nan=False, description="The least budget at which solutions are verified."
    )
    choose: Literal["weighted", "best"] = Field(default="weighted", description="A vote by verdicts, or the best one.")
    verifier: ModelName | None = Field(default=None, description="The model that verifies; null for `model`.")
    verifier_temperature: float | None = Field(
        default=0.7, ge=0, allow_inf_nan=False, description="Its temperature; at 0 all verifications are alike."
    )
    verifier_tokens: int | None = Field(default=None, ge=1, description="Most tokens of one reply of the verifier.")
    kind: AnswerKind | None = Field(default=None, description="Kind of answer to extract, if not that of the task.")

    @property
    def division(self) -> Division:
        """How the budget is divided."""
        return divide(self.budget, self.cost_ratio, self.verify_from)

    def models(self) -> tuple[str, ...]:
        """Name the model that solves and, where anything is verified, the one that verifies."""
        verifying = (self.verifier or self.model,) if self.division.verifications else ()
        return tuple(dict.fromkeys((self.model, *verifying)))

    def _scorer(self, chains: int) -> GenRM:
        return GenRM(
            model=self.verifier or self.model,
            chains=chains,
            temperature=self.verifier_temperature,
            max_tokens=self.verifier_tokens,
        )

    async def run(self, state: State, context: Context) -> State:
        """Solve, verify and vote; raises `InsufficientCandidates` where every call for a solution failed."""
        solutions, verifications = self.division
        drawn = await self.draw(context, state, solutions)
        if not drawn.candidates:
            raise nothing_left(context.node, drawn.failures)
        read = read_answers(drawn.candidates, self.kind or context.answer_kind, context.node)
        notes, weights = [*drawn.notes, *read.notes], None
        if verifications:
            found = await self._scorer(verifications).score(state, read.candidates, context)
            notes += found.notes
            shares = [0.0 if score is None else score.value for score in found.scores]
            weights = {one.id: share for one, share in zip(read.candidates, shares, strict=True)}
            if not any(weights[one.id] for one in read.voters or read.candidates):
                notes.append(Note(context.node, "fallback", "no verdict speaks for any solution; all weigh the same"))
        settled = settle(self._electable(read, weights), context.node, weights=weights)
        return (
            replace(state, candidates=(settled.candidate,))
            .measured(
                agreement=settled.agreement,
                answers=settled.answers,
                solutions=solutions,
                verifications=verifications,
            )
            .noted(*notes, *settled.notes)
        )

    def _electable(self, read: Read, weights: dict[str, float] | None) -> tuple[Candidate, ...]:
        """Return the solutions that may win: with `best` those with the greatest share, among whom votes decide."""
        if weights is None or self.choose == "weighted":
            return read.candidates
        most = max(weights[one.id] for one in read.voters or read.candidates)
        return tuple(one for one in read.voters or read.candidates if weights[one.id] == most)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell S solutions in one request and V verifications of each."""
        solutions, verifications = self.division
        draws = self.foretell_draws(shape, estimator, exactly(solutions), solutions)
        calls = [draws]
        if verifications:
            drawn = fresh(shape, exactly(solutions), draws.completion_tokens)
            calls += self._scorer(verifications).plan(drawn, estimator)
        return NodePlan(tuple(calls), fresh(shape, exactly(1), draws.completion_tokens))
