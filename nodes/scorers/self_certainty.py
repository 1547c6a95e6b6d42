"""Self-certainty: how far the model's own distributions over the next token were from uniform."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field

from nodes.base import CallPlan, Candidate, Context, Estimator, Note, Score, Shape, State
from nodes.scorers.base import Scored, Scorer
from nodes.scorers.registry import scorer
from providers.base import TokenLogprob

__all__ = ["SelfCertainty", "certainty"]


@scorer("self_certainty")
class SelfCertainty(Scorer):
    """Score a candidate by the mean divergence of the uniform distribution from the model's own, over its tokens.

    The definition is SC = -(1/(n·V)) Σ_i Σ_j ln(V·p(j|i)), at least 0. An endpoint gives the k likeliest tokens of each
    position only, so the rest of the probability is taken as spread evenly over the other V - k tokens:
    SC = mean of -(1/V)·[Σ_top ln p + (V - k)·ln((1 - Σ_top p)/(V - k))] - ln V. The chosen token counts among the known
    ones where it is not one of the k. By the inequality of the arithmetic and the geometric mean this is the least
    self-certainty that the known probabilities allow. The more of the mass the top tokens hold, the more the result
    rests on the small rest alone, so a larger k tells more.

    `vocabulary` is V. Where it is too large or too small by a factor, all scores move by nearly the same amount, so the
    order of the candidates hardly changes, which is all that `borda_vote` and `keep` look at (768 is that of the
    embedded models). Rounding leaves a rest of at least 1e-9.

    When to use it: for best-of-n and Borda votes without any judge, on open tasks too; candidates must be generated
        with `top_logprobs: k`, k at least 1, better 20. Scores of different models cannot be compared.
    Calls: 0.
    Paper: Scalable Best-of-N Selection for Large Language Models via Self-Certainty (arXiv 2502.18581).
    Symbols: n is the number of tokens, V the size of the vocabulary, k the number of likeliest tokens that are known,
        p(j|i) the probability of token j at position i.
    Example:
        ```yaml
        name: best-of-n-self-certainty
        layers:
          - generate: {model: fast, samples: 8, temperature: 0.8, top_logprobs: 20}
          - score: {scorer: self_certainty, keep: 1}
        ```
    """

    vocabulary: int = Field(default=128_000, ge=2, description="Size of the model's vocabulary, V.")

    def reads_logprobs(self) -> bool:
        """It reads nothing else."""
        return True

    async def score(self, state: State, candidates: Sequence[Candidate], context: Context) -> Scored:
        """Read the likeliest tokens of each candidate."""
        scores = tuple(self._score(candidate) for candidate in candidates)
        silent = [c.id for c, score in zip(candidates, scores, strict=True) if score is None]
        detail = f"no likeliest tokens in {', '.join(silent)} (generate with top_logprobs: 1 or more)"
        return Scored(scores, [Note(context.node, "unparsed", detail)] if silent else [])

    def _score(self, candidate: Candidate) -> Score | None:
        positions = [certainty(token, self.vocabulary) for token in candidate.logprobs or () if token.top]
        return Score(math.fsum(positions) / len(positions), "self_certainty") if positions else None

    def plan(self, shape: Shape, estimator: Estimator) -> tuple[CallPlan, ...]:
        """Foretell no call."""
        return ()


_LEAST_REST = 1e-9
_LEAST_LOG = -100.0
"""An endpoint may write minus infinity, or -9999, for a token of no probability."""


def certainty(token: TokenLogprob, vocabulary: int) -> float:
    """Return the self-certainty at one position, in nats, at least 0."""
    known = dict(token.top)
    known[token.token] = token.logprob
    logs = sorted((max(_LEAST_LOG, log) for log in known.values()), reverse=True)[:vocabulary]
    others = vocabulary - len(logs)
    total = math.fsum(logs)
    if others:
        rest = max(_LEAST_REST, 1.0 - math.fsum(math.exp(log) for log in logs))
        total += others * math.log(rest / others)
    return max(0.0, -total / vocabulary - math.log(vocabulary))
