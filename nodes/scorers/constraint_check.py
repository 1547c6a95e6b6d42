"""Constraint check: how far a response keeps the constraints of its question, with feedback."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from nodes.base import CallPlan, Candidate, Context, Estimator, Need, Note, Range, Shape, State
from nodes.calls import failure_notes, together
from nodes.parsing import read_score, read_test_results
from nodes.scorers.base import OneModelScorer, Scored
from nodes.scorers.registry import scorer
from nodes.shown import quoted

__all__ = ["ConstraintCheck"]


@scorer("constraint_check")
class ConstraintCheck(OneModelScorer):
    """Let a model check each candidate against the constraints of the state: feedback first, then −100 to 100.

    100 means that every constraint is kept beyond doubt. The paper accepts from 95 on; here that is the threshold of
    whoever uses the score (`resample_until_verified`, a condition on `best_score`). The reply becomes the candidate's
    critique, so that a `refine` behind it can mend what was found. A reply with a line for each constraint in place of
    a number, which is what the embedded judge writes, is read as well: 100 for a constraint kept, −100 for one that is
    not, and the mean of them; a line that cannot be read is noted and counts as not kept. Without constraints nothing
    is asked, and no candidate has a score.

    When to use it: behind `constraint_extract`, for plans and schedules and whatever else has demands that can be
        checked one by one.
    Calls: n; 0 without constraints.
    Paper: PlanGEN: A Multi-Agent Framework for Generating Planning and Reasoning Trajectories for Complex Problem
        Solving (arXiv 2502.16111), the verification agent.
    Symbols: n is the number of candidates.
    Example:
        ```yaml
        name: plangen-best-of-n
        layers:
          - constraint_extract: {model: strong}
          - generate: {model: fast, samples: 5, temperature: 0.7}
          - score: {scorer: {use: constraint_check, model: strong}, keep: 1}
        ```
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"tests"})
    bounds: ClassVar[tuple[float, float] | None] = (-100.0, 100.0)
    worst: ClassVar[float] = -100.0
    example_replies: ClassVar[Mapping[str, str | Callable[[Mapping[str, object]], str]]] = MappingProxyType(
        {"constraint_check": "Constraint 1 is kept, constraint 2 only in part.\nScore: 40"}
    )

    async def score(self, state: State, candidates: Sequence[Candidate], context: Context) -> Scored:
        """Ask once for each candidate."""
        if not state.tests:
            skipped = Note(context.node, "skipped", "there are no constraints; no candidate is checked")
            return Scored((None,) * len(candidates), [skipped])
        shown = {"question": quoted(state.question), "tests": [quoted(test) for test in state.tests]}
        asked = await together(
            context.ask(
                self.model,
                "constraint_check",
                {**shown, "candidate": quoted(candidate.text)},
                sampling=self.sampling(),
            )
            for candidate in candidates
        )
        values: list[float | None] = []
        feedback: list[str | None] = []
        notes: list[Note] = []
        for candidate, batch in zip(candidates, asked, strict=True):
            notes += failure_notes(context.node, batch.failures, f"constraints on {candidate.id}")
            said = batch.samples[0].completion.text if batch.samples else None
            value, unread = (None, "") if said is None else _read(said, len(state.tests))
            if unread:
                notes.append(Note(context.node, "unparsed", f"{unread} in the reply on {candidate.id}"))
            values.append(value)
            feedback.append(None if value is None else said)
        scores = tuple(None if value is None else self.given(value) for value in values)
        return Scored(scores, notes, tuple(feedback))

    def plan(self, shape: Shape, estimator: Estimator) -> tuple[CallPlan, ...]:
        """Foretell one call per candidate, or none where there may be no constraints."""
        tests = max(1, round(shape.tests.likely))
        inserted = shape.question.plus(shape.candidate_tokens).plus(shape.tests.times(shape.test_tokens))
        calls = shape.candidates
        if shape.tests.low < 1:
            calls = Range(0, calls.likely if shape.tests.likely else 0, calls.high if shape.tests.high else 0)
        return (
            estimator.call(
                self.model,
                "constraint_check",
                _blank(tests),
                inserted=inserted,
                calls=calls,
                sampling=self.sampling(),
            ),
        )

    def feedback_tokens(self, estimator: Estimator) -> Range:
        """Foretell the length of a reply."""
        return estimator.completion(self.model, self.sampling(), "constraint_check")


def _blank(tests: int) -> Mapping[str, object]:
    return {"question": "", "candidate": "", "tests": [""] * tests}


def _read(text: str, count: int) -> tuple[float | None, str]:
    """Read the score of a reply, and say what of it could not be read."""
    low, high = -100.0, 100.0
    # Feedback may hold other numbers ("3 out of 10 days"), so a score is read where it calls itself one, or alone.
    labelled = [line for line in text.splitlines() if "score" in line.lower()]
    marked = read_score(labelled[-1] if labelled else text.strip() if len(text.split()) == 1 else "", low, high)
    if marked is not None:
        return marked, ""
    results = read_test_results(text, count)
    if all(result is None for result in results):
        return None, "no score from -100 to 100"
    unread = [str(number) for number, result in enumerate(results, 1) if result is None]
    kept = sum(result is True for result in results)
    return low + (high - low) * kept / count, f"no result of constraint {', '.join(unread)}" if unread else ""
