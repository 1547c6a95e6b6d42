"""Skill router: experts for each question by the skills that it needs, and an aggregator over their answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field, model_validator

from db.errors import DataError, InsufficientCandidates
from nodes.ballots import read_answers
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
from nodes.calls import failure_notes, made, together
from nodes.drawing import generate_variables
from nodes.learned import names_file
from nodes.planning import fresh, spread
from nodes.registry import technique
from nodes.settling import settle
from nodes.skill_naming import SkillNaming
from nodes.skill_profiles import (
    Profile,
    SkillProfiles,
    expert_shares,
    recruited,
)
from nodes.steps import Steps, demands_of, models_of, plan_steps, required_of, run_steps

__all__ = ["SkillRouter"]


@technique("skill_router")
class SkillRouter(SkillNaming):
    """Recruit experts for each question by the skills that it needs, and put their answers together.

    `model` names the skills of the question in several draws; those that `keep` draws name are kept, and each stands
    for the nearest skill of the profiles. A model's weight is the sum of its scores on these skills times its strength
    over all skills, through a softmax; `experts` are drawn by weight with replacement, from a seed that follows from
    the question. Models under `least_share` are left out and their share goes to the others; the paper takes that share
    over all items of a run, here it is the question's own, so that no item depends on another. Where no skill is known,
    strength alone decides, and a note says so. Each expert answers, one recruited twice gives two samples in one
    request, then come the steps of `aggregate`; where they fail, the experts' vote is handed on.

    Profiles are written in place or read from a file that `evals.skill_profiles` made from recorded outcomes; what the
    file says then stands in the architecture as its own. A file may name an aggregator, which `evals.aggregators` chose
    on trials of one right and two wrong answers: it fuses, unless `aggregate` says otherwise. The embedded models can
    be experts, but cannot name skills.

    Grouped by model: the paper loads each model once for all its questions. For that, run many questions at once and
    let calls of one model go out together: `colonnade batch` with `--one-model-at-a-time` (`providers.turns`) and a
    large `--concurrency` or `--chunk`. All skills are then named, and after that each expert's calls of all questions
    in flight come in a row.

    When to use it: with several models that are good at different things, on questions that mix these things.
    Calls: d of `model`, then k of the experts, then those of `aggregate`; with `by: embeddings` a vector for each kept
        skill and one more, and those of the N skills of the profiles the first time.
    Paper: Symbolic Mixture-of-Experts: Adaptive Skill-based Routing for Heterogeneous Reasoning (arXiv 2503.05641).
    Symbols: d is `draws`, k is `experts`, `temperature` of the softmax is `sharpness`. Measures: `skills` that were
        kept, `experts`, the number of different models that were recruited.
    Example:
        ```yaml
        name: experts
        layers:
          - skill_router:
              model: fast
              experts: 3
              profiles:
                - {model: fast, skills: {counting: 4, calendar: -2}}
                - {model: strong, skills: {counting: 2, calendar: 5}}
              aggregate: [{fuse: {model: strong}}]
        ```
    """

    gives = frozenset({"candidates"})
    drops = frozenset({"critiques", "scores", "verdicts"})
    draws_question = "later"
    measures = frozenset({"experts", "skills"})

    temperature: float | None = Field(
        default=0.7, ge=0, allow_inf_nan=False, description="Sampling temperature of draws and experts."
    )
    profiles: tuple[Profile, ...] = Field(default=(), description="The experts: `model` and `skills` with scores.")
    profiles_file: str | None = Field(default=None, description="A file with profiles, in place of `profiles`.")
    experts: int = Field(default=3, ge=1, le=64, description="Experts that answer, drawn with replacement.")
    sharpness: float = Field(default=0.5, gt=0, allow_inf_nan=False, description="Temperature of the softmax.")
    least_share: float = Field(default=0.05, ge=0, lt=1, description="Chance below which no expert is recruited.")
    aggregate: Steps = Field(
        default=("vote",), validate_default=True, description="Techniques that make one answer of the experts'."
    )
    seed: int = Field(default=0, description="Together with the question it decides who is drawn.")

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, data: Any) -> Any:  # raw settings, as pydantic hands them to a validator
        """Put the profiles in the settings, so that the architecture and its hash hold what they are."""
        if not names_file(data, "profiles_file"):
            return data
        if data.get("profiles"):
            raise ValueError("profiles come from `profiles` or from `profiles_file`, from one of them")
        try:
            found = SkillProfiles.load(data["profiles_file"])
        except DataError as error:
            raise ValueError(str(error)) from None
        fused = {"aggregate": [{"fuse": {"model": found.aggregator}}]} if found.aggregator else {}
        return {**fused, **data, "profiles": found.profiles, "profiles_file": None}

    @model_validator(mode="after")
    def _sound(self) -> SkillRouter:
        names = [profile.model for profile in self.profiles]
        if not names or len(set(names)) < len(names):
            raise ValueError("`profiles` holds one profile for each expert, at least one, and each model once")
        if missing := demands_of(self.aggregate, frozenset({"candidates"})):
            raise ValueError(
                f"the steps of `aggregate` need {', '.join(sorted(missing))}, which the experts do not give"
            )
        return self

    def models(self) -> tuple[str, ...]:
        """Name the model that names skills, the experts, those of the aggregation, and the one that gives vectors."""
        experts = (profile.model for profile in self.profiles)
        return tuple(dict.fromkeys((self.model, *experts, *models_of(self.aggregate), *self.embedders())))

    def required_of(self, model: str) -> frozenset[Capability]:
        """What the aggregation needs of its models."""
        return required_of(self.aggregate, model)

    def demands(self) -> frozenset[Need]:
        """Nothing: the experts bring what the aggregation needs."""
        return frozenset()

    def _skills(self) -> list[str]:
        return sorted({skill for profile in self.profiles for skill, _ in profile.skills})

    async def run(self, state: State, context: Context) -> State:
        """Name skills, recruit, ask, aggregate; raises `InsufficientCandidates` where every expert failed."""
        needed = await self.needed(state.question, self._skills(), context)
        shares = expert_shares(self.profiles, needed.known, temperature=self.sharpness, least=self.least_share)
        drawn = sorted(recruited(shares, self.experts, state.question, self.seed).items())
        asked = await together(
            context.ask(
                self.profiles[place].model,
                "generate",
                generate_variables(state.question),
                n=times,
                sampling=self.sampling(),
                system=self.system,
            )
            for place, times in drawn
        )
        notes = needed.notes
        for (place, _), batch in zip(drawn, asked, strict=True):
            notes += failure_notes(context.node, batch.failures, f"generate with {self.profiles[place].model}")
        answers = made(context.node, ((batch, ()) for batch in asked))
        before = replace(state, candidates=answers).noted(*notes)
        after = await self._aggregated(before, context)
        bare = tuple(_bare(candidate) for candidate in after.candidates)
        result = replace(state, candidates=bare, notes=after.notes)
        return result.measured(experts=len(drawn), skills=len(needed.named))

    async def _aggregated(self, state: State, context: Context) -> State:
        try:
            return await run_steps(self.aggregate, state, context, "")
        except InsufficientCandidates as error:
            read = read_answers(state.candidates, context.answer_kind, context.node)
            settled = settle(read.candidates, context.node, ties="first")
            return replace(state, candidates=(settled.candidate,)).noted(
                Note(context.node, "call_failed", f"aggregate: {error}"),
                Note(context.node, "fallback", "the experts' vote is handed on"),
                *read.notes,
                *settled.notes,
            )

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell the draws for certain, k calls spread over the experts, and the aggregation."""
        naming = self.foretell_naming(shape, estimator, self._skills())
        shares = expert_shares(self.profiles, (), temperature=self.sharpness, least=0.0)
        plans = [
            self._foretell(profile, share, shape, estimator)
            for profile, share in zip(self.profiles, shares, strict=True)
        ]
        tokens = spread([plan.completion_tokens for plan in plans])
        after = plan_steps(self.aggregate, fresh(shape, exactly(self.experts), tokens), estimator)
        handed = fresh(shape, after.shape.candidates, after.shape.candidate_tokens)
        return NodePlan((*naming, *plans, *after.calls), handed)

    def _foretell(self, profile: Profile, share: float, shape: Shape, estimator: Estimator) -> CallPlan:
        alone = len(self.profiles) == 1
        likely = share * self.experts
        return estimator.call(
            profile.model,
            "generate",
            generate_variables(""),
            inserted=shape.question,
            calls=exactly(self.experts) if alone else Range(0, likely, self.experts),
            n=self.experts if alone else 1,
            sampling=self.sampling(),
            system=self.system,
        )


def _bare(candidate: Candidate) -> Candidate:
    """Return a candidate without what the aggregation said of it."""
    return replace(candidate, scores={}, sources={}, critique=None, verdict=None, verdict_reason=None)
