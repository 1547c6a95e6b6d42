"""Refine: an improved version of every candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nodes.base import Candidate, Context, Estimator, NodePlan, Shape, State
from nodes.calls import failure_notes, made, needed, together
from nodes.planning import fresh, used
from nodes.registry import technique
from nodes.settings import OneModel
from nodes.shown import quoted

__all__ = ["Refine"]


@technique("refine")
class Refine(OneModel):
    """Let a model improve each candidate on its own, with its critique where it has one.

    The improved response takes the candidate's place and has it as its parent. Where a call fails, that candidate is
    gone, and noted: the node hands on improved responses and nothing else.

    When to use it: behind a critique, and in a bounded loop with it; on single responses that are nearly right. Without
        a sound critique a model that corrects itself often makes a right answer wrong.
    Calls: n.
    Paper: Self-Refine: Iterative Refinement with Self-Feedback (arXiv 2303.17651).
    Symbols: n is the number of candidates that come in.
    Example:
        ```yaml
        name: self-refine
        layers:
          - generate: {model: strong}
          - critique: {model: strong}
          - refine: {model: strong}
        ```
    """

    needs = frozenset({"candidates"})
    reads = frozenset({"critiques"})
    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})

    async def run(self, state: State, context: Context) -> State:
        """Ask once per candidate; raises `InsufficientCandidates` where nothing came in or every call failed."""
        candidates = needed(state, context.node)
        asked = await together(
            self.ask(context, "refine", self._variables(state.question, candidate)) for candidate in candidates
        )
        notes = [
            note
            for candidate, batch in zip(candidates, asked, strict=True)
            for note in failure_notes(context.node, batch.failures, f"refine {candidate.id}")
        ]
        refined = made(context.node, ((batch, (c.id,)) for c, batch in zip(candidates, asked, strict=True)))
        return replace(state, candidates=refined).noted(*notes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell one call per candidate."""
        variables = {"question": "", "candidate": "", "critique": "-" if shape.critique_tokens.high else None}
        inserted = shape.question.plus(used(shape, critiques=True))
        call = self.foretell(estimator, "refine", variables, inserted, shape.candidates)
        return NodePlan((call,), fresh(shape, shape.candidates, call.completion_tokens))

    @staticmethod
    def _variables(question: str, candidate: Candidate) -> Mapping[str, object]:
        critique = quoted(candidate.critique) if candidate.critique else None
        return {"question": quoted(question), "candidate": quoted(candidate.text), "critique": critique}
