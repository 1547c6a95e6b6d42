"""Sequential revision: chains of responses, each of which revises the one before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from nodes.ballots import Read, ballots, leading, read_answers, share
from nodes.base import Candidate, Capability, Context, Estimator, Need, NodePlan, Note, Range, Shape, State, exactly
from nodes.calls import candidate_of, failure_notes, nothing_left, together
from nodes.planning import fresh, listing, spread
from nodes.registry import technique
from nodes.revising import Revising
from nodes.scorers.registry import OwnScorer
from nodes.shown import Shown, quoted, shown
from providers.base import Asked
from providers.errors import ProviderError

__all__ = ["SequentialRevision"]

_Chain = tuple[Candidate, ...]


class _Grown(NamedTuple):
    chains: list[_Chain]
    notes: list[Note]
    failures: list[ProviderError]
    """Of first calls."""


class _Turned(NamedTuple):
    chains: list[_Chain]
    notes: list[Note]


class _Voted(NamedTuple):
    candidates: tuple[Candidate, ...]
    agreement: float
    notes: list[Note]


@technique("sequential_revision")
class SequentialRevision(Revising):
    """Draw first responses, let the model revise each one turn by turn, and choose among all turns.

    Chains run side by side and know nothing of one another. A revision sees the last `memory` responses of its chain. A
    chain whose call fails keeps what it has and is asked again in the next turn; where no first response comes, the
    next turn draws again. `vote` hands on the response with the answer given most often over all turns of all chains,
    the latest that gives it; with a scorer each vote weighs its score (brought to 0..1). `best` hands on the response
    with the highest score, `last` the last of each chain, and `all` every response in order of creation, for a node
    behind to choose from.

    When to use it: on questions that the model nearly solves, where a revision mends more than it breaks; how
        many chains and how many turns pay at equal cost depends on the difficulty: easy questions want turns,
        hard ones chains.
    Calls: c·t, and those of the scorer for c·t candidates where there is one.
    Paper: Recursive Introspection: Teaching Language Model Agents How to Self-Improve (arXiv 2407.18219), the vote over
        turns; Scaling LLM Test-Time Compute Optimally can be More Effective than Scaling Model Parameters
        (arXiv 2408.03314), parallel and sequential in a ratio. Their models were trained to revise.
    Symbols: c is `chains`, t is `turns`. `agreement` = weight of the leading answer / weight of all answers;
        `changed` = revisions that state another answer than the response before them / revisions.
    Example:
        ```yaml
        name: revise-and-vote
        layers:
          - sequential_revision: {model: fast, chains: 2, turns: 4, final: vote}
        ```
    """

    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    measures = frozenset({"agreement", "changed"})

    chains: int = Field(default=2, ge=1, le=64, description="Chains side by side.")
    turns: int = Field(default=4, ge=1, le=16, description="Responses of each chain, the first one included.")
    memory: int = Field(default=1, ge=1, le=8, description="How many of its last responses a chain sees.")
    final: Literal["vote", "last", "best", "all"] = Field(default="vote", description="What is handed on.")
    scorer: OwnScorer | None = Field(default=None, description="What `best` goes by, and what weighs votes.")

    @model_validator(mode="after")
    def _best_needs_a_scorer(self) -> Self:
        if self.final == "best" and self.scorer is None:
            raise ValueError("`final: best` needs a `scorer`")
        if self.scorer is not None and self.final not in ("best", "vote"):
            raise ValueError(f"`final: {self.final}` makes no use of a `scorer`; leave it out")
        return self

    def models(self) -> tuple[str, ...]:
        """Name the models that write and those of the scorer."""
        scoring = self.scorer.models() if self.scorer else ()
        return tuple(dict.fromkeys((*super().models(), *scoring)))

    def demands(self) -> frozenset[Need]:
        """What the scorer needs of the state."""
        return self.needs | (self.scorer.demands() - {"candidates"} if self.scorer else frozenset())

    def required_of(self, model: str) -> frozenset[Capability]:
        """What the scorer needs of its models."""
        return self.scorer.required() if self.scorer and model in self.scorer.models() else frozenset()

    async def run(self, state: State, context: Context) -> State:
        """Run the chains; raises `InsufficientCandidates` where every call failed."""
        grown = await self._grow(state, context)
        chains, notes = grown.chains, grown.notes
        if not chains:
            raise nothing_left(context.node, grown.failures)
        # A sample's number counts up over turns, so this is the order of creation.
        made = sorted((c for chain in chains for c in chain), key=lambda c: int(c.id.rpartition(":")[2]))
        read = read_answers(made, context.answer_kind, context.node)
        scores, more = await self._scores(state, made, context)
        voted = self._vote(read, scores, context.node)
        notes += more
        if self.final == "vote":
            handed, notes = voted.candidates, [*notes, *voted.notes]
        elif self.final == "best":
            handed = (max(made, key=lambda candidate: scores[candidate.id]),)
        else:
            handed = tuple(made) if self.final == "all" else tuple(chain[-1] for chain in chains)
        changed = _changed(chains, {candidate.id: candidate.answer for candidate in read.candidates})
        return replace(state, candidates=handed).measured(agreement=voted.agreement, changed=changed).noted(*notes)

    async def _grow(self, state: State, context: Context) -> _Grown:
        grown = _Grown([], [], [])
        number = 1
        for _ in range(self.turns):
            if grown.chains:
                chains, notes = await self._turn(state.question, grown.chains, number, context)
                grown = _Grown(chains, grown.notes + notes, grown.failures)
                number += len(chains)
            else:
                drawn = await self.draw(context, state, self.chains, number=number)
                chains = [(candidate,) for candidate in drawn.candidates]
                grown = _Grown(chains, grown.notes + drawn.notes, [*grown.failures, *drawn.failures])
                number += self.chains
        return grown

    async def _turn(self, question: str, chains: Sequence[_Chain], number: int, context: Context) -> _Turned:
        asked = await together(self._revise(question, chain, context) for chain in chains)
        after: list[_Chain] = []
        notes: list[Note] = []
        for place, (chain, batch) in enumerate(zip(chains, asked, strict=True)):
            made = tuple(
                candidate_of(sample, context.node, number + place, (chain[-1].id,)) for sample in batch.samples
            )
            after.append((*chain, *made))
            notes += failure_notes(context.node, batch.failures, f"revision of {chain[-1].id}")
        return _Turned(after, notes)

    async def _revise(self, question: str, chain: _Chain, context: Context) -> Asked:
        seen = shown(chain[-self.memory :], critiques=False)
        return await self.revise(context, "revise", _variables(quoted(question), seen))

    async def _scores(
        self, state: State, made: Sequence[Candidate], context: Context
    ) -> tuple[Mapping[str, float], list[Note]]:
        if self.scorer is None:
            return {}, []
        found = await self.scorer.score(replace(state, candidates=tuple(made)), made, context)
        worst = self.scorer.worst
        values = [worst if score is None else score.value for score in found.scores]
        return {candidate.id: value for candidate, value in zip(made, values, strict=True)}, found.notes

    def _vote(self, read: Read, scores: Mapping[str, float], node: str) -> _Voted:
        if not read.voters:
            fallback = Note(node, "fallback", "no response states an answer; the last one is handed on")
            return _Voted(read.candidates[-1:], 0.0, [*read.notes, fallback])
        weights, notes = None, list(read.notes)
        if self.scorer is not None:
            weights = {voter.id: self.scorer.unit(scores[voter.id]) for voter in read.voters}
            if not any(weights.values()):
                weights = None
                notes.append(Note(node, "fallback", "no voter has a score above 0; all votes weigh the same"))
        counted = ballots(read.voters, weights)
        winner = leading(counted)
        return _Voted((replace(winner.voters[-1], answer=winner.answer),), share(winner, counted), notes)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell one call for each chain and turn, and the scorer's calls."""
        draws = self.foretell_draws(shape, estimator, exactly(self.chains), self.chains)
        calls, tokens = [draws], draws.completion_tokens
        if self.turns > 1:
            tokens = spread([tokens, estimator.completion(self.revising_model, self.sampling(), "revise")])
            seen = Range(1, min(self.memory, (1 + self.turns) / 2), min(self.memory, self.turns - 1))
            blank, inserted = listing(fresh(shape, seen, tokens), critiques=False)
            later = exactly(self.chains * (self.turns - 1))
            variables = _variables("", blank)
            calls.append(self.foretell_revisions(estimator, "revise", variables, inserted=inserted, calls=later))
        total = exactly(self.chains * self.turns)
        if self.scorer is not None:
            calls += self.scorer.plan(fresh(shape, total, tokens), estimator)
        handed = {"all": total, "last": exactly(self.chains)}.get(self.final, exactly(1))
        return NodePlan(tuple(calls), fresh(shape, handed, tokens))


def _variables(question: str, seen: list[Shown]) -> Mapping[str, object]:
    # The compact style shows a lone response as `refine` does, several as `fuse` does.
    return {"question": question, "candidates": seen, "candidate": seen[-1].text, "critique": None}


def _changed(chains: Sequence[_Chain], answers: Mapping[str, str | None]) -> float:
    steps = [(answers[a.id], answers[b.id]) for chain in chains for a, b in pairwise(chain)]
    return sum(before != after for before, after in steps) / len(steps) if steps else 0.0
