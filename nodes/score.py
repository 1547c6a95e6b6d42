"""Score: every candidate scored by a scorer, best first."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from nodes.base import Capability, Context, Estimator, Need, NodePlan, Range, Shape, State, Technique
from nodes.calls import latest_score, needed
from nodes.planning import kept
from nodes.registry import technique
from nodes.scorers.registry import AnyScorer

__all__ = ["Score"]


@technique("score")
class Score(Technique):
    """Score each candidate with a scorer, put the best first, and keep as many as are wanted.

    With `keep: 1` this is best-of-n by that scorer; before a weighted `vote` or a `borda_vote` it gives the weights. A
    candidate that could not be scored gets the scorer's worst value, is noted, and stands last. Equal scores keep their
    order. The name of the scorer and its model stand with the score in the trace. Where a scorer gives feedback, it is
    the candidate's critique from then on.

    When to use it: wherever a technique chooses or weighs by scores; which scorer is right depends on the task, and the
        search can try them all.
    Calls: those of the scorer.
    Paper: Large Language Monkeys: Scaling Inference Compute with Repeated Sampling (arXiv 2407.21787), selection from
        repeated samples.
    Symbols: `best_score` is the highest score that was given.
    Example:
        ```yaml
        name: best-of-n
        layers:
          - generate: {model: fast, samples: 8, temperature: 0.8}
          - score: {scorer: {use: judge, model: strong}, keep: 1}
        ```
    """

    needs = frozenset({"candidates"})
    gives = frozenset({"scores"})
    measures = frozenset({"best_score"})

    scorer: AnyScorer = Field(description="The scorer: its name, or a mapping with `use` and its settings.")
    keep: int | None = Field(default=None, ge=1, description="How many of the best are handed on; null for all.")

    def models(self) -> tuple[str, ...]:
        """Name the scorer's models."""
        return self.scorer.models()

    def required(self) -> frozenset[Capability]:
        """What the scorer needs of its models."""
        return self.scorer.required()

    def demands(self) -> frozenset[Need]:
        """What the scorer needs of the state as well."""
        return self.needs | self.scorer.demands()

    async def run(self, state: State, context: Context) -> State:
        """Score all candidates; raises `InsufficientCandidates` where there are none."""
        candidates = needed(state, context.node)
        found = await self.scorer.score(state, candidates, context)
        scored = list(found.onto(candidates, context.node, otherwise=self.scorer.worst))
        scored.sort(key=lambda candidate: -candidate.scores[context.node])
        best = latest_score(scored[0]) or 0.0
        return replace(state, candidates=tuple(scored[: self.keep])).measured(best_score=best).noted(*found.notes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell the scorer's calls, and the feedback that it leaves."""
        calls = self.scorer.plan(shape, estimator)
        said, had = self.scorer.feedback_tokens(estimator), shape.critique_tokens
        if said is not None:
            shape = shape._replace(critique_tokens=Range(min(said.low, had.low), said.likely, max(said.high, had.high)))
        return NodePlan(calls, kept(shape, self.keep))
