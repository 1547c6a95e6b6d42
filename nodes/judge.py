"""Judge: a score from 1 to 10 for every candidate."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from nodes.base import Candidate, Context, Estimator, NodePlan, Note, Shape, State
from nodes.calls import failure_notes, needed, together
from nodes.parsing import read_score
from nodes.planning import kept
from nodes.registry import technique
from nodes.settings import OneModel
from nodes.shown import quoted

__all__ = ["Judge"]


@technique("judge")
class Judge(OneModel):
    """Let a model score each candidate from 1 to 10, put the best first, and keep as many as are wanted.

    Candidates are judged one by one, so that a score does not depend on what else is there. A candidate whose call
    failed or whose reply holds no score from 1 to 10 gets 0, below every score that a judge can give, and is noted.
    Equal scores keep their order.

    When to use it: for best-of-n on open questions, and where a condition should read how good the best candidate is.
        Scores from 1 to 10 are coarse; where many candidates tie, a rank tells them apart better.
    Calls: n.
    Paper: Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena (arXiv 2306.05685), single-answer grading.
    Symbols: n is the number of candidates that come in; `best_score` is the highest score, 0 where none could be read.
    Example:
        ```yaml
        name: best-of-n
        layers:
          - generate: {model: fast, samples: 8, temperature: 0.8}
          - judge: {model: strong, keep: 1}
        ```
    """

    needs = frozenset({"candidates"})
    gives = frozenset({"scores"})
    measures = frozenset({"best_score"})

    keep: int | None = Field(default=None, ge=1, description="How many of the best are handed on; null for all.")

    async def run(self, state: State, context: Context) -> State:
        """Judge all candidates at once; raises `InsufficientCandidates` where there are none."""
        candidates = needed(state, context.node)
        question = quoted(state.question)
        asked = await together(
            self.ask(context, "judge", {"question": question, "candidate": quoted(candidate.text)})
            for candidate in candidates
        )
        notes: list[Note] = []
        judged: list[Candidate] = []
        for candidate, batch in zip(candidates, asked, strict=True):
            notes += failure_notes(context.node, batch.failures, f"judge {candidate.id}")
            score = read_score(batch.samples[0].completion.text) if batch.samples else None
            if batch.samples and score is None:
                notes.append(Note(context.node, "unparsed", f"no score from 1 to 10 in the reply on {candidate.id}"))
            judged.append(candidate.scored(context.node, score or 0.0))
        judged.sort(key=lambda candidate: -candidate.scores[context.node])
        best_score = judged[0].scores[context.node]
        return replace(state, candidates=tuple(judged[: self.keep])).measured(best_score=best_score).noted(*notes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell one call per candidate."""
        inserted = shape.question.plus(shape.candidate_tokens)
        call = self.foretell(estimator, "judge", {"question": "", "candidate": ""}, inserted, shape.candidates)
        return NodePlan((call,), kept(shape, self.keep))
