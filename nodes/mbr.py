"""MBR: the candidate with the least Bayes risk, which is the one that the others agree with most."""

from __future__ import annotations

from pydantic import Field

from nodes.base import Context, Estimator, NodePlan, Range, Shape, State
from nodes.bayes_risk import BayesRisk, chosen
from nodes.calls import needed
from nodes.planning import kept
from nodes.registry import technique

__all__ = ["MBR"]


@technique("mbr")
class MBR(BayesRisk):
    """Choose the candidate whose mean utility against all the others is greatest.

    The candidates stand both for what may be chosen and for what might be right. A candidate's score is the mean of
    u(candidate, reference) over all other candidates; the best comes first, equals keep their order. Utilities, all in
    0..1: `answer` is 1 where both give the same answer (then this is a majority vote); `token_f1` is the F1 of the
    words in common, `rouge_l` that of the longest common subsequence of words, `chrf` that of character n-grams (for
    short texts and languages without spaces); `judge` asks a model how far two responses agree, from 1 to 10. What the
    judge does not tell, by a failed call or an unreadable reply, is left out of the mean and noted; a candidate of
    which nothing is told gets 0. A lone candidate goes on with the score 1.

    When to use it: where a vote cannot count answers: long texts, translations, summaries. It finds the typical
        candidate, so it needs a pool in which the typical one is good. The embedded models cannot play the judge's
        part here; the other utilities need no model.
    Calls: 0, or n·(n - 1) with `utility: judge`.
    Paper: It's MBR All the Way Down: Modern Generation Techniques Through the Lens of Minimum Bayes Risk (arXiv
        2310.01387); When Life Gives You Samples: The Benefits of Scaling up Inference Compute for Multilingual LLMs
        (arXiv 2506.20544).
    Symbols: n is the number of candidates that come in, u the `utility`; `expected_utility` is the greatest mean.
    Example:
        ```yaml
        name: consensus-text
        layers:
          - generate: {model: fast, samples: 8, temperature: 0.8}
          - mbr: {utility: chrf}
        ```
    """

    needs = frozenset({"candidates"})
    gives = frozenset({"scores"})
    measures = frozenset({"expected_utility"})

    keep: int | None = Field(default=1, ge=1, description="How many of the best are handed on; null for all.")

    async def run(self, state: State, context: Context) -> State:
        """Compare all candidates; raises `InsufficientCandidates` where there are none."""
        candidates = needed(state, context.node)
        utilities = await self.compare(state, candidates, [c.text for c in candidates], context)
        return chosen(state, candidates, utilities, self.keep, context.node)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell no call, or one for every ordered pair."""
        pairs = Range(*(count * max(0, count - 1) for count in shape.candidates))
        if self.judge is None or not pairs.high:
            return NodePlan((), kept(shape, self.keep))
        call = self.foretell_comparisons(shape, estimator, shape.candidate_tokens, pairs)
        return NodePlan((call,), kept(shape, self.keep))
