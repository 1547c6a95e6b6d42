"""Saturation vote: as many samples as still pay, by a model of what a further one gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from nodes.base import Candidate, Context, Estimator, NodePlan, Shape, State, exactly
from nodes.planning import fresh
from nodes.registry import technique
from nodes.settling import Ties, settle, votes_of
from nodes.stopping import saturation
from nodes.windows import Windowed

__all__ = ["SaturationVote"]


@technique("saturation_vote")
class SaturationVote(Windowed):
    """Draw samples until a further one is expected to gain less than epsilon, and vote among them.

    The chance of one sample, p, is estimated by the share of the leading answer among all that were drawn (one that
    states no answer counts against it). The chance that one of N samples is right is taken as F(N) = f_max·(1 −
    (1 − p)^N), so sample N + 1 gains f_max·p·(1 − p)^N; the drawing stops at N* = ⌈ln(ε/(f_max·p)) / ln(1 − p)⌉. The
    first window gives the first estimate, every further one a better one. Where p is so small that not even the first
    sample gains epsilon, N* is 0 and the question is given up as hopeless, with what there is. A sample that failed is
    none of the N, so others are drawn in its place.

    When to use it: where a budget for many questions should go where it moves something: sure questions end early, and
        so do hopeless ones, on which `adaptive_vote` would spend the whole cap. The model speaks of some sample being
        right; a vote gains less, so take epsilon as a dial and not as a promise.
    Calls: d, from one window (w) up to k; d is the first multiple of w from N* on where no call fails.
    Paper: Scaling over Scaling: Exploring Test-Time Scaling Plateau in Large Reasoning Models (arXiv 2505.20522),
        the parallel form; the estimate of p by agreement is ours.
    Symbols: k is `samples`; w is `window`; ε is `epsilon`; p is estimated by `agreement`'s counts; `saturation` = the
        last N*, at most k; d is `drawn`; `saved` = k − d; `agreement` = votes of the winner / all votes; `answers` =
        samples that voted.
    Example:
        ```yaml
        name: saturating-self-consistency
        layers:
          - saturation_vote: {model: fast, samples: 16, window: 4, epsilon: 0.02, temperature: 0.8}
        ```
    """

    gives = frozenset({"candidates", "scores"})
    drops = frozenset({"critiques", "verdicts"})
    measures = frozenset({"agreement", "answers", "drawn", "saturation", "saved"})

    window: int = Field(default=4, ge=1, description="Samples of the first estimate, and between two estimates.")
    epsilon: float = Field(default=0.02, gt=0, lt=1, description="The gain of a further sample that no longer pays.")
    f_max: float = Field(default=1.0, gt=0, le=1, description="The ceiling of the chance that some sample is right.")
    ties: Ties = Field(default="first", description="What decides between equals.")

    async def run(self, state: State, context: Context) -> State:
        """Draw and vote; raises `InsufficientCandidates` where every call failed."""
        found = await self.draw_until(context, state, self._enough)
        settled = settle(found.candidates, context.node, ties=self.ties)
        return (
            replace(state, candidates=(settled.candidate,))
            .measured(
                agreement=settled.agreement,
                answers=settled.answers,
                drawn=found.drawn,
                saturation=min(self.samples, self._saturation(found.candidates)),
                saved=self.samples - found.drawn,
            )
            .noted(*found.notes, *settled.notes)
        )

    def _enough(self, candidates: Sequence[Candidate], left: int) -> bool:
        return bool(candidates) and len(candidates) >= self._saturation(candidates)

    def _saturation(self, candidates: Sequence[Candidate]) -> float:
        leading = max(votes_of(candidates), default=0)
        return saturation(leading / len(candidates), self.epsilon, self.f_max)

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell from one window up to the cap."""
        call = self.foretell_windows(shape, estimator, self.window)
        return NodePlan((call,), fresh(shape, exactly(1), call.completion_tokens))
