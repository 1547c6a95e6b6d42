"""Resample until verified: one response after the other, until a verifier lets one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from db.errors import InsufficientCandidates
from nodes.base import (
    CallPlan,
    Candidate,
    Capability,
    Context,
    Estimator,
    Need,
    NodePlan,
    Note,
    Range,
    Shape,
    State,
    exactly,
)
from nodes.calls import nothing_left
from nodes.choosing import best
from nodes.drawing import Drawing
from nodes.planning import fresh
from nodes.registry import technique
from nodes.resample_cap import Rates, Stakes, best_cap, expected_draws
from nodes.scorers.registry import OwnScorer
from providers.errors import ProviderError

__all__ = ["ResampleUntilVerified"]


class _Tries(NamedTuple):
    candidates: tuple[Candidate, ...] = ()
    """Each with its score and verdict, in order of creation."""
    notes: tuple[Note, ...] = ()
    failures: tuple[ProviderError, ...] = ()
    drawn: int = 0

    @property
    def passed(self) -> Candidate | None:
        """The one that passed, which is the last one."""
        return self.candidates[-1] if self.candidates and self.candidates[-1].verdict else None


@technique("resample_until_verified")
class ResampleUntilVerified(Drawing):
    """Draw a response, have it verified, hand it on if it passes, else draw the next one, at most K times.

    A response passes where its score reaches `threshold`; one that could not be scored does not pass, has no verdict
    and gets the scorer's worst value. The verdict of `verify` in two calls is the scorer `genrm` with one chain. K is
    `samples` or, with `rates`, what maximises the expected utility of drawing on, if that is less: the chances that a
    draw passes and is right, or passes and is wrong, for each kind of questions, are weighed by `benefit`, `penalty`
    and `cost` (`nodes.resample_cap`; `evals.verifier_rates` estimates the chances from recorded outcomes). Rates by
    which not even one draw pays are refused. Where none passes, `fail` ends the architecture for this question without
    an answer, which evaluations count as failed, not as answered. `best` hands on the response with the highest score.
    `abstain` hands on the same, since nothing is ever made up, but sets the measure `abstained` to 1, by which the
    rest of the architecture can tell it apart (`when: {abstained: {at_least: 1}}`) and ask a stronger model. Either
    way its verdict is not true.

    When to use it: with a verifier that seldom lets wrong responses pass, such as unit tests or a check by rules.
        Every draw is another chance for a wrong one to pass, so that accuracy has a limit that no number of draws
        moves, p_tp / (p_tp + p_fp), and with weak models a low one.
    Calls: d, and those of the scorer for d candidates, with 1 ≤ d ≤ K.
    Paper: Inference Scaling fLaws: The Limits of LLM Resampling with Imperfect Verifiers (arXiv 2411.17501).
    Symbols: K is `cap`, d is `drawn`; `p_tp`, `p_fp` are the chances; `abstained` = 1 where none passed under
        `on_none: abstain`, else 0.
    Example:
        ```yaml
        name: draw-until-right
        layers:
          - resample_until_verified:
              model: fast
              samples: 8
              scorer: {use: genrm, model: strong, chains: 1}
              rates: [{p_tp: 0.6, p_fp: 0.02, weight: 3}, {p_tp: 0.05, p_fp: 0.1}]
              penalty: 1
              on_none: abstain
        ```
    """

    gives = frozenset({"candidates", "scores", "verdicts"})
    drops = frozenset({"critiques"})
    measures = frozenset({"abstained", "cap", "drawn"})
    vital = frozenset({"generate"})

    samples: int = Field(default=8, ge=1, le=1024, description="Most draws.")
    scorer: OwnScorer = Field(description="The verifier: a scorer's name, or a mapping with `use` and its settings.")
    threshold: float | None = Field(
        default=None, allow_inf_nan=False, description="The score that passes; null for 0.5 of a probability."
    )
    rates: tuple[Rates, ...] | None = Field(
        default=None, min_length=1, max_length=50, description="How a draw fares on each kind of questions."
    )
    benefit: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="Of a right response that passes.")
    penalty: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="Of a wrong response that passes.")
    cost: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="Of one draw with its verification.")
    on_none: Literal["abstain", "best", "fail"] = Field(default="abstain", description="What if none passes.")

    @model_validator(mode="after")
    def _can_pass_and_pay(self) -> Self:
        if self.threshold is None and not self.scorer.is_probability:
            raise ValueError("the scorer's score is no probability; set threshold, the score that passes")
        if self.rates is None and (self.penalty or self.cost or self.benefit != 1):
            raise ValueError("benefit, penalty and cost weigh `rates`; give these, or leave the others out")
        if self.cap == 0:
            raise ValueError("by these rates not even one draw pays; lower penalty or cost, or take a better verifier")
        return self

    @property
    def cap(self) -> int:
        """Most draws by the settings, K."""
        return self.samples if self.rates is None else best_cap(self.rates, self.samples, self._stakes)

    @property
    def _stakes(self) -> Stakes:
        return Stakes(self.benefit, self.penalty, self.cost)

    def models(self) -> tuple[str, ...]:
        """Name the model that writes and those of the scorer."""
        return tuple(dict.fromkeys((self.model, *self.scorer.models())))

    def demands(self) -> frozenset[Need]:
        """What the scorer needs of the state."""
        return self.scorer.demands() - {"candidates"}

    def required_of(self, model: str) -> frozenset[Capability]:
        """What the scorer needs of its models."""
        return self.scorer.required() if model in self.scorer.models() else frozenset()

    async def run(self, state: State, context: Context) -> State:
        """Draw and verify; raises `InsufficientCandidates` where every draw failed, or by `on_none`."""
        tries, cap = _Tries(), self.cap
        while tries.passed is None and tries.drawn < cap:
            tries = await self._try(state, tries, context)
        if not tries.candidates:
            raise nothing_left(context.node, tries.failures)
        chosen, notes = tries.passed, list(tries.notes)
        if chosen is None:
            chosen = best(tries.candidates)
            notes.append(self._none_passed(tries, chosen, context.node))
        abstained = tries.passed is None and self.on_none == "abstain"
        return (
            replace(state, candidates=(chosen,))
            .measured(abstained=float(abstained), cap=cap, drawn=tries.drawn)
            .noted(*notes)
        )

    async def _try(self, state: State, tries: _Tries, context: Context) -> _Tries:
        drawn = await self.draw(context, state, 1, number=tries.drawn + 1)
        notes = [*tries.notes, *drawn.notes]
        verified: Sequence[Candidate] = ()
        if drawn.candidates:
            (candidate,) = drawn.candidates
            found = await self.scorer.score(replace(state, candidates=(candidate,)), (candidate,), context)
            (score,) = found.scores
            notes += found.notes
            verdict = None if score is None else score.value >= self._threshold
            scored = candidate.scored(context.node, self.scorer.worst if score is None else score)
            verified = (replace(scored, verdict=verdict),)
        failures = (*tries.failures, *drawn.failures)
        return _Tries((*tries.candidates, *verified), tuple(notes), failures, tries.drawn + 1)

    @property
    def _threshold(self) -> float:
        return 0.5 if self.threshold is None else self.threshold

    def _none_passed(self, tries: _Tries, chosen: Candidate, node: str) -> Note:
        said = f"none of {len(tries.candidates)} responses passed"
        if self.on_none == "fail":
            failed = [note.detail for note in tries.notes if note.kind == "call_failed"]
            last = f" ({len(failed)} calls failed, the last: {failed[-1].rstrip('.')})" if failed else ""
            raise InsufficientCandidates(f"Node {node!r} has nothing left to hand on: {said}{last}.")
        return Note(node, "fallback", f"{said}; {chosen.id} is handed on{self._but}")

    @property
    def _but(self) -> str:
        return ", and the node abstains" if self.on_none == "abstain" else ""

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell one draw for certain and at most K, each with the scorer's calls."""
        cap = self.cap
        likely = expected_draws(self.rates, cap) if self.rates else (1 + cap) / 2
        draws = Range(1, max(1.0, likely), cap)
        draw = self.foretell_draws(shape, estimator, draws, 1)
        one = fresh(shape, exactly(1), draw.completion_tokens)
        scoring = [_times(call, draws) for call in self.scorer.plan(one, estimator)]
        return NodePlan((draw, *scoring), one._replace(verdicts=True))


def _times(call: CallPlan, draws: Range) -> CallPlan:
    return replace(call, calls=call.calls.times(draws), requests=call.requests.times(draws))
