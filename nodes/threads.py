"""Threads of work: what techniques share that come to one response over several calls that build on one another.

A node runs `samples` threads side by side, each with a response of its own. The first call of a thread draws the next
sample of its prompt; all later calls of the thread take the sample of the same number, so that what a thread draws
never depends on the order in which calls end.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from pydantic import Field

from nodes.base import CallPlan, Candidate, Context, Estimator, Note, Range, Shape, State
from nodes.calls import candidate_of, failure_notes, nothing_left, together
from nodes.planning import fresh
from nodes.settings import OneModel
from nodes.shots import between
from nodes.shown import quoted
from providers.base import Sample
from providers.errors import ProviderError

__all__ = ["Reply", "Step", "Thread", "Threads", "between_calls", "enclosed", "found_out", "step_blanks"]

_TAG = re.compile(r"<(?=\s*+/?\s*+(?:step|task|tool|work)\b)", re.IGNORECASE)


class Step(NamedTuple):
    """Something that was found out, as the templates show it."""

    why: str
    asked: str
    found: str


class Reply(NamedTuple):
    """What came of one call."""

    sample: Sample | None
    notes: list[Note]
    failures: tuple[ProviderError, ...]

    @property
    def text(self) -> str | None:
        """The text, None where the call failed."""
        return self.sample.completion.text if self.sample else None


class Thread(NamedTuple):
    """What one thread came to."""

    sample: Sample | None
    """Its response; None where there is none, and `failures` say why."""
    notes: list[Note]
    failures: list[ProviderError]
    measures: Mapping[str, float]


class Threads(OneModel):
    """A technique that runs threads of work; its measures are means over them."""

    samples: int = Field(default=1, ge=1, le=64, description="Threads side by side, each with its own response.")

    @abstractmethod
    async def thread(self, question: str, number: int, context: Context) -> Thread:
        """Do the work of one thread; its first call must be made before anything is waited for."""

    async def run(self, state: State, context: Context) -> State:
        """Run the threads; raises `InsufficientCandidates` where none comes to a response."""
        done = await together(self.thread(state.question, number, context) for number in range(self.samples))
        made: list[Candidate] = []
        for thread in done:
            if thread.sample is not None:
                made.append(candidate_of(thread.sample, context.node, len(made) + 1))
        if not made:
            raise nothing_left(context.node, [failure for thread in done for failure in thread.failures])
        means = {
            name: sum(thread.measures.get(name, 0.0) for thread in done) / len(done) for name in sorted(self.measures)
        }
        notes = [note for thread in done for note in thread.notes]
        return replace(state, candidates=tuple(made)).measured(**means).noted(*notes)

    async def reply(
        self,
        context: Context,
        model: str,
        template: str,
        variables: Mapping[str, object],
        *,
        what: str,
        first: int | None,
    ) -> Reply:
        """Ask a model for one sample; `what` names the call in the note of its failure."""
        asked = await context.ask(model, template, variables, sampling=self.sampling(), first=first, system=self.system)
        notes = failure_notes(context.node, asked.failures, what)
        return Reply(asked.samples[0] if asked.samples else None, notes, asked.failures)

    def foretell_for(
        self,
        estimator: Estimator,
        model: str,
        template: str,
        variables: Mapping[str, object],
        inserted: Range,
        calls: Range,
    ) -> CallPlan:
        """Plan calls of one sample each, in every thread."""
        return estimator.call(
            model,
            template,
            variables,
            inserted=inserted,
            calls=Range(*(self.samples * count for count in calls)),
            sampling=self.sampling(),
            system=self.system,
        )

    def foretell_growing(
        self,
        estimator: Estimator,
        model: str,
        template: str,
        variables: Callable[[int], Mapping[str, object]],
        *,
        steps: int,
        least: Range,
        most: Range,
        calls: Range,
    ) -> CallPlan:
        """Plan calls whose prompts show between none and `steps` steps, with texts between `least` and `most`."""
        none, all_of_them = (
            self.foretell_for(estimator, model, template, variables(count), inserted, calls)
            for count, inserted in ((0, least), (steps, most))
        )
        return between_calls(none, all_of_them)

    async def answer_from(
        self, context: Context, model: str, question: str, steps: Iterable[Step], *, what: str, first: int | None
    ) -> Reply:
        """Ask for the answer from what was found out; without any step the prompt is the bare question."""
        variables = {"question": quoted(question), "steps": found_out(steps)}
        return await self.reply(context, model, "answer_from", variables, what=what, first=first)

    def foretell_answer(
        self,
        estimator: Estimator,
        model: str,
        *,
        steps: int,
        least: Range,
        most: Range,
        calls: Range,
        why: bool = False,
    ) -> CallPlan:
        """Plan answers from between none and `steps` steps."""
        return self.foretell_growing(
            estimator,
            model,
            "answer_from",
            lambda count: {"question": "", "steps": step_blanks(count, why=why)},
            steps=steps,
            least=least,
            most=most,
            calls=calls,
        )

    def handed_on(self, shape: Shape, tokens: Range) -> Shape:
        """Return the shape of what is handed on: one response of each thread."""
        return fresh(shape, Range(self.samples, self.samples, self.samples), tokens)


def between_calls(least: CallPlan, most: CallPlan) -> CallPlan:
    """Return a plan whose prompts lie between those of two plans of the same calls."""
    return replace(most, prompt_tokens=between(least.prompt_tokens, most.prompt_tokens))


def enclosed(text: str) -> str:
    """Quote a text for the tags of these prompts (`<step>`, `<task>`, `<tool>`, `<work>`) and those of all others."""
    return _TAG.sub("< ", quoted(text))


def step_blanks(count: int, *, why: bool = False) -> list[Step]:
    """Return as many steps without text, for a planner to weigh the prompt around them."""
    return [Step("-" if why else "", "", "")] * count


def found_out(steps: Iterable[Step]) -> Sequence[Step]:
    """Quote the steps for a prompt."""
    return [Step(*(enclosed(text) for text in step)) for step in steps]
