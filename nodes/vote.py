"""Vote: self-consistency on the extracted answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

from pydantic import Field

from nodes.answers import extract
from nodes.base import AnswerKind, Candidate, Context, Estimator, NodePlan, Note, Shape, State, Technique
from nodes.calls import latest_score, needed
from nodes.planning import kept
from nodes.registry import technique

__all__ = ["Vote"]


class _Ballot(NamedTuple):
    answer: str
    voters: tuple[Candidate, ...]
    """The candidates that gave this answer, in their order."""
    weight: float


@technique("vote")
class Vote(Technique):
    """Choose the answer that most candidates give, and hand on one candidate that gives it.

    The answer is taken out of each candidate and brought to its normal form, as the task's kind of answer asks (or
    `kind`). A candidate without a readable answer does not vote and is noted. Where no candidate has one, the first
    candidate is handed on, noted as a fallback, with an agreement of 0. The winner carries its share of the votes as
    its score. The rule for ties decides between answers with equally many votes, and also which of the winner's
    candidates stands for it: the `first` in order, the `shortest`, or the one with the highest latest `score` (then the
    first).

    When to use it: where answers are short and comparable (numbers, choices); it costs no call, and is the yardstick
        that every dearer way of choosing has to beat. `agreement` says how sure the vote is, for a condition behind it.
    Calls: 0.
    Paper: Self-Consistency Improves Chain of Thought Reasoning in Language Models (arXiv 2203.11171).
    Symbols: `agreement` = votes of the winner / all votes; `answers` = candidates that voted; `distinct_answers` =
        answers that got a vote. With `weights: score` a vote weighs the candidate's latest score (at least 0), not 1.
    Example:
        ```yaml
        name: self-consistency
        layers:
          - generate: {model: fast, samples: 8, temperature: 0.8}
          - vote: {ties: shortest}
        ```
    """

    needs = frozenset({"candidates"})
    gives = frozenset({"scores"})
    measures = frozenset({"agreement", "answers", "distinct_answers"})

    ties: Literal["first", "shortest", "score"] = Field(default="first", description="What decides between equals.")
    weights: Literal["none", "score"] = Field(default="none", description="What a vote weighs: 1, or the latest score.")
    kind: AnswerKind | None = Field(default=None, description="Kind of answer to extract, if not that of the task.")

    async def run(self, state: State, context: Context) -> State:
        """Count the votes; raises `InsufficientCandidates` where there are no candidates."""
        candidates = needed(state, context.node)
        kind = self.kind or context.answer_kind
        candidates = tuple(replace(candidate, answer=extract(candidate.text, kind)) for candidate in candidates)
        silent = [candidate.id for candidate in candidates if candidate.answer is None]
        notes = [Note(context.node, "unparsed", f"no answer in {', '.join(silent)}")] if silent else []
        if len(silent) == len(candidates):
            notes.append(Note(context.node, "fallback", "no candidate has an answer; the first is handed on"))
            chosen, share, distinct = candidates[0], 0.0, 0
        else:
            ballots, more_notes = self._ballots(candidates, context.node)
            winner = min(ballots, key=lambda ballot: (-ballot.weight, self._tie_key(ballot.voters)))
            chosen = min(winner.voters, key=lambda voter: self._tie_key((voter,)))
            share = winner.weight / math.fsum(ballot.weight for ballot in ballots)
            distinct, notes = len(ballots), notes + more_notes
        return (
            replace(state, candidates=(chosen.scored(context.node, share),))
            .measured(agreement=share, answers=len(candidates) - len(silent), distinct_answers=distinct)
            .noted(*notes)
        )

    def _ballots(self, candidates: tuple[Candidate, ...], node: str) -> tuple[list[_Ballot], list[Note]]:
        by_answer: dict[str, list[Candidate]] = {}
        for candidate in candidates:
            if candidate.answer is not None:
                by_answer.setdefault(candidate.answer, []).append(candidate)
        if self.weights == "score":
            weights = {c.id: max(0.0, latest_score(c) or 0.0) for c in candidates}
            ballots = _count(by_answer, weights)
            if any(ballot.weight > 0 for ballot in ballots):
                return ballots, []
        notes = [Note(node, "fallback", "no voter has a score above 0; all votes weigh the same")]
        return _count(by_answer, {c.id: 1.0 for c in candidates}), notes if self.weights == "score" else []

    def _tie_key(self, voters: tuple[Candidate, ...]) -> float:
        if self.ties == "shortest":
            return min(len(voter.text) for voter in voters)
        if self.ties == "score":
            return min(math.inf if (score := latest_score(voter)) is None else -score for voter in voters)
        # `min` keeps the first of equals, and ballots and voters stand in the order of the candidates.
        return 0

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell no call and one candidate."""
        return NodePlan((), kept(shape, 1))


def _count(by_answer: Mapping[str, list[Candidate]], weights: Mapping[str, float]) -> list[_Ballot]:
    return [
        _Ballot(answer, tuple(voters), math.fsum(weights[voter.id] for voter in voters))
        for answer, voters in by_answer.items()
    ]
