"""Tests: the share of the state's unit tests that a response passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from nodes.base import CallPlan, Candidate, Context, Estimator, Need, Note, Shape, State
from nodes.scorers.base import OneModelScorer, Scored
from nodes.scorers.registry import scorer
from nodes.unit_test_evaluate import UnitTestEvaluate

__all__ = ["Tests"]


@scorer("tests")
class Tests(OneModelScorer):
    """Judge each candidate by the unit tests of the state; the score is the share of them that it passes.

    The calls are those of `unit_test_evaluate`, so that nothing is paid twice where both stand in a search. A result
    that cannot be read counts as not passed and is noted; a candidate of which no result can be read has no score.
    Without tests nothing is asked, and no candidate has a score.

    When to use it: behind `unit_test_generate`, where the share of tests is to be a weight, a threshold or one voice of
        a `panel`; to filter, use `unit_test_evaluate` itself.
    Calls: n; 0 without tests.
    Paper: Archon (arXiv 2409.15254), component "unit test evaluator".
    Symbols: n is the number of candidates.
    Example:
        ```yaml
        name: tested-first
        layers:
          - unit_test_generate: {model: strong, count: 5}
          - generate: {model: fast, samples: 5, temperature: 0.8}
          - score: {scorer: {use: tests, model: strong}, keep: 1}
        ```
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"tests"})
    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)

    def node(self) -> UnitTestEvaluate:
        """Return the technique whose calls these are."""
        return UnitTestEvaluate(model=self.model, temperature=self.temperature, max_tokens=self.max_tokens, keep="all")

    async def score(self, state: State, candidates: Sequence[Candidate], context: Context) -> Scored:
        """Judge all candidates at once."""
        if not state.tests:
            skipped = Note(context.node, "skipped", "there are no unit tests; no candidate is judged")
            return Scored((None,) * len(candidates), [skipped])
        judged = await self.node().run(replace(state, candidates=tuple(candidates), notes=()), context)
        by_id = {candidate.id: candidate for candidate in judged.candidates}
        scores = []
        for candidate in candidates:
            results = by_id[candidate.id].tests_passed
            read = any(result is not None for result in results)
            scores.append(self.given(by_id[candidate.id].scores[context.node]) if read else None)
        return Scored(tuple(scores), list(judged.notes))

    def plan(self, shape: Shape, estimator: Estimator) -> tuple[CallPlan, ...]:
        """Foretell one call per candidate, or none where there may be no tests."""
        return self.node().plan(shape, estimator).calls
