"""Adaptive best-of-n: sampling goes on until the model finds that it could not do better."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Self

from pydantic import Field, model_validator

from nodes.base import Candidate, Capability, Context, Estimator, Need, NodePlan, Note, Range, Shape, State, exactly
from nodes.calls import nothing_left
from nodes.planning import fresh
from nodes.pools import Pool, foretell_scores, scored
from nodes.pruning import Pruning
from nodes.registry import technique
from nodes.scorers.base import Scorer
from nodes.scorers.registry import OwnScorer
from nodes.scorers.self_evaluation import SelfEvaluation

__all__ = ["AdaptiveBestOfN"]


class _Batch(NamedTuple):
    pool: Pool
    """With what was drawn before."""
    dropped: tuple[Candidate, ...]


@technique("adaptive_best_of_n")
class AdaptiveBestOfN(Pruning):
    """Draw responses batch by batch, score each, stop as soon as one is good enough, and hand on the best.

    The score is the self-evaluation of the answering model, the probability that it would not do better if it started
    over, or that of any other `scorer` (brought to 0..1). With `anneal` sample k is drawn at temperature
    1 - 2^-(k - 1): the first is greedy, later ones vary more and more. With `prune_after` each response of a batch is
    first written up to that many tokens and scored as it stands; the best `prune_keep` of the batch are written to
    their end and scored again, the others are dropped (which asks for `prefix_continuation`). What is dropped was paid
    for and counts in the measures, and is never handed on. A response that could not be scored counts as 0.

    When to use it: best-of-n where most questions need few samples; the surer the scorer is, the more is saved. With
        pruning, for long responses whose beginnings tell good from bad.
    Calls: d, in batches up to k, with a score each; with pruning the drafts, their scores, and one more call and score
        for each that is continued.
    Paper: Adaptive Inference-Time Compute: LLMs Can Predict if They Can Do Better, Even Mid-Generation (arXiv
        2410.02725). Its model is trained to evaluate itself; the untrained question here is weaker.
    Symbols: k is `samples`, the cap; d is `drawn`; `saved` = k - d; `best_score` = the score of the response that is
        handed on, 0..1; `pruned` = responses dropped unfinished; `pruned_tokens` = tokens that these took.
    Example:
        ```yaml
        name: adaptive-best-of-n
        layers:
          - adaptive_best_of_n: {model: fast, samples: 16, batch: 2, threshold: 0.9, anneal: true}
        ```
    """

    gives = frozenset({"candidates", "scores"})
    drops = frozenset({"critiques", "verdicts"})
    composes = True
    measures = frozenset({"best_score", "drawn", "pruned", "pruned_tokens", "saved"})

    samples: int = Field(default=16, ge=1, le=10_000, description="The cap: most responses that are begun.")
    batch: int = Field(default=1, ge=1, description="Responses that are begun at a time, before it is asked again.")
    threshold: float = Field(default=0.9, ge=0, le=1, description="The score, 0..1, that ends it.")
    scorer: OwnScorer | None = Field(default=None, description="What gives scores; null for the self-evaluation.")

    @model_validator(mode="after")
    def _something_to_prune(self) -> Self:
        size = min(self.batch, self.samples)
        if self.prune_after is not None and self.kept_of(size) == size:
            keep = f"prune_keep: {self.prune_keep:g}"
            raise ValueError(f"prune_after drops nothing of a batch of {size} with {keep}; raise batch or lower it")
        return self

    @property
    def scoring(self) -> Scorer:
        """What gives scores."""
        return SelfEvaluation(model=self.model) if self.scorer is None else self.scorer

    def models(self) -> tuple[str, ...]:
        """Name the model that answers and those of the scorer."""
        return tuple(dict.fromkeys((self.model, *self.scoring.models())))

    def demands(self) -> frozenset[Need]:
        """What the scorer needs of the state."""
        return self.needs | (self.scoring.demands() - {"candidates"})

    def required_of(self, model: str) -> frozenset[Capability]:
        """What writing on needs of the model that answers, and the scorer of its own."""
        writing = self.required() if model == self.model else frozenset[Capability]()
        scoring = self.scoring.required() if model in self.scoring.models() else frozenset[Capability]()
        return writing | scoring

    async def run(self, state: State, context: Context) -> State:
        """Draw, score and stop; raises `InsufficientCandidates` where every call failed."""
        pool = Pool()
        dropped: list[Candidate] = []
        while pool.drawn < self.samples and not self._good_enough(pool):
            pool, more = await self._batch(pool, state, context)
            dropped += more
        if not pool.candidates:
            raise nothing_left(context.node, pool.failures)
        notes = list(pool.notes)
        best = max(pool.candidates, key=lambda candidate: pool.scores[candidate.id].value)
        if not any(pool.weights().values()):
            notes.append(Note(context.node, "fallback", f"no response has a score above 0; {best.id} is handed on"))
        score = pool.scores[best.id]
        return (
            replace(state, candidates=(best.scored(context.node, score),))
            .measured(
                best_score=score.value,
                drawn=pool.drawn,
                pruned=len(dropped),
                pruned_tokens=sum(draft.completion_tokens for draft in dropped),
                saved=self.samples - pool.drawn,
            )
            .noted(*notes)
        )

    def _good_enough(self, pool: Pool) -> bool:
        return any(score.value >= self.threshold for score in pool.scores.values())

    async def _batch(self, pool: Pool, state: State, context: Context) -> _Batch:
        size = min(self.batch, self.samples - pool.drawn)
        drawn = await self.begin(context, state, size, pool.drawn)
        begun = Pool(drawn.candidates, drawn=size, notes=tuple(drawn.notes), failures=drawn.failures)
        begun = await scored(begun, self.scoring, state, context)
        if self.prune_after is None:
            return _Batch(_joined(pool, begun), ())
        values = [begun.scores[draft.id].value for draft in begun.candidates]
        whole, going_on, dropped = self.sorted_out(begun.candidates, values)
        rest = await self.finish(context, state, going_on)
        ended = Pool(
            (*whole, *rest.candidates),
            {one.id: begun.scores[one.id] for one in whole},
            drawn=size,
            notes=(*begun.notes, *rest.notes),
            failures=(*begun.failures, *rest.failures),
        )
        return _Batch(_joined(pool, await scored(ended, self.scoring, state, context)), dropped)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell from one batch up to the cap, and what is written on of it."""
        least = min(self.batch, self.samples)
        begun = Range(least, least + (self.samples - least) * 0.4, self.samples)
        calls = [self.foretell_begun(shape, estimator, begun, self.batch)]
        tokens = calls[0].completion_tokens
        rounds = [exactly(least), *(Range(0, size * 0.4, size) for size in _sizes(self.samples, self.batch)[1:])]
        if self.prune_after is not None:
            kept = [Range(0, size.likely * self.prune_keep, self.kept_of(int(size.high))) for size in rounds]
            going_on = Range(0, begun.likely * self.prune_keep, sum(most for *_, most in kept))
            calls.append(self.foretell_rest(shape, estimator, tokens, going_on))
            rest = calls[1].completion_tokens
            tokens, rounds = Range(tokens.low, rest.likely, tokens.high + rest.high), rounds + kept
        calls += foretell_scores(self.scoring, shape, estimator, tokens, rounds)
        return NodePlan(tuple(calls), fresh(shape, exactly(1), tokens))


def _joined(before: Pool, batch: Pool) -> Pool:
    return Pool(
        (*before.candidates, *batch.candidates),
        {**before.scores, **batch.scores},
        before.drawn + batch.drawn,
        (*before.notes, *batch.notes),
        (*before.failures, *batch.failures),
    )


def _sizes(samples: int, batch: int) -> list[int]:
    return [min(batch, samples - begun) for begun in range(0, samples, batch)]
