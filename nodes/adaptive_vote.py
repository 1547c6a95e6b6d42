"""Adaptive vote: self-consistency that stops as soon as the leading answer is sure enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Literal

from pydantic import Field, model_validator

from nodes.base import Candidate, Context, Estimator, NodePlan, Shape, State, exactly
from nodes.planning import fresh
from nodes.registry import technique
from nodes.settling import Ties, settle, votes_of
from nodes.stopping import beta_confidence, concentration, decided, dirichlet_confidence
from nodes.windows import Windowed

__all__ = ["AdaptiveVote"]


@technique("adaptive_vote")
class AdaptiveVote(Windowed):
    """Draw samples a few at a time, stop when the leading answer is sure to stay the majority, and hand on its best.

    After each window the votes are counted and the rule is asked. `beta` compares the first answer with the second:
    the probability that the first is truly the more frequent, under a uniform prior. `dirichlet` compares it with all
    others and with one that was not seen yet; both stop at `threshold`. `entropy` stops where 1 − H/ln n of the n
    votes reaches it. `unanimous` stops where a whole window gives one answer, whatever the threshold. Under every rule
    the drawing also ends where the samples left could not turn the lead. The samples are those that a plain `generate`
    of the same settings draws, in the same order, so that the answer is that of the full vote wherever the leader
    stays. The threshold is a posterior probability: over questions with two answers whose shares are uniform, at most
    1 − threshold of the answers that the rule ends early are not the more frequent one. With four answers, uniform as
    well, 0.9 and 24 samples, it is 12 % of those by `beta`, which looks at two answers alone, and 10 % by `dirichlet`
    (simulated); that the vote over all samples comes out otherwise is rarer under both (3 %). An answer that could no
    longer be turned is that of the full vote, however sure that is.

    When to use it: in place of generate and vote, wherever questions differ in difficulty; most of the calls go to
        the questions that need them. Windows of one sample save most calls, larger ones save time.
    Calls: d, from the fewest that can convince the rule up to k.
    Paper: Let's Sample Step by Step: Adaptive-Consistency for Efficient Reasoning and Coding with LLMs (arXiv
        2305.11860), rules `beta`, `dirichlet`, `entropy`; Escape Sky-high Cost: Early-stopping Self-Consistency for
        Multi-step Reasoning (arXiv 2401.10480), rule `unanimous`.
    Symbols: k is `samples`, the cap; d is `drawn`; `saved` = k − d; `agreement` = votes of the winner / all votes;
        `answers` = samples that voted.
    Example:
        ```yaml
        name: adaptive-self-consistency
        layers:
          - adaptive_vote: {model: fast, samples: 16, window: 2, threshold: 0.95, temperature: 0.8}
        ```
    """

    gives = frozenset({"candidates", "scores"})
    drops = frozenset({"critiques", "verdicts"})
    measures = frozenset({"agreement", "answers", "drawn", "saved"})

    rule: Literal["beta", "dirichlet", "entropy", "unanimous"] = Field(
        default="beta",
        description="What is asked of the votes: first against second, against all, entropy, one window.",
    )
    threshold: float = Field(default=0.95, ge=0.5, le=1, description="How sure the leader must be.")
    ties: Ties = Field(default="first", description="What decides between equals at the end.")

    @model_validator(mode="after")
    def _window_of_two(self) -> AdaptiveVote:
        if self.rule == "unanimous" and self.window < 2:
            raise ValueError("rule: unanimous needs a window of 2 or more; one sample always agrees with itself")
        return self

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
                saved=self.samples - found.drawn,
            )
            .noted(*found.notes, *settled.notes)
        )

    def _enough(self, candidates: Sequence[Candidate], left: int) -> bool:
        votes = votes_of(candidates)
        if decided(votes, left):
            return True
        if self.rule == "unanimous":
            latest = [candidate.answer for candidate in candidates[-self.window :]]
            return len(latest) == self.window and None not in latest and len(set(latest)) == 1
        measure = {"beta": beta_confidence, "dirichlet": dirichlet_confidence, "entropy": concentration}[self.rule]
        return bool(votes) and measure(votes) >= self.threshold

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell from the fewest samples that may do up to the cap."""
        call = self.foretell_windows(shape, estimator, self._fewest())
        return NodePlan((call,), fresh(shape, exactly(1), call.completion_tokens))

    def _fewest(self) -> int:
        """Return how many samples are drawn where all of them give one answer."""
        for drawn in count(self.window, self.window):
            agreeing = [Candidate(id="", text="", node="", model=None, answer="same")] * drawn
            if drawn >= self.samples or self._enough(agreeing, self.samples - drawn):
                return min(drawn, self.samples)
        raise AssertionError("unreachable")
