"""Elections: what every vote over extracted answers shares, whatever its votes weigh."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from nodes.ballots import Ballot, Read, ballots, leading, read_answers, share
from nodes.base import AnswerKind, Candidate, Context, Estimator, NodePlan, Note, Shape, State, Technique
from nodes.calls import latest_score, needed
from nodes.planning import kept

__all__ = ["Election", "Ties", "Weighed"]

Ties = Literal["first", "shortest", "score"]


class Weighed(NamedTuple):
    """What each vote weighs."""

    weights: Mapping[str, float] | None
    """At least 0, by the voter's id, for every voter; None: each weighs 1."""
    notes: tuple[Note, ...] = ()
    measures: Mapping[str, float] | None = None
    """Measures of the technique's own, beyond those of every election."""


class Election(Technique):
    """A vote over extracted answers; a subclass says what each vote weighs."""

    needs = frozenset({"candidates"})
    gives = frozenset({"scores"})
    measures = frozenset({"agreement", "answers", "distinct_answers"})
    unheld: ClassVar[Mapping[str, float]] = {}
    """The technique's own measures where nobody gives an answer."""

    ties: Ties = Field(default="first", description="What decides between equals.")
    kind: AnswerKind | None = Field(default=None, description="Kind of answer to extract, if not that of the task.")

    @abstractmethod
    def weigh(self, read: Read, node: str) -> Weighed:
        """Weigh the votes of candidates of which at least one gives an answer."""

    async def run(self, state: State, context: Context) -> State:
        """Count the votes; raises `InsufficientCandidates` where there are no candidates."""
        candidates = needed(state, context.node)
        read = read_answers(candidates, self.kind or context.answer_kind, context.node)
        if not read.voters:
            fallback = Note(context.node, "fallback", "no candidate has an answer; the first is handed on")
            first = read.candidates[0].scored(context.node, 0.0)
            return (
                replace(state, candidates=(first,))
                .measured(agreement=0.0, answers=0, distinct_answers=0, **self.unheld)
                .noted(*read.notes, fallback)
            )
        weighed = self.weigh(read, context.node)
        counted = ballots(read.voters, weighed.weights)
        # Sums that are equal but for rounding (0.1 + 0.2 and 0.3) are a tie, which the rule for ties decides.
        heaviest = leading(counted).weight
        level = [ballot for ballot in counted if math.isclose(ballot.weight, heaviest, rel_tol=1e-12)]
        winner = min(level, key=lambda ballot: self._tie_key(ballot.voters))
        agreement = share(winner, counted)
        chosen = self.speaker(winner, weighed).scored(context.node, agreement)
        return (
            replace(state, candidates=(chosen,))
            .measured(agreement=agreement, answers=len(read.voters), distinct_answers=len(counted))
            .measured(**(weighed.measures or {}))
            .noted(*read.notes, *weighed.notes)
        )

    def speaker(self, winner: Ballot, weighed: Weighed) -> Candidate:
        """Choose the candidate that stands for the winning answer."""
        return min(winner.voters, key=lambda voter: self._tie_key((voter,)))

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
