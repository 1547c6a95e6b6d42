"""Decompose and solve: one model asks sub-questions, another answers them, then the question."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar

from pydantic import Field

from nodes.base import CallPlan, Context, Estimator, NodePlan, Note, Range, Shape, exactly
from nodes.calls_in_text import LONGEST_INPUT, clipped
from nodes.drawing import generate_variables
from nodes.parsing import read_statements
from nodes.planning import spread
from nodes.registry import technique
from nodes.settings import ModelName
from nodes.shown import quoted
from nodes.subquestions import SubQuestions
from nodes.threads import Reply, Thread, between_calls, step_blanks

__all__ = ["DecomposeSolve"]


@technique("decompose_solve")
class DecomposeSolve(SubQuestions):
    """Let a decomposer ask sub-questions, let the model answer them one by one, then the question with these answers.

    With `show_attempt` the model first answers the bare question (a plain sample, shared with `generate`), and the
    decomposer sees that attempt, so that its questions go where the attempt is weak. In a `chain` each sub-question is
    answered with all earlier answers in view. By `references` it is answered with those in view that it names (`#1`),
    and sub-questions that name none of each other are answered at the same time. A sub-question whose call fails, or
    whose answer is empty, is left out. Where the decomposer fails or its list cannot be read, and where the last call
    fails, the attempt is handed on, noted as a fallback; without an attempt the question is then answered as it stands.
    The paper trains its decomposer on its solver's errors; here any model is prompted for it. The embedded models
    cannot play these roles, the first attempt excepted.

    When to use it: on questions of several steps, where a model does each step well and loses its way between them; the
        decomposer may be small and cheap, the solver need not be.
    Calls: k·(2 + q) with the first attempt, k·(1 + q) at most without; q is the number of sub-questions.
    Paper: Small Language Models Fine-tuned to Coordinate Larger Language Models improve Complex Reasoning (DaSLaM,
        arXiv 2310.18338).
    Symbols: k is `samples`, q is at most `max_questions`. Measures (means over the samples): `steps`, the sub-questions
        that were asked, and `found`, those that were answered.
    Example:
        ```yaml
        name: decompose-then-solve
        layers:
          - decompose_solve: {model: strong, decomposer: fast, max_questions: 4}
        ```
    """

    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    measures = frozenset({"found", "steps"})
    vital = frozenset({"answer_from"})
    example_replies: ClassVar[Mapping[str, str | Callable[[Mapping[str, object]], str]]] = MappingProxyType(
        {"decompose": "1. How many rows are there?\n2. How many cups does a row hold?\n3. What is #1 times #2?"}
    )

    decomposer: ModelName = Field(description="The model that asks the sub-questions.")
    show_attempt: bool = Field(default=True, description="Answer first, and let the decomposer see the answer.")

    def models(self) -> tuple[str, ...]:
        """Name the model that answers and the one that asks."""
        return tuple(dict.fromkeys((self.model, self.decomposer)))

    async def thread(self, question: str, number: int, context: Context) -> Thread:
        """Attempt, decompose, answer the parts, answer the whole."""
        attempt = await self._attempt(question, number, context)
        started = attempt.sample.index if attempt.sample else None if not self.show_attempt else number
        text = attempt.text or ""
        asked = await self.reply(
            context,
            self.decomposer,
            "decompose",
            self._decompose_variables(quoted(question), quoted(text)),
            what=f"sub-questions of thread {number + 1}",
            first=started,
        )
        first = started if started is not None else asked.sample.index if asked.sample else number
        parts, notes = self._read(asked, number, context.node)
        notes = [*attempt.notes, *asked.notes, *notes]
        failures = [*attempt.failures, *asked.failures]
        fallback = Note(context.node, "fallback", f"thread {number + 1} hands on its first attempt")
        if not parts and attempt.sample is not None:
            notes.append(fallback)
            return Thread(attempt.sample, notes, failures, {"steps": 0, "found": 0})
        answered = await self.answer_parts(question, parts, first, context)
        what = f"answer of thread {number + 1}"
        whole = await self.answer_from(context, self.model, question, answered.steps, what=what, first=first)
        notes += [*answered.notes, *whole.notes]
        if whole.sample is None and attempt.sample is not None:
            notes.append(fallback)
        return Thread(
            whole.sample or attempt.sample,
            notes,
            [*failures, *answered.failures, *whole.failures],
            {"steps": len(parts), "found": len(answered.steps)},
        )

    async def _attempt(self, question: str, number: int, context: Context) -> Reply:
        if not self.show_attempt:
            return Reply(None, [], ())
        variables = generate_variables(question)
        what = f"first attempt of thread {number + 1}"
        return await self.reply(context, self.model, "generate", variables, what=what, first=None)

    def _read(self, asked: Reply, number: int, node: str) -> tuple[tuple[str, ...], list[Note]]:
        if asked.text is None:
            return (), []
        read = read_statements(asked.text, self.max_questions)
        parts = tuple(clipped(part, LONGEST_INPUT) for part in read)
        said = f"no sub-question in the decomposer's reply of thread {number + 1}"
        return parts, [] if parts else [Note(node, "unparsed", said)]

    def _decompose_variables(self, question: str, attempt: str) -> Mapping[str, object]:
        return {"question": question, "attempt": attempt, "most": self.max_questions}

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell the attempt where there is one, the sub-questions' call, their answers, and the last answer."""
        calls: list[CallPlan] = []
        tokens: list[Range] = []
        attempt = Range(0, 0, 0)
        if self.show_attempt:
            first = self.foretell_for(
                estimator, self.model, "generate", generate_variables(""), shape.question, exactly(1)
            )
            calls, tokens, attempt = [first], [first.completion_tokens], first.completion_tokens
        calls.append(self._foretell_decompose(shape, estimator, attempt))
        asked = estimator.completion(self.decomposer, self.sampling(), "decompose")
        said = estimator.completion(self.model, self.sampling(), "subtask")._replace(low=0).at_most(self.answer_bytes)
        part, whole = self._foretell_answers(shape, estimator, asked, said)
        tokens.append(whole.completion_tokens)
        return NodePlan((*calls, part, whole), self.handed_on(shape, spread(tokens)))

    def _foretell_decompose(self, shape: Shape, estimator: Estimator, attempt: Range) -> CallPlan:
        def shown(text: str, inserted: Range) -> CallPlan:
            variables = self._decompose_variables("", text)
            return self.foretell_for(estimator, self.decomposer, "decompose", variables, inserted, exactly(1))

        if not self.show_attempt:
            return shown("", shape.question)
        return between_calls(shown("", shape.question), shown("-", shape.question.plus(attempt)))

    def _foretell_answers(
        self, shape: Shape, estimator: Estimator, asked: Range, said: Range
    ) -> tuple[CallPlan, CallPlan]:
        most = self.max_questions

        def seen(steps: int) -> Range:
            return shape.question.plus(Range(0, asked.likely, asked.high)).plus(said.times(exactly(steps)))

        part = self.foretell_growing(
            estimator,
            self.model,
            "subtask",
            lambda steps: {"question": "-", "task": "", "steps": step_blanks(steps)},
            steps=most - 1,
            least=shape.question,
            most=seen(most - 1).plus(Range(0, 0, asked.high)),
            calls=Range(0, most * 0.75, most),
        )
        whole = self.foretell_answer(
            estimator,
            self.model,
            steps=most,
            least=shape.question,
            most=seen(most),
            calls=Range(0 if self.show_attempt else 1, 1, 1),
        )
        return part, whole
