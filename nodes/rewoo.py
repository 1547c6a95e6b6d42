"""ReWOO: plan all calls without seeing a result, make them, answer once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from nodes.base import Context, Estimator, NodePlan, Note, Range, Shape, exactly
from nodes.calls import together
from nodes.calls_in_text import PlanStep, circling, levels, read_plan, references, substituted
from nodes.registry import technique
from nodes.shown import quoted
from nodes.threads import Reply, Step, Thread
from nodes.tooling import Evidence, Tooling
from providers.errors import ProviderError

__all__ = ["Rewoo"]


class _Worked(NamedTuple):
    steps: list[Step]
    """In the plan's order."""
    found: int
    notes: list[Note]
    failures: list[ProviderError]


def _example_plan(variables: Mapping[str, Any]) -> str:
    first, last = variables["tools"][0].name, variables["tools"][-1].name
    return (
        f"Plan: Count the cups.\n#E1 = {first}[3 * 4]\nPlan: Count them once more.\n#E2 = {first}[4 + 4 + 4]\n"
        f"Plan: Compare.\n#E3 = {last}[#E1 - #E2]"
    )


@technique("rewoo")
class Rewoo(Tooling):
    """Let a model plan calls of tools without seeing their results, make the calls, and let a model answer from them.

    The plan is one reply: lines `Plan: …`, each with a call `#E1 = tool[input]` whose input may hold the results of
    other calls (`#E2`). Calls that wait for nothing of each other are made at the same time. Besides the tools a plan
    may call `LLM`, a model that sees its input alone. Then one more reply answers from the question, the plan and the
    evidence. A call that fails, of an unknown tool, or in a circle leaves evidence that is missing and says so, to the
    solver and in a note; a tool whose input needs it is not called, `LLM` is. Where the plan cannot be read or its call
    fails, the question is answered without evidence. Tools cost no calls, and their results are not stored. The
    embedded models cannot play this role: they know no plans.

    When to use it: for questions that take facts or calculations that tools have, where loops of thought and
        observation would read the same prompt again and again.
    Calls: k·(2 + w), where w is the calls of `LLM` in the plan, at most s.
    Paper: ReWOO: Decoupling Reasoning from Observations for Efficient Augmented Language Models (arXiv 2305.18323).
    Symbols: k is `samples`, s is `max_steps`. Measures (means over the samples): `steps` of the plan, and `found`,
        those that brought evidence.
    Example:
        ```yaml
        name: plan-work-solve
        layers:
          - rewoo: {model: strong, worker: fast, tools: [calculator], max_steps: 6}
        ```
    """

    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    measures = frozenset({"found", "steps"})
    vital = frozenset({"answer_from"})
    example_replies: ClassVar[Mapping[str, str | Callable[[Mapping[str, object]], str]]] = MappingProxyType(
        {"rewoo_plan": _example_plan}
    )

    max_steps: int = Field(default=8, ge=1, le=32, description="Most steps of a plan; further ones are left out.")

    async def thread(self, question: str, number: int, context: Context) -> Thread:
        """Plan, work, solve."""
        planned = await self.reply(
            context, self.model, "rewoo_plan", self._plan_variables(question), what=f"plan {number + 1}", first=None
        )
        first = planned.sample.index if planned.sample else number
        steps, notes = self._read(planned, number, context.node)
        worked = await self._work(steps, first, context)
        solved = await self.answer_from(
            context,
            self.solving_model,
            question,
            worked.steps,
            what=f"answer from plan {number + 1}",
            first=first,
        )
        return Thread(
            solved.sample,
            [*planned.notes, *notes, *worked.notes, *solved.notes],
            [*planned.failures, *worked.failures, *solved.failures],
            {"steps": len(steps), "found": worked.found},
        )

    def _read(self, planned: Reply, number: int, node: str) -> tuple[tuple[PlanStep, ...], list[Note]]:
        if planned.text is None:
            return (), []
        read = read_plan(planned.text, self.max_steps)
        notes = [Note(node, "unparsed", f"plan {number + 1}: {problem}") for problem in read.problems]
        if not read.steps:
            notes.append(Note(node, "unparsed", f"plan {number + 1} has no step; the question is answered without"))
        return read.steps, notes

    async def _work(self, steps: Sequence[PlanStep], first: int, context: Context) -> _Worked:
        by_number = {step.number: step for step in steps}
        needs = {step.number: references(step.call.text) for step in steps}
        known = {
            number: self.missing(by_number[number].call, f"#E{number} needs itself", context)
            for number in circling(needs)
        }
        for level in levels({number: wanted for number, wanted in needs.items() if number not in known}):
            done = await together(self._do(by_number[number], needs[number], known, first, context) for number in level)
            known = {**known, **dict(zip(level, done, strict=True))}
        return _Worked(
            [Step(step.why, f"#E{step.number} = {step.call}", known[step.number].text) for step in steps],
            sum(evidence.is_found for evidence in known.values()),
            [note for step in steps for note in known[step.number].notes],
            [failure for step in steps for failure in known[step.number].failures],
        )

    async def _do(
        self, step: PlanStep, needs: Sequence[int], known: Mapping[int, Evidence], first: int, context: Context
    ) -> Evidence:
        lacking = [f"#E{number}" for number in needs if number not in known or not known[number].is_found]
        if lacking and not self.is_llm(step.call):
            return self.missing(step.call, f"without {', '.join(lacking)} it was not called", context)
        texts = {number: known[number].text if number in known else "(no evidence)" for number in needs}
        # Room for some evidences: what a plan repeats a hundred times is cut.
        text = substituted(step.call.text, texts, self.input_bytes)
        return await self.work(step.call._replace(text=text), first, context)

    @property
    def input_bytes(self) -> int:
        """The most bytes of an input with the evidence in it."""
        return 4 * self.evidence_bytes

    def _plan_variables(self, question: str) -> Mapping[str, object]:
        return {"question": quoted(question), "tools": self.offered(), "most": self.max_steps}

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell the plan, up to `max_steps` calls of `LLM`, and the answer."""
        once = exactly(1)
        planner = self.foretell_for(estimator, self.model, "rewoo_plan", self._plan_variables(""), shape.question, once)
        reply, evidence = planner.completion_tokens, self.evidence_tokens(estimator)
        task = Range(1, reply.likely / 4 + evidence.likely / 2, self.input_bytes)
        workers = self.foretell_workers(estimator, self.max_steps, self.max_steps / 4, task)
        solver = self.foretell_answer(
            estimator,
            self.solving_model,
            steps=self.max_steps,
            least=shape.question,
            most=shape.question.plus(reply).plus(evidence.times(exactly(self.max_steps))),
            calls=once,
            why=True,
        )
        return NodePlan((planner, *workers, solver), self.handed_on(shape, solver.completion_tokens))
