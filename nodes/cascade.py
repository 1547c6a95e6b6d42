"""Cascade: cheap models first; the next one is asked only where the last was not sure."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, NamedTuple

from pydantic import Field, model_validator

from db.errors import DataError
from nodes.ballots import read_answers
from nodes.base import (
    AnswerKind,
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
from nodes.calls import candidate_of, failure_notes, nothing_left
from nodes.cascade_thresholds import CascadeThresholds
from nodes.drawing import generate_variables
from nodes.learned import names_file
from nodes.planning import fresh, spread
from nodes.registry import technique
from nodes.scorers.registry import OwnScorer
from nodes.settings import Asking, ModelName
from nodes.settling import Ties, settle
from providers.errors import ProviderError

__all__ = ["Cascade"]

Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class _Stage(NamedTuple):
    """What one model came to."""

    candidate: Candidate | None
    """None where every call failed."""
    confidence: float
    agreement: float
    notes: tuple[Note, ...]
    failures: tuple[ProviderError, ...]
    drawn: int


@technique("cascade")
class Cascade(Asking):
    """Ask models one after the other, cheapest first, and stop at the first answer that is sure enough.

    Each stage draws its samples and votes. Its confidence is the agreement of the vote or, with a `scorer`, the score
    of the answer it would give, brought to 0..1. A stage whose confidence reaches its threshold is the last one; the
    last stage is believed as it is. A stage all of whose calls failed is passed over; where the last ones fail, the
    surest answer of the earlier ones is handed on, noted as a fallback. Thresholds are set by hand, one for all or one
    for each stage but the last, or read from a file that `evals.cascades` learned from recorded outcomes; what the
    file says then stands in the architecture as its own.

    When to use it: where a cheap model answers most questions well and knows which; a cascade then has the accuracy
        of the strong model at a part of its price. Agreement needs two samples or more, and a temperature above 0.
    Calls: s1 up to s1 + … + sn, with the scorer's one set of calls for each stage but the last.
    Paper: FrugalGPT: How to Use Large Language Models While Reducing Cost and Improving Performance (arXiv
        2305.05176); AutoMix: Automatically Mixing Language Models (arXiv 2310.12963), with self-verification as the
        scorer; Large Language Model Cascades with Mixture of Thoughts Representations (arXiv 2310.03094), agreement.
    Symbols: n is the number of `stages`; s1…sn are `samples`; `stage` = the stage that was believed, from 1;
        `confidence` = its confidence; `agreement` = votes of its winner / its votes; `drawn` = samples of all stages.
    Example:
        ```yaml
        name: model-cascade
        layers:
          - cascade: {stages: [fast, strong], samples: [3, 1], threshold: 1.0, temperature: 0.8}
        ```
    """

    gives = frozenset({"candidates", "scores"})
    drops = frozenset({"critiques", "verdicts"})
    draws_question = "later"
    measures = frozenset({"agreement", "confidence", "drawn", "stage"})

    stages: tuple[ModelName, ...] = Field(min_length=1, max_length=8, description="The models, cheap to strong.")
    samples: Count | tuple[Count, ...] = Field(default=3, description="Samples of a stage: one number, or a list.")
    threshold: Share | tuple[Share, ...] = Field(
        default=0.6, description="Confidence that ends it: one number, or one for each stage but the last."
    )
    thresholds_file: str | None = Field(default=None, description="Learned thresholds, in place of `threshold`.")
    scorer: OwnScorer | None = Field(default=None, description="What gives the confidence; null for the agreement.")
    temperature: float | None = Field(default=0.8, ge=0, allow_inf_nan=False, description="Sampling temperature.")
    ties: Ties = Field(default="first", description="What decides between equals in the vote of a stage.")
    kind: AnswerKind | None = Field(default=None, description="Kind of answer to extract, if not that of the task.")

    @model_validator(mode="before")
    @classmethod
    def _learned(cls, data: Any) -> Any:  # what pydantic hands to a validator of raw settings
        """Put learned thresholds in the settings, so that the architecture and its hash hold what they are."""
        if not names_file(data, "thresholds_file") or not isinstance(data.get("stages"), list | tuple):
            return data
        try:
            found = CascadeThresholds.load(data["thresholds_file"])
        except DataError as error:
            raise ValueError(str(error)) from None
        if list(found.stages) != list(data["stages"]):
            raise ValueError(f"thresholds_file was learned for the stages {', '.join(found.stages)}; name these")
        return {**data, "threshold": found.thresholds, "thresholds_file": None}

    @model_validator(mode="after")
    def _one_for_each(self) -> Cascade:
        wanted = len(self.stages)
        if isinstance(self.samples, tuple) and len(self.samples) != wanted:
            raise ValueError(f"samples has {len(self.samples)} entries for {wanted} stages")
        if isinstance(self.threshold, tuple) and len(self.threshold) != wanted - 1:
            raise ValueError(f"threshold has {len(self.threshold)} entries; {wanted} stages need {wanted - 1}")
        return self

    def models(self) -> tuple[str, ...]:
        """Name the models of the stages, then the scorer's."""
        return tuple(dict.fromkeys((*self.stages, *(self.scorer.models() if self.scorer else ()))))

    def required_of(self, model: str) -> frozenset[Capability]:
        """What the scorer needs of its models; the stages need nothing."""
        return self.scorer.required() if self.scorer and model in self.scorer.models() else frozenset()

    def demands(self) -> frozenset[Need]:
        """What the scorer needs of the state."""
        return self.scorer.demands() if self.scorer else frozenset()

    def _samples(self, stage: int) -> int:
        return self.samples if isinstance(self.samples, int) else self.samples[stage]

    def _threshold(self, stage: int) -> float:
        return self.threshold[stage] if isinstance(self.threshold, tuple) else self.threshold

    async def run(self, state: State, context: Context) -> State:
        """Go through the stages; raises `InsufficientCandidates` where every call of all of them failed."""
        asked: list[_Stage] = []
        number = 1
        for index in range(len(self.stages)):
            stage = await self._ask_stage(index, number, state, context)
            asked.append(stage)
            number += self._samples(index)
            if stage.candidate is not None and stage.confidence >= self._threshold_or_none(index):
                break
        return self._handed_on(state, asked, context.node)

    def _threshold_or_none(self, index: int) -> float:
        return self._threshold(index) if index < len(self.stages) - 1 else 0.0

    async def _ask_stage(self, index: int, number: int, state: State, context: Context) -> _Stage:
        model, samples = self.stages[index], self._samples(index)
        asked = await context.ask(
            model,
            "generate",
            generate_variables(state.question),
            n=samples,
            sampling=self.sampling(),
            system=self.system,
        )
        notes = failure_notes(context.node, asked.failures, f"generate with {model}")
        if not asked.samples:
            return _Stage(None, 0.0, 0.0, tuple(notes), asked.failures, samples)
        made = [candidate_of(sample, context.node, number + i) for i, sample in enumerate(asked.samples)]
        read = read_answers(made, self.kind or context.answer_kind, context.node)
        settled = settle(read.candidates, context.node, ties=self.ties)
        confidence, notes = settled.agreement, [*notes, *read.notes, *settled.notes]
        if self.scorer is not None and index < len(self.stages) - 1:
            scored = await self.scorer.score(state, (settled.candidate,), context)
            notes += scored.notes
            (score,) = scored.scores
            confidence = -1.0 if score is None else self.scorer.unit(score.value)
        return _Stage(settled.candidate, confidence, settled.agreement, tuple(notes), asked.failures, samples)

    def _handed_on(self, state: State, asked: list[_Stage], node: str) -> State:
        notes = [note for stage in asked for note in stage.notes]
        answered = [(number, stage) for number, stage in enumerate(asked, 1) if stage.candidate is not None]
        if not answered:
            raise nothing_left(node, [failure for stage in asked for failure in stage.failures])
        number, believed = answered[-1]
        if number < len(asked):
            number, believed = max(answered, key=lambda entry: entry[1].confidence)
            notes.append(Note(node, "fallback", f"no later stage answered; stage {number} is believed"))
        assert believed.candidate is not None
        confidence = max(0.0, believed.confidence)
        return (
            replace(state, candidates=(believed.candidate.scored(node, confidence),))
            .measured(
                agreement=believed.agreement,
                confidence=confidence,
                drawn=sum(stage.drawn for stage in asked),
                stage=number,
            )
            .noted(*notes)
        )

    def plan(self, shape: Shape, estimator: Estimator) -> NodePlan:
        """Foretell the first stage for certain, and each further one as possible."""
        calls: list[CallPlan] = []
        tokens: list[Range] = []
        for index, model in enumerate(self.stages):
            made = Range(0 if index else 1, 0.5**index, 1)
            plan = estimator.call(
                model,
                "generate",
                generate_variables(""),
                inserted=shape.question,
                calls=made.times(exactly(self._samples(index))),
                n=self._samples(index),
                sampling=self.sampling(),
                system=self.system,
            )
            calls.append(plan)
            tokens.append(plan.completion_tokens)
            if self.scorer is not None and index < len(self.stages) - 1:
                one = fresh(shape, made, plan.completion_tokens)
                calls += self.scorer.plan(one, estimator)
        return NodePlan(tuple(calls), fresh(shape, exactly(1), spread(tokens)))
