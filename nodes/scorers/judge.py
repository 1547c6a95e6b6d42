"""Judge: a mark from 1 to 10 by a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from nodes.base import CallPlan, Candidate, Context, Estimator, Note, Score, Shape, State
from nodes.calls import failure_notes, together
from nodes.parsing import read_score
from nodes.scorers.base import OneModelScorer, Scored
from nodes.scorers.registry import scorer
from nodes.shown import quoted

__all__ = ["Judge"]


@scorer("judge")
class Judge(OneModelScorer):
    """Ask a model for a mark from 1 to 10, one candidate a call.

    When to use it: where nothing better is at hand; marks are coarse, and many candidates get the same.
    Calls: n.
    Paper: Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena (arXiv 2306.05685), single-answer grading.
    Symbols: n is the number of candidates.
    Example:
        ```yaml
        name: best-of-n
        layers:
          - generate: {model: fast, samples: 8, temperature: 0.8}
          - score: {scorer: {use: judge, model: strong}, keep: 1}
        ```
    """

    bounds: ClassVar[tuple[float, float] | None] = (1.0, 10.0)

    async def score(self, state: State, candidates: Sequence[Candidate], context: Context) -> Scored:
        """Ask once for each candidate."""
        question = quoted(state.question)
        asked = await together(
            context.ask(
                self.model,
                "judge",
                {"question": question, "candidate": quoted(candidate.text)},
                sampling=self.sampling(),
            )
            for candidate in candidates
        )
        scores: list[Score | None] = []
        notes: list[Note] = []
        for candidate, batch in zip(candidates, asked, strict=True):
            notes += failure_notes(context.node, batch.failures, f"judge {candidate.id}")
            mark = read_score(batch.samples[0].completion.text) if batch.samples else None
            if batch.samples and mark is None:
                notes.append(Note(context.node, "unparsed", f"no score from 1 to 10 in the reply on {candidate.id}"))
            scores.append(None if mark is None else self.given(mark))
        return Scored(tuple(scores), notes)

    def plan(self, shape: Shape, estimator: Estimator) -> tuple[CallPlan, ...]:
        """Foretell one call per candidate."""
        inserted = shape.question.plus(shape.candidate_tokens)
        variables = {"question": "", "candidate": ""}
        return (
            estimator.call(
                self.model, "judge", variables, inserted=inserted, calls=shape.candidates, sampling=self.sampling()
            ),
        )
