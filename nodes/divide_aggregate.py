"""Divide, then aggregate: rounds of calls side by side, whose results together decide what comes next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from nodes.base import ZERO, Context, Estimator, NodePlan, Note, Range, Shape
from nodes.calls import together
from nodes.calls_in_text import ToolCall, read_calls
from nodes.planning import spread
from nodes.registry import technique
from nodes.shown import quoted
from nodes.threads import Reply, Step, Thread, found_out, step_blanks
from nodes.tooling import Evidence, Tooling
from providers.base import Sample
from providers.errors import ProviderError

__all__ = ["DivideAggregate"]


class _Decided(NamedTuple):
    """What a round's reply asks for."""

    calls: tuple[ToolCall, ...]
    """Those that were not made before."""
    answer: Sample | None
    """The reply, where it asks for nothing and so is the response."""
    notes: list[Note]


def _example_round(variables: Mapping[str, Any]) -> str:
    if variables["steps"]:
        return "Both ways come to the same.\nAnswer: 12"
    first, last = variables["tools"][0].name, variables["tools"][-1].name
    return f"Call: {first}[3 * 4]\nCall: {last}[4 + 4 + 4]"


@technique("divide_aggregate")
class DivideAggregate(Tooling):
    """Let a model divide the question into calls that are made at the same time, read the results, and decide again.

    In each round the model sees all results so far and replies either with lines `Call: tool[input]`, or with its
    response, which ends the thread. What builds on a result waits for the next round, so that the rounds are the depth
    of a graph of calls and each round its width. Besides the tools `LLM` may be called, a model that sees its input
    alone. A call that was made before is not made again; a call that fails leaves evidence that is missing, which the
    model sees and a note says. Where the rounds are spent, a round brings no new call, or its reply fails or cannot be
    read, `solver` answers from what was found. The paper's model is trained for this; here the prompt asks for it. The
    embedded models cannot play this role.

    When to use it: where what must be looked up or worked out next depends on earlier results, as it cannot in `rewoo`;
        it reads the question and the results once in each round.
    Calls: k·(1 up to r + 1 + w), where w is the calls of `LLM`, at most r·c.
    Paper: Divide-Then-Aggregate: An Efficient Tool Learning Method via Parallel Tool Invocation (arXiv 2501.12432).
    Symbols: k is `samples`, r is `max_rounds`, c is `max_calls`. Measures (means over the samples): `rounds` that made
        calls, `steps`, the calls of tools and of `LLM`, and `found`, those that brought evidence.
    Example:
        ```yaml
        name: divide-then-aggregate
        layers:
          - divide_aggregate: {model: strong, worker: fast, tools: [calculator], max_rounds: 3}
        ```
    """

    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    measures = frozenset({"found", "rounds", "steps"})
    vital = frozenset({"answer_from"})
    example_replies: ClassVar[Mapping[str, str | Callable[[Mapping[str, object]], str]]] = MappingProxyType(
        {"divide": _example_round}
    )

    max_rounds: int = Field(default=3, ge=1, le=16, description="Most rounds of calls.")
    max_calls: int = Field(default=5, ge=1, le=16, description="Most calls of one round; further ones are left out.")

    async def thread(self, question: str, number: int, context: Context) -> Thread:
        """Divide and aggregate until there is a response or the rounds are spent."""
        known: dict[ToolCall, Evidence] = {}
        notes: list[Note] = []
        failures: list[ProviderError] = []
        first: int | None = None
        answer: Sample | None = None
        rounds = 0
        while rounds < self.max_rounds and answer is None:
            replied = await self._ask_round(question, number, first, known, context)
            if first is None:
                first = replied.sample.index if replied.sample else number
            decided = self._read(replied, number, known, context.node)
            notes += [*replied.notes, *decided.notes]
            failures += replied.failures
            answer = decided.answer
            if not decided.calls:
                break
            made = await together(self.work(call, first, context) for call in decided.calls)
            known = {**known, **dict(zip(decided.calls, made, strict=True))}
            notes += [note for evidence in made for note in evidence.notes]
            failures += [failure for evidence in made for failure in evidence.failures]
            rounds += 1
        if answer is None:
            what = f"answer of thread {number + 1}"
            solved = await self.answer_from(
                context, self.solving_model, question, _steps(known), what=what, first=first
            )
            answer, notes, failures = solved.sample, [*notes, *solved.notes], [*failures, *solved.failures]
        found = sum(evidence.is_found for evidence in known.values())
        return Thread(answer, notes, failures, {"rounds": rounds, "steps": len(known), "found": found})

    async def _ask_round(
        self, question: str, number: int, first: int | None, known: Mapping[ToolCall, Evidence], context: Context
    ) -> Reply:
        variables = self._round_variables(quoted(question), found_out(_steps(known)))
        what = f"round of thread {number + 1}"
        return await self.reply(context, self.model, "divide", variables, what=what, first=first)

    def _read(self, replied: Reply, number: int, known: Mapping[ToolCall, Evidence], node: str) -> _Decided:
        if replied.text is None:
            return _Decided((), None, [])
        read = read_calls(replied.text, self.max_calls)
        notes = [Note(node, "unparsed", f"thread {number + 1}: {problem}") for problem in read.problems]
        if not read.steps:
            return _Decided((), None if read.problems else replied.sample, notes)
        new = tuple(step.call for step in read.steps if step.call not in known)
        if not new:
            notes.append(
                Note(node, "fallback", f"thread {number + 1} asks for nothing new; it is answered as it stands")
            )
        return _Decided(new, None, notes)

    def _round_variables(self, question: str, steps: Sequence[Step]) -> Mapping[str, object]:
        return {"question": question, "tools": self.offered(), "steps": steps, "most": self.max_calls}

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell up to `max_rounds` rounds with `max_calls` calls of `LLM` each, and at most one answer more."""
        reply = estimator.completion(self.model, self.sampling(), "divide")
        evidence = self.evidence_tokens(estimator)
        rounds, most = self.max_rounds, self.max_rounds * self.max_calls

        def texts(steps: int) -> Range:
            # A model without a limit has replies of up to infinity, of which zero times is no number.
            asked = Range(0, reply.likely, reply.high * (steps // self.max_calls)) if steps else ZERO
            return shape.question.plus(asked).plus(Range(0, evidence.likely * steps / 2, evidence.high * steps))

        earlier = most - self.max_calls
        divide = self.foretell_growing(
            estimator,
            self.model,
            "divide",
            lambda steps: self._round_variables("", step_blanks(steps)),
            steps=earlier,
            least=shape.question,
            most=texts(earlier),
            calls=Range(1, min(2, rounds), rounds),
        )
        solve = self.foretell_answer(
            estimator,
            self.solving_model,
            steps=most,
            least=shape.question,
            most=texts(most),
            calls=Range(0, 0.2, 1),
        )
        task = Range(1, reply.likely / 2, reply.high)
        workers = self.foretell_workers(estimator, most, most / 6, task)
        tokens = spread([divide.completion_tokens, solve.completion_tokens])
        return NodePlan((divide, *workers, solve), self.handed_on(shape, tokens))


def _steps(known: Mapping[ToolCall, Evidence]) -> list[Step]:
    return [Step("", str(call), evidence.text) for call, evidence in known.items()]
