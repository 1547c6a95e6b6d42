"""Unit-test generation: statements by which responses can be checked."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from nodes.base import Context, Estimator, NodePlan, Note, Range, Shape, State, exactly
from nodes.calls import failure_notes
from nodes.parsing import read_statements
from nodes.registry import technique
from nodes.settings import OneModel
from nodes.shown import quoted

__all__ = ["UnitTestGenerate"]


@technique("unit_test_generate")
class UnitTestGenerate(OneModel):
    """Let a model write test statements in plain language by which responses to the question can be judged.

    The statements take the place of earlier ones in the state; candidates are neither needed nor touched. A model
    judges the statements later; nothing is executed. Where the call fails or the reply holds no list, there are no
    tests, and a note says so.

    When to use it: in front of a unit_test_evaluate, where a good response can be described by what it must contain:
        code, instructions with many demands. It may also stand in front of a generate with `show_tests`.
    Calls: 1.
    Paper: Archon (arXiv 2409.15254), component "unit test generator".
    Symbols: `count` is the number of statements, 5 to 10 in the paper.
    Example:
        ```yaml
        name: tested
        layers:
          - generate: {model: fast, samples: 5, temperature: 0.8}
          - unit_test_generate: {model: strong, count: 5}
          - unit_test_evaluate: {model: strong, keep: 1}
        ```
    """

    gives = frozenset({"tests"})

    count: int = Field(default=5, ge=1, le=50, description="How many statements are asked for, and kept at most.")

    async def run(self, state: State, context: Context) -> State:
        """Ask once."""
        asked = await self.ask(context, "unit_tests", {"question": quoted(state.question), "count": self.count})
        notes = failure_notes(context.node, asked.failures, "unit tests")
        tests = read_statements(asked.samples[0].completion.text, self.count) if asked.samples else ()
        if asked.samples and len(tests) < self.count:
            notes.append(Note(context.node, "unparsed", f"the reply holds {len(tests)} of {self.count} statements"))
        return replace(state, tests=tests).noted(*notes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell one call; its tokens are shared out over the statements."""
        variables = {"question": "", "count": self.count}
        call = self.foretell(estimator, "unit_tests", variables, shape.question, exactly(1))
        reply = call.completion_tokens
        tokens = Range(1, max(1.0, reply.likely / self.count), max(1.0, reply.high / self.count))
        return NodePlan((call,), shape._replace(tests=Range(1, self.count, self.count), test_tokens=tokens))
