"""Verify: only candidates that are found correct go on."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from pydantic import Field

from nodes.base import Candidate, Context, Estimator, NodePlan, Note, Shape, State
from nodes.calls import failure_notes, needed, together
from nodes.choosing import OnNone, passing, surviving
from nodes.ordinals import ordinals
from nodes.parsing import read_verdict
from nodes.registry import technique
from nodes.settings import OneModel
from nodes.shown import quoted

__all__ = ["Verify"]


class _Verified(NamedTuple):
    candidate: Candidate
    notes: list[Note]


@technique("verify")
class Verify(OneModel):
    """Examine each candidate in two calls, reasoning and then a verdict, and hand on those found correct.

    A verdict that cannot be read, or whose calls failed, is no pass: it is None and noted. What happens where no
    candidate passes is a setting: `all` lets all through (as the paper's code does), `best` the one with the highest
    latest score (without scores the first), and `fail` ends the architecture for this question.

    When to use it: where a model tells right from wrong better than it solves; in front of a fuse or a vote. It is
        dear: two calls for every candidate.
    Calls: 2·n.
    Paper: Archon (arXiv 2409.15254), component "verifier".
    Symbols: n is the number of candidates that come in; `verified_fraction` = candidates found correct / n.
    Example:
        ```yaml
        name: verify-then-fuse
        layers:
          - generate: {model: fast, samples: 6, temperature: 0.8}
          - verify: {model: strong, on_none: all}
          - fuse: {model: strong}
        ```
    """

    needs = frozenset({"candidates"})
    gives = frozenset({"verdicts"})
    measures = frozenset({"verified_fraction"})

    on_none: OnNone = Field(default="all", description="What goes on where no candidate is found correct.")

    async def run(self, state: State, context: Context) -> State:
        """Verify all candidates at once; raises `InsufficientCandidates` where nothing came in, or by `on_none`."""
        candidates = needed(state, context.node)
        question = quoted(state.question)
        numbers = ordinals([candidate.text for candidate in candidates])
        verified = await together(
            self._verify(question, candidate, ordinal, context)
            for candidate, ordinal in zip(candidates, numbers, strict=True)
        )
        judged = [candidate for candidate, _ in verified]
        notes = [note for _, found in verified for note in found]
        passed = [candidate.verdict is True for candidate in judged]
        survivors, notes = passing(
            judged, passed, on_none=self.on_none, node=context.node, what="was found correct", notes=notes
        )
        fraction = sum(passed) / len(passed)
        return replace(state, candidates=survivors).measured(verified_fraction=fraction).noted(*notes)

    async def _verify(self, question: str, candidate: Candidate, ordinal: int, context: Context) -> _Verified:
        variables = {"question": question, "candidate": quoted(candidate.text)}
        reasoned = await self.ask(context, "verify_reason", variables)
        notes = failure_notes(context.node, reasoned.failures, f"reasoning on {candidate.id}")
        if not reasoned.samples:
            return _Verified(replace(candidate, verdict=None, verdict_reason=None), notes)
        reasoning = reasoned.samples[0].completion.text
        # Second calls start in the order in which first calls end, so their sample index must not depend on it.
        asked = await self.ask(context, "verify_verdict", {**variables, "reasoning": quoted(reasoning)}, first=ordinal)
        notes += failure_notes(context.node, asked.failures, f"verdict on {candidate.id}")
        verdict = read_verdict(asked.samples[0].completion.text) if asked.samples else None
        if asked.samples and verdict is None:
            notes.append(Note(context.node, "unparsed", f"no verdict in the reply on {candidate.id}; it does not pass"))
        return _Verified(replace(candidate, verdict=verdict, verdict_reason=reasoning), notes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell two calls per candidate."""
        variables = {"question": "", "candidate": "", "reasoning": ""}
        inserted = shape.question.plus(shape.candidate_tokens)
        reason = self.foretell(estimator, "verify_reason", variables, inserted, shape.candidates)
        inserted = inserted.plus(reason.completion_tokens)
        verdict = self.foretell(estimator, "verify_verdict", variables, inserted, shape.candidates)
        return NodePlan((reason, verdict), shape._replace(candidates=surviving(shape.candidates), verdicts=True))
