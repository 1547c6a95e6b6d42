"""The contract finds techniques that break it: each of these breaks one clause, and its check says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from nodes import contract
from nodes.base import Context, Estimator, NodePlan, Note, Shape, State, exactly
from nodes.calls import together
from nodes.judge import Judge
from nodes.probe import Probe
from nodes.rank import Rank
from nodes.verify import Verify
from providers.base import Asked


class CountsOneTooFew(Judge):
    """Plans one call fewer than it makes."""

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        (call,), after = super().plan(shape, estimator)
        return NodePlan((replace(call, calls=exactly(call.calls.high - 1)),), after)


class KeepsMoreThanItPlans(Judge):
    """Plans for one candidate and hands on all."""

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        calls, after = super().plan(shape, estimator)
        return NodePlan(calls, after._replace(candidates=exactly(1)))


class ForgetsTheCandidatesTokens(Judge):
    """Plans prompts without the candidate in them."""

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        return super().plan(shape._replace(candidate_tokens=exactly(0)), estimator)


class LosesCandidates(Judge):
    """Forgets the score of the last candidate."""

    async def run(self, state: State, context: Context) -> State:
        after = await super().run(state, context)
        *others, last = after.candidates
        return replace(after, candidates=(*others, replace(last, scores={})))


class MeasuresInSecret(Judge):
    """Sets a measure that it does not declare."""

    async def run(self, state: State, context: Context) -> State:
        return (await super().run(state, context)).measured(secret=1.0)


class Invents(Judge):
    """Writes text of its own."""

    async def run(self, state: State, context: Context) -> State:
        after = await super().run(state, context)
        return replace(after, candidates=tuple(replace(c, text="I am sorry.") for c in after.candidates))


class Swallows(Judge):
    """Says nothing of failed calls and unreadable replies."""

    async def run(self, state: State, context: Context) -> State:
        return replace(await super().run(state, context), notes=state.notes)


class DropsNotes(Judge):
    """Loses what nodes before it measured."""

    async def run(self, state: State, context: Context) -> State:
        return replace(await super().run(state, context), measures={"best_score": 1.0})


class ByArrival(Rank):
    """Puts the candidates in the order in which replies arrive."""

    async def run(self, state: State, context: Context) -> State:
        arrived: list[int] = []

        async def ask(position: int) -> None:
            await self.ask(context, "judge", {"question": "", "candidate": state.candidates[position].text})
            arrived.append(position)

        await together(ask(position) for position in range(len(state.candidates)))
        return replace(state, candidates=tuple(state.candidates[position] for position in arrived))


class PassesTheUnreadable(Verify):
    """Takes an unreadable verdict for a pass."""

    async def ask(
        self, context: Context, template: str, variables: Mapping[str, object], *, first: int | None = None
    ) -> Asked:
        asked = await super().ask(context, template, variables, first=first)
        sample = asked.samples[0]
        completion = replace(sample.completion, text="[Correct]")
        return asked._replace(samples=(replace(sample, completion=completion),))


class WorksOnNothing(Judge):
    """Hands on nothing where nothing came in."""

    async def run(self, state: State, context: Context) -> State:
        return await super().run(state, context) if state.candidates else state


class GivesUp(Judge):
    """Hands on nothing but a note as soon as one call fails."""

    async def run(self, state: State, context: Context) -> State:
        after = await super().run(state, context)
        failed = any(note.kind == "call_failed" for note in after.notes)
        return replace(after, candidates=()) if failed else after


class NamesNoNode(Judge):
    """Notes failures as those of another node, with no error."""

    async def run(self, state: State, context: Context) -> State:
        after = await super().run(state, context)
        return replace(after, notes=tuple(Note("other", note.kind, "failed") for note in after.notes))


@pytest.mark.parametrize(
    ("check", "technique"),
    [
        ("check_plan", CountsOneTooFew(model="a")),
        ("check_planned_shape", KeepsMoreThanItPlans(model="a")),
        ("check_planned_tokens", ForgetsTheCandidatesTokens(model="a")),
        ("check_results", LosesCandidates(model="a")),
        ("check_results", MeasuresInSecret(model="a")),
        ("check_nothing_invented", Invents(model="a")),
        ("check_all_calls_failed", Invents(model="a")),
        ("check_all_calls_failed", Swallows(model="a")),
        ("check_garbled_replies", Swallows(model="a")),
        ("check_survivors", Swallows(model="a")),
        ("check_survivors", GivesUp(model="a")),
        ("check_survivors", NamesNoNode(model="a")),
        ("check_nothing_mutated", DropsNotes(model="a")),
        ("check_same_replies_same_result", ByArrival(model="a")),
        ("check_garbled_replies", PassesTheUnreadable(model="a")),
        ("check_no_candidates", WorksOnNothing(model="a")),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_breach_is_found(check: str, technique: Judge | Rank | Verify) -> None:
    with pytest.raises(AssertionError):
        getattr(contract, check)(Probe(technique=technique))
