"""UCB selection: a strategy for each question, chosen by upper confidence bounds with priors."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from pydantic import Field

from db.errors import InsufficientCandidates
from nodes.arms import ChoosingArms, read_fits
from nodes.bandit import ArmRecord, chosen_arm, pulled, remembered
from nodes.base import Candidate, Context, Estimator, NodePlan, Note, Score, Shape, State, exactly
from nodes.calls import failure_notes
from nodes.registry import technique
from nodes.settings import ModelName
from nodes.shown import quoted
from nodes.steps import run_steps
from providers.base import Sampling

__all__ = ["UcbSelect"]

_CERTAIN = Sampling(temperature=0)


class _Pull(NamedTuple):
    """What one try of an arm came to; without a candidate it failed."""

    place: int
    candidate: Candidate | None
    reward: float
    notes: tuple[Note, ...]


@technique("ucb_select")
class UcbSelect(ChoosingArms):
    """Choose a strategy for each question by upper confidence bounds, try it, and go on until an answer is accepted.

    An arm is a strategy: techniques one after the other; its answer is the first candidate that its last step hands on.
    The next arm is that with the highest mean reward + c·√(ln t / n) + w·prior / (1 + n): what it earned, what is not
    known of it, and what was thought of it before it was tried, which fades. An arm never tried comes before all that
    were, the higher prior first. Priors stand in the settings, or `prior_model` gives them for each question. The
    scorer's score, brought to 0..1, is the reward; at `accept` no further arm is tried, and of all tried the best is
    handed on. An arm that fails earns 0. With one pull nothing is scored, and the arm's expected reward is the score.

    Results never depend on the order of items. What earlier runs taught is made of their records by
    `evals.arm_statistics`, is read once, when the architecture is made, and then stands in its settings and its hash as
    `pulls` and `reward` of each arm; no item learns from another of its own run, so items can go side by side, and a
    run can be resumed. The paper's bandit learns as it goes; here it learns from run to run. Within a question arms are
    tried one after the other. `memory` is for how many pulls the past counts at most: a long past would drown what the
    question itself shows.

    When to use it: where strategies differ in what they are good at, and a scorer tells a right answer from a wrong
        one. Where one strategy wins everywhere, take that.
    Calls: those of 1 up to T arms, with the scorer's for one candidate each (none where T = 1); 1 for the priors.
    Paper: PlanGEN: A Multi-Agent Framework for Generating Planning and Reasoning Trajectories for Complex Problem
        Solving (arXiv 2502.16111), mixture of algorithms; its terms for diversity and recovery are left out.
    Symbols: T is `pulls`, c is `exploration`, w is `prior_weight`, n the pulls of an arm with those of earlier runs up
        to `memory`, t the pulls of all. Measures: `arm` is the place of the chosen one, from 0; `tried` the pulls made;
        `reward` that of the chosen answer.
    Example:
        ```yaml
        name: one-or-many
        layers:
          - ucb_select:
              pulls: 2
              accept: 0.9
              scorer: {use: judge, model: strong}
              arms:
                - {name: single, prior: 0.6, steps: [{generate: {model: strong}}]}
                - {name: voted, steps: [{generate: {model: fast, samples: 5, temperature: 0.8}}, vote]}
        ```
    """

    gives = frozenset({"candidates", "scores"})
    drops = frozenset({"critiques", "verdicts"})
    measures = frozenset({"arm", "reward", "tried"})
    example_replies = MappingProxyType({"ucb_priors": "1. 70\n2. 40\n3. 90"})

    accept: float = Field(default=0.95, ge=0, le=1, description="Reward, 0..1, at which no further arm is tried.")
    exploration: float = Field(default=1.4, ge=0, allow_inf_nan=False, description="Weight of what is not known.")
    prior_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="Weight of the priors.")
    prior_model: ModelName | None = Field(default=None, description="A model that gives the priors of each question.")
    memory: float = Field(
        default=5, ge=0, allow_inf_nan=False, description="Pulls of an arm that the past counts for at most."
    )

    def models(self) -> tuple[str, ...]:
        """Name the model that gives priors, those of the arms, and those of the scorer."""
        prior = (self.prior_model,) if self.prior_model else ()
        return tuple(dict.fromkeys((*prior, *super().models())))

    async def run(self, state: State, context: Context) -> State:
        """Try arms until one is accepted; raises `InsufficientCandidates` where every arm that was tried failed."""
        priors, notes = await self._priors(state.question, context)
        records = [remembered(arm.record(prior), self.memory) for arm, prior in zip(self.arms, priors, strict=True)]
        tried: list[_Pull] = []
        while len(tried) < self.pulls:
            place = chosen_arm(records, exploration=self.exploration, prior_weight=self.prior_weight)
            pull = await self._pull(place, len(tried) + 1, records[place], state, context)
            tried.append(pull)
            records[place] = pulled(records[place], pull.reward)
            if pull.candidate is not None and pull.reward >= self.accept:
                break
        notes += [note for pull in tried for note in pull.notes]
        answered = [pull for pull in tried if pull.candidate is not None]
        if not answered:
            last = notes[-1].detail if notes else "no arm was tried"
            said = f"Node {context.node!r} has nothing left to hand on; the last to fail: {last.rstrip('.')}."
            raise InsufficientCandidates(said)
        best = max(answered, key=lambda pull: pull.reward)
        assert best.candidate is not None
        return (
            replace(state, candidates=(best.candidate,))
            .measured(arm=best.place, reward=best.reward, tried=len(tried))
            .noted(*notes)
        )

    async def _priors(self, question: str, context: Context) -> tuple[list[float], list[Note]]:
        given = [arm.prior for arm in self.arms]
        if self.prior_model is None:
            return given, []
        shown = {"question": quoted(question), "arms": self._shown()}
        asked = await context.ask(self.prior_model, "ucb_priors", shown, sampling=_CERTAIN)
        notes = failure_notes(context.node, asked.failures, f"ucb_priors with {self.prior_model}")
        if not asked.samples:
            return given, notes
        fits = read_fits(asked.samples[0].completion.text, len(self.arms))
        if missing := [arm.name for arm, fit in zip(self.arms, fits, strict=True) if fit is None]:
            notes.append(
                Note(context.node, "unparsed", f"no prior for {', '.join(missing)}; that of the settings holds")
            )
        return [prior if fit is None else fit for prior, fit in zip(given, fits, strict=True)], notes

    def _shown(self) -> list[dict[str, str]]:
        return [{"name": arm.name, "about": arm.about} for arm in self.arms]

    async def _pull(self, place: int, number: int, record: ArmRecord, state: State, context: Context) -> _Pull:
        arm = self.arms[place]
        before = len(state.notes)
        try:
            after = await run_steps(arm.steps, state, context, f"{number}.")
        except InsufficientCandidates as error:
            return _Pull(place, None, 0.0, (Note(context.node, "call_failed", f"arm {arm.name!r}: {error}"),))
        notes = after.notes[before:]
        if not after.candidates:
            note = Note(context.node, "skipped", f"arm {arm.name!r} handed on no candidate")
            return _Pull(place, None, 0.0, (*notes, note))
        answer = replace(after.candidates[0], scores={}, sources={}, critique=None, verdict=None, verdict_reason=None)
        if self.scorer is None or self.pulls == 1:
            expected = record.reward if record.pulls else record.prior
            return _Pull(place, answer.scored(context.node, Score(expected, f"arm {arm.name}")), expected, notes)
        scored = await self.scorer.score(replace(state, candidates=(answer,)), (answer,), context)
        (score,) = scored.scores
        reward = 0.0 if score is None else self.scorer.unit(score.value)
        source = arm.name if score is None else score.source
        return _Pull(place, answer.scored(context.node, Score(reward, source)), reward, (*notes, *scored.notes))

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell the priors for certain, and each arm up to as often as there are pulls."""
        planned = self.foretell_arms(shape, estimator)
        if self.prior_model is None:
            return planned
        shown = {"question": "", "arms": self._shown()}
        prior = estimator.call(
            self.prior_model, "ucb_priors", shown, inserted=shape.question, calls=exactly(1), sampling=_CERTAIN
        )
        return NodePlan((prior, *planned.calls), planned.shape)
