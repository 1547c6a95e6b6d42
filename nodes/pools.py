"""Pools: what was drawn of a question so far, with answers and scores; how easy it looks, what is chosen of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from nodes.ballots import ballots, share
from nodes.base import CallPlan, Candidate, Context, Estimator, Note, Range, Score, Shape, State, exactly
from nodes.planning import fresh, spread
from nodes.scorers.base import Scorer
from nodes.settling import Settled, settle, votes_of
from nodes.spending import Choice, Estimate
from providers.errors import ProviderError

__all__ = ["Pool", "chosen", "ease_of", "foretell_scores", "scored"]


class Pool(NamedTuple):
    """What was drawn of a question so far."""

    candidates: tuple[Candidate, ...] = ()
    """With their answers."""
    scores: Mapping[str, Score] = MappingProxyType({})
    """By id, brought to 0..1; 0 for one that could not be scored, none for one that was not."""
    drawn: int = 0
    """Samples and revisions asked for, those that failed included."""
    notes: tuple[Note, ...] = ()
    failures: tuple[ProviderError, ...] = ()

    def weights(self) -> Mapping[str, float]:
        """Return the scores as numbers."""
        return {name: score.value for name, score in self.scores.items()}


async def scored(pool: Pool, scorer: Scorer, state: State, context: Context) -> Pool:
    """Score the candidates that have no score yet, all at once."""
    unscored = [one for one in pool.candidates if one.id not in pool.scores]
    if not unscored:
        return pool
    found = await scorer.score(replace(state, candidates=tuple(unscored)), unscored, context)
    fresh = {
        one.id: Score(0.0, "none") if score is None else Score(scorer.unit(score.value), score.source)
        for one, score in zip(unscored, found.scores, strict=True)
    }
    return pool._replace(
        scores=MappingProxyType({**pool.scores, **fresh}),
        notes=(*pool.notes, *found.notes),
    )


def foretell_scores(
    scorer: Scorer, shape: Shape, estimator: Estimator, tokens: Range, rounds: Sequence[Range]
) -> tuple[CallPlan, ...]:
    """Plan the scores of candidates that come in rounds, so many in each; a scorer may see those of one together."""
    counted = Counter(rounds)
    planned = [scorer.plan(fresh(shape, count, tokens), estimator) for count in counted]
    times = [exactly(number) for number in counted.values()]
    return tuple(
        replace(
            calls[0],
            calls=_total([call.calls.times(often) for call, often in zip(calls, times, strict=True)]),
            requests=_total([call.requests.times(often) for call, often in zip(calls, times, strict=True)]),
            prompt_tokens=spread([call.prompt_tokens for call in calls]),
        )
        for calls in zip(*planned, strict=True)
    )


def _total(ranges: Sequence[Range]) -> Range:
    return Range(*(math.fsum(bounds) for bounds in zip(*ranges, strict=True)))


def ease_of(pool: Pool, estimate: Estimate) -> float:
    """Estimate the chance that one sample is right, 0..1; 0 of an empty pool. All but `agreement` go by scores."""
    count = len(pool.candidates)
    if not count:
        return 0.0
    if estimate == "agreement":
        return (*votes_of(pool.candidates), 0)[0] / count
    weights = pool.weights()
    values = [weights[candidate.id] for candidate in pool.candidates]
    if estimate == "best":
        return max(values)
    if estimate == "score":
        return math.fsum(values) / count
    return max((ballot.weight for ballot in ballots(pool.candidates, weights)), default=0.0) / count


def chosen(pool: Pool, choose: Choice, node: str) -> Settled:
    """Choose among the candidates, one at least; those of a choice by scores have been scored."""
    if choose == "vote":
        return settle(pool.candidates, node)
    weights = pool.weights()
    voters = [candidate for candidate in pool.candidates if candidate.answer is not None]
    electable = voters if voters and choose == "weighted" else pool.candidates
    if not any(weights[candidate.id] for candidate in electable):
        settled = settle(pool.candidates, node)
        who = "voter" if electable is voters else "response"
        note = Note(node, "fallback", f"no {who} has a score above 0; a plain vote decides")
        return settled._replace(notes=(*settled.notes, note))
    if choose == "weighted":
        return settle(pool.candidates, node, weights=weights)
    best = max(pool.candidates, key=lambda candidate: weights[candidate.id])
    counted = ballots(pool.candidates)
    agreement = next((share(ballot, counted) for ballot in counted if ballot.answer == best.answer), 0.0)
    votes = sum(len(ballot.voters) for ballot in counted)
    return Settled(best.scored(node, pool.scores[best.id]), agreement, votes, ())
