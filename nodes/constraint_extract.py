"""Constraint extraction: the demands of a question as a list by which responses can be checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar

from pydantic import Field

from nodes.base import Context, Estimator, NodePlan, Note, Range, Shape, State, exactly
from nodes.calls import failure_notes
from nodes.parsing import read_statements
from nodes.registry import technique
from nodes.settings import OneModel
from nodes.shown import quoted

__all__ = ["ConstraintExtract"]


@technique("constraint_extract")
class ConstraintExtract(OneModel):
    """Let a model list the constraints that this question sets to a response, for others to check.

    The list takes the place of the state's tests, or goes behind them with `add`, so that the scorer
    `constraint_check`, a `unit_test_evaluate` or a `generate` with `show_tests` reads it; candidates are neither needed
    nor touched. Unlike `unit_test_generate` it asks for what the question demands, not for what a right response holds.
    Where the call fails or the reply holds no list, none are added, and a note says so. In the compact style the
    embedded judge writes unit tests in their place.

    When to use it: for plans, schedules and instructions with many demands, in front of a check of each candidate;
        the list is cheap beside the checks, since it is written once for a question.
    Calls: 1.
    Paper: PlanGEN: A Multi-Agent Framework for Generating Planning and Reasoning Trajectories for Complex Problem
        Solving (arXiv 2502.16111), the constraint agent; its verification agent is the scorer `constraint_check`.
    Symbols: none.
    Example:
        ```yaml
        name: plangen-best-of-n
        layers:
          - constraint_extract: {model: strong, temperature: 0}
          - generate: {model: fast, samples: 5, temperature: 0.7}
          - score: {scorer: {use: constraint_check, model: strong, temperature: 0}, keep: 1}
        ```
    """

    reads = frozenset({"tests"})
    gives = frozenset({"tests"})
    example_replies: ClassVar[Mapping[str, str | Callable[[Mapping[str, object]], str]]] = MappingProxyType(
        {"constraint_extract": "1. The response counts the cups of all 3 rows.\n2. The response states one number."}
    )

    count: int = Field(default=8, ge=1, le=50, description="How many constraints are asked for at most, and kept.")
    add: bool = Field(default=False, description="Keep the tests that are there in front of the constraints.")

    async def run(self, state: State, context: Context) -> State:
        """Ask once."""
        variables = {"question": quoted(state.question), "count": self.count}
        asked = await self.ask(context, "constraint_extract", variables)
        notes = failure_notes(context.node, asked.failures, "constraints")
        found = read_statements(asked.samples[0].completion.text, self.count) if asked.samples else ()
        if asked.samples and not found:
            notes.append(Note(context.node, "unparsed", "the reply holds no list of constraints"))
        before = state.tests if self.add else ()
        return replace(state, tests=tuple(dict.fromkeys((*before, *found)))).noted(*notes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell one call; its tokens are shared out over the constraints."""
        variables = {"question": "", "count": self.count}
        call = self.foretell(estimator, "constraint_extract", variables, shape.question, exactly(1))
        reply, likely = call.completion_tokens, max(1.0, self.count / 2)
        tests = Range(1, likely, self.count)
        tokens = Range(1, max(1.0, reply.likely / likely), max(1.0, reply.high / self.count))
        if self.add and shape.tests.high:
            had = shape.test_tokens
            tokens = Range(1, (tokens.likely + had.likely) / 2, max(tokens.high, had.high))
            # A constraint may be a test already.
            tests = Range(max(1, shape.tests.low), shape.tests.likely + likely, shape.tests.high + self.count)
        return NodePlan((call,), shape._replace(tests=tests, test_tokens=tokens))
